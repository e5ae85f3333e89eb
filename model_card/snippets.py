"""Finds the code a card shows, so that it can be run."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python_snippets(card: str) -> list[str]:
    """Every Python block of a card, in order."""
    return _BLOCK.findall(card)
