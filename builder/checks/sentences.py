"""How many sentences a text has, as a range: a quotation's full stop may or may not end the sentence around it."""

from __future__ import annotations

import re
from typing import NamedTuple

_QUOTE = re.compile(r"(?P<open>「|“|『|\")(?P<inner>[^「」“”『』\"]*)[」”』\"]")
_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|vs|etc|Co|Ltd|Jr|Sr|Fig|approx|[A-Z]|a\.m|p\.m|e\.g|i\.e|D\.C|U\.S)\.(?!\s*$)"
)
_DECIMAL = re.compile(r"(?<=\d)\.(?=\d)|^\s*\d{1,2}\.\s", re.MULTILINE)
_ELLIPSIS = re.compile(r"\.{3,}|…+")
_END = re.compile(r"[。！？!?]+|\.+(?=\s|$|\))")
_MAYBE = "\x01"


class Count(NamedTuple):
    """The fewest and the most sentences a text can be said to have."""

    fewest: int
    most: int


def split_sentences(text: str) -> list[str]:
    """The sentences outside quotations; a quotation stands as ``Q`` and ends no sentence."""
    plain = _unquoted(text).replace(_MAYBE, "")
    return [piece.strip() for piece in re.findall(rf"[^。！？!?\n]+?(?:{_END.pattern}|\n|$)", plain) if piece.strip()]


def count_sentences(text: str) -> Count:
    """The range for a text; a line without a mark, as the name below a letter, may or may not be a sentence."""
    plain = _unquoted(text)
    marked = [piece for line in plain.replace(_MAYBE, "").split("\n") for piece in _END.findall(line)]
    certain = len(marked) or 1
    possible = _ends(re.sub(rf"{_MAYBE}|\n+", "。", plain))
    return Count(certain, possible)


def _unquoted(text: str) -> str:
    plain = _DECIMAL.sub("", _ABBREVIATION.sub("A", text))
    plain = _ELLIPSIS.sub(_MAYBE, plain)
    return _QUOTE.sub(lambda quote: "Q" + (_MAYBE if re.search(r"[。！？!?.]$", quote["inner"]) else ""), plain)


def _ends(plain: str) -> int:
    return sum(bool(re.search(r"\w", piece)) for piece in _END.split(plain))
