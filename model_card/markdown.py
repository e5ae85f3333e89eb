"""Text from a run or a record in Markdown: nothing in it is taken for markup."""

from __future__ import annotations

import re
from typing import Any

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&$~]")
CELL = 160
"""characters of an answer that a table shows; the whole answers are in the evaluation's own file"""


def inline(text: str) -> str:
    """One line of running text or a table cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def cell(text: str) -> str:
    """An answer as a table cell, cut where it runs on."""
    line = " ".join(text.split())
    return inline(line if len(line) <= CELL else line[: CELL - 1] + "…")


def fenced(text: str) -> str:
    """A block of text that shows as it stands, whatever it holds."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def value(setting: Any) -> str:
    """A setting's value as a table cell."""
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, list | tuple):
        return ", ".join(map(str, setting))
    return inline(str(setting))
