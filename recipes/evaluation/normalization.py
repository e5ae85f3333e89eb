"""Normalize answers before they are compared.

Numbers are read as the checks of the records read them:

    >>> equivalent("四万二千です。", "42,000")
    True
    >>> tokens("The Shinano is 367 km long.")
    ('shinano', 'is', '367', 'km', 'long')
"""

from __future__ import annotations

import functools
import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from bonsai.builder.checks.numbers import BARE, BEHIND, UNITS, mark_numbers

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
    """value in the base unit, and dimension; empty if there is no unit"""

    def agrees(self, other: NumberValue) -> bool:
        """Check whether the two can mean the same: in one reading, or as bare numbers if a side has no unit."""
        if self.readings and other.readings:
            return not self.readings.isdisjoint(other.readings)
        return self.value == other.value


class NormalForm(NamedTuple):
    """A text with its numbers taken out."""

    words: tuple[str, ...]
    """CJK characters and words of other scripts; ``#`` in place of a number"""
    figures: tuple[NumberValue, ...]


@functools.lru_cache(maxsize=65_536)
def normalize_answer(text: str) -> NormalForm:
    """Fold width, case, articles, closing marks and polite endings, and read the numbers with their units."""
    rest, numbers = mark_numbers(_SENTENCE_END.sub("", text.strip()))
    figures: list[NumberValue] = []
    pieces: list[str] = []
    end = 0
    for mark in _MARK.finditer(rest):
        number = numbers[int(mark[1])]
        behind = BEHIND.match(rest, mark.end())
        units = UNITS[int((behind.lastgroup or "u0")[1:])] if behind else (BARE,)
        readings = {(number.value * unit.factor, unit.dimension) for unit in units if unit != BARE}
        figures.append(NumberValue(number.value, frozenset(readings)))
        pieces += rest[end : mark.start()], " ⟨ "
        # a unit, or a Japanese counter such as 人, belongs to the number; an English noun is a word of the answer
        is_counter = behind is not None and (readings or not behind[0].isascii())
        end = behind.end() if behind is not None and is_counter else mark.end()
    folded = unicodedata.normalize("NFKC", "".join([*pieces, rest[end:]])).casefold().strip()
    words = re.findall(rf"⟨|{_TOKEN.pattern}", _ARTICLE.sub(" ", _POLITE.sub("", folded)))
    return NormalForm(tuple("#" if word == "⟨" else word for word in words), tuple(figures))


def equivalent(first: str, second: str) -> bool:
    """Check whether two answers are equal after normalization; blank texts never are."""
    ours, theirs = normalize_answer(first), normalize_answer(second)
    return (
        bool(ours.words)
        and ours.words == theirs.words
        and all(one.agrees(other) for one, other in zip(ours.figures, theirs.figures, strict=True))
    )


@functools.lru_cache(maxsize=65_536)
def tokens(text: str) -> tuple[str, ...]:
    """Split a text into CJK characters, other scripts' words, and numbers as their values; drop articles and marks."""
    rest, numbers = mark_numbers(text)
    valued = _MARK.sub(lambda mark: f" {numbers[int(mark[1])].value} ", rest)
    folded = _SENTENCE_END.sub("", unicodedata.normalize("NFKC", valued).casefold().strip())
    return tuple(_TOKEN.findall(_ARTICLE.sub(" ", _POLITE.sub("", folded))))
