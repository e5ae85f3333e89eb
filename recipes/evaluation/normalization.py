"""Normalize answers before they are compared.

Numbers are read as the checks of the records read them, so 四万二千, 4万2千 and 42,000 are one figure.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from bonsai.builder.checks.numbers import BARE, BEHIND, UNITS, Number, mark_numbers

_MARK = re.compile(r"⟨(\d+)⟩")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_POLITE = re.compile(r"(?:でございます|であります|である|です|だ)$")
_CJK = r"\u3005-\u3007\u3041-\u309f\u30a1-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_TOKEN = re.compile(rf"\d+(?:/\d+)?|[{_CJK}]|[^\W\d_{_CJK}]+")
_SENTENCE_END = re.compile(r"[。！？!?.\s」』）)]+$")


class NumberValue(NamedTuple):
    """A number in every reading that its unit allows."""

    value: Fraction
    readings: frozenset[tuple[Fraction, str]]
    """value in the base unit, and dimension; empty where there is no unit"""

    def agrees(self, other: NumberValue) -> bool:
        """Whether the two can mean the same: in one reading, or as bare numbers where a side has no unit."""
        if self.readings and other.readings:
            return not self.readings.isdisjoint(other.readings)
        return self.value == other.value


class NormalForm(NamedTuple):
    """A text without its figures, and the figures."""

    words: tuple[str, ...]
    """CJK characters and words of other scripts; ``#`` where a figure stands"""
    figures: tuple[NumberValue, ...]


@functools.lru_cache(maxsize=65_536)
def normalize_answer(text: str) -> NormalForm:
    """The text as `same` compares it."""
    rest, numbers = mark_numbers(_SENTENCE_END.sub("", text.strip()))
    figures: list[NumberValue] = []
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


def equivalent(first: str, second: str) -> bool:
    """Whether two answers say the same in other clothes."""
    ours, theirs = normalize_answer(first), normalize_answer(second)
    return (
        bool(ours.words)
        and ours.words == theirs.words
        and all(one.agrees(other) for one, other in zip(ours.figures, theirs.figures, strict=True))
    )


@functools.lru_cache(maxsize=65_536)
def tokens(text: str) -> tuple[str, ...]:
    """CJK characters, words of other scripts, and numbers as their values; no articles, no marks."""
    rest, numbers = mark_numbers(text)
    valued = _MARK.sub(lambda found: f" {numbers[int(found[1])].value} ", rest)
    plain = _POLITE.sub("", _SENTENCE_END.sub("", unicodedata.normalize("NFKC", valued).casefold().strip()))
    return tuple(_TOKEN.findall(_ARTICLE.sub(" ", plain)))


def _figure(number: Number, behind: re.Match[str] | None) -> NumberValue:
    units = UNITS[int((behind.lastgroup or "u0")[1:])] if behind else (BARE,)
    readings = {(number.value * unit.factor, unit.dimension) for unit in units if unit != BARE}
    return NumberValue(number.value, frozenset(readings))
