"""Brackets and quotation marks that don't pair up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.text_fields import Fault, shortened

_CLOSES = dict(zip("」』）》〉】〕”)]}", "「『（《〈【〔“([{", strict=True))
_OPENS = frozenset(_CLOSES.values())

_NO_BRACKET = re.compile(
    r"(?m)^\s*(?:\d{1,2}|[A-Za-z]|[ivx]{1,4}|[一二三四五六七八九十])[)）]"  # the label of a list item
    r"|(?<!\w)[:;8=][-^']?[()\[\]](?!\w)"  # an emoticon
    r"|[\[(]\s*-?[\d.∞a-z]+\s*,\s*-?[\d.∞a-z]+\s*[\])]"  # an interval
)
_INCHES = re.compile(r"(?<=\d)\"")


def unpaired(text: str) -> Iterator[Fault]:
    """The first bracket without its partner, and an odd number of straight quotation marks."""
    text = _NO_BRACKET.sub("", text)
    waiting: list[tuple[str, int]] = []
    for position, character in enumerate(text):
        if character in _OPENS:
            waiting.append((character, position))
        elif opener := _CLOSES.get(character):
            if not waiting or waiting[-1][0] != opener:
                yield _without_partner(character, text[max(0, position - 15) : position + 1])
                return
            waiting.pop()
    if waiting:
        character, position = waiting[-1]
        yield _without_partner(character, text[position : position + 15])
    if text.count('"') % 2 and _INCHES.sub("", text).count('"') % 2:
        yield _without_partner('"', text[text.rfind('"') :])


def _without_partner(character: str, around: str) -> Fault:
    return Fault(Severity.WARNING, f"'{character}' has no partner near '{shortened(around)}'", "close it, or delete it")
