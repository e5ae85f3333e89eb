"""What a quantity is, and the form of the rules that read one from a text whose numbers are marked."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from bonsai.builder.checks.numerals import Number


class Weight(enum.IntEnum):
    """How surely a mention is meant as a number: the 三 of 三郎 isn't, 八個 is, 8 is."""

    SOFT = 0
    WORD = 1
    DIGITS = 2


class Reading(NamedTuple):
    """A value in the base unit of its dimension; the empty dimension is a plain count."""

    value: Fraction
    dimension: str = ""


class Quantity(NamedTuple):
    """One mention of a number, date, time or share, with every reading it allows."""

    text: str
    readings: frozenset[Reading]
    weight: Weight
    numeral: Fraction | None = None
    """the number as written, without its unit: it agrees with a plain count (the unit stands in the table's head)"""


class Rule(NamedTuple):
    """How one way of speaking is read; ``read`` may return nothing where the match means something else."""

    pattern: re.Pattern[str]
    read: Callable[[re.Match[str], Sequence[Number]], Quantity | None]


def number(name: str) -> str:
    """The regular expression of a marked number, its place in the group ``name``."""
    return rf"⟨(?P<{name}>\d+)⟩"


def value(found: re.Match[str], name: str, numbers: Sequence[Number]) -> Fraction | None:
    """The value of the marked number in the group ``name``; None where the group is empty."""
    return None if found[name] is None else numbers[int(found[name])].value


def quantity(
    text: str, weight: Weight, *readings: tuple[Fraction | int, str], numeral: Fraction | None = None
) -> Quantity:
    """A quantity from values and dimensions."""
    pairs = frozenset(Reading(Fraction(amount), dimension) for amount, dimension in readings)
    return Quantity(text, pairs, weight, numeral)


def unmatched(ours: Iterable[Quantity], theirs: Iterable[Quantity]) -> tuple[Quantity, ...]:
    """Ours, surely meant as quantities, with which none of theirs agrees in any reading."""
    known = {reading for other in theirs for reading in other.readings}
    numerals = {Reading(other.numeral) for other in theirs if other.numeral is not None}
    return tuple(
        one
        for one in ours
        if one.weight
        and one.readings.isdisjoint(known)
        and one.readings.isdisjoint(numerals)
        and (one.numeral is None or Reading(one.numeral) not in known)
    )


def surplus(ours: Sequence[Quantity], theirs: Sequence[Quantity]) -> list[Quantity]:
    """Ours, written with digits, that are left over when each quantity is paired with one of theirs that agrees.

    Finds the 12 that became 13 though another 13 stands nearby; for texts that tell the same things equally often.
    """
    rest = list(theirs)
    left = [
        one for one in ours if not _pair_off(one, rest, lambda one, other: not one.readings.isdisjoint(other.readings))
    ]
    left = [one for one in left if not _pair_off(one, rest, lambda one, other: not unmatched([_firm(one)], [other]))]
    return list({one.readings: one for one in left if one.weight is Weight.DIGITS}.values())


def _firm(one: Quantity) -> Quantity:
    return one._replace(weight=Weight.DIGITS)


def _pair_off(one: Quantity, rest: list[Quantity], agrees: Callable[[Quantity, Quantity], bool]) -> bool:
    place = next((place for place, other in enumerate(rest) if agrees(one, other)), None)
    if place is not None:
        del rest[place]
    return place is not None


def comparable(one: Quantity, other: Quantity) -> bool:
    """Whether both can be read in one dimension."""
    return not {reading.dimension for reading in one.readings}.isdisjoint(
        reading.dimension for reading in other.readings
    )
