"""Answers made comparable: width, numbers, units, articles, politeness, marks.

Numbers are read as the checks of the records read them, so 四万二千, 4万2千 and 42,000 are one figure.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from bonsai.builder.checks.numerals import Number, marked
from bonsai.builder.checks.units import BARE, BEHIND, UNITS

_MARK = re.compile(r"⟨(\d+)⟩")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_POLITE = re.compile(r"(?:でございます|であります|である|です|だ)$")
_CJK = r"\u3005-\u3007\u3041-\u309f\u30a1-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_TOKEN = re.compile(rf"\d+(?:/\d+)?|[{_CJK}]|[^\W\d_{_CJK}]+")
_SENTENCE_END = re.compile(r"[。！？!?.\s」』）)]+$")


class Figure(NamedTuple):
    """A number in every reading that its unit allows."""

    value: Fraction
    readings: frozenset[tuple[Fraction, str]]
    """value in the base unit, and dimension; empty where there is no unit"""

    def agrees(self, other: Figure) -> bool:
        """Whether the two can mean the same: in one reading, or as bare numbers where a side has no unit."""
        if self.readings and other.readings:
            return not self.readings.isdisjoint(other.readings)
        return self.value == other.value


class NormalForm(NamedTuple):
    """A text without its figures, and the figures."""

    words: tuple[str, ...]
    """CJK characters and words of other scripts; ``#`` where a figure stands"""
    figures: tuple[Figure, ...]


@functools.lru_cache(maxsize=65_536)
def normal_form(text: str) -> NormalForm:
    """The text as `same` compares it."""
    rest, numbers = marked(_SENTENCE_END.sub("", text.strip()))
    figures: list[Figure] = []
    pieces: list[str] = []
    end = 0
    for found in _MARK.finditer(rest):
        behind = BEHIND.match(rest, found.end())
        figures.append(_figure(numbers[int(found[1])], behind))
        pieces += rest[end : found.start()], " ⟨ "
        is_counter = behind is not None and (figures[-1].readings or not behind[0].isascii())
        end = behind.end() if behind is not None and is_counter else found.end()
    shaped = "".join([*pieces, rest[end:]])
    plain = _POLITE.sub("", unicodedata.normalize("NFKC", shaped).casefold().strip())
    words = re.findall(rf"⟨|{_TOKEN.pattern}", _ARTICLE.sub(" ", plain))
    return NormalForm(tuple("#" if word == "⟨" else word for word in words), tuple(figures))


def same(first: str, second: str) -> bool:
    """Whether two answers say the same in other clothes."""
    ours, theirs = normal_form(first), normal_form(second)
    return (
        bool(ours.words)
        and ours.words == theirs.words
        and all(one.agrees(other) for one, other in zip(ours.figures, theirs.figures, strict=True))
    )


@functools.lru_cache(maxsize=65_536)
def tokens(text: str) -> tuple[str, ...]:
    """CJK characters, words of other scripts, and numbers as their values; no articles, no marks."""
    rest, numbers = marked(text)
    valued = _MARK.sub(lambda found: f" {numbers[int(found[1])].value} ", rest)
    plain = _POLITE.sub("", _SENTENCE_END.sub("", unicodedata.normalize("NFKC", valued).casefold().strip()))
    return tuple(_TOKEN.findall(_ARTICLE.sub(" ", plain)))


def _figure(number: Number, behind: re.Match[str] | None) -> Figure:
    units = UNITS[int((behind.lastgroup or "u0")[1:])] if behind else (BARE,)
    readings = {(number.value * unit.factor, unit.dimension) for unit in units if unit != BARE}
    return Figure(number.value, frozenset(readings))
