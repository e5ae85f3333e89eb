"""Quantities of a text as comparable values, however Japanese, English or Chinese spells them.

3割 is 30%, 2時間半 is 150 minutes, 令和6年 is 2024, 打八折 is 20% off. A quantity that can be read in two ways
keeps both readings, and two quantities disagree only if no reading agrees: nobody listens to a check that cries wolf.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from bonsai.builder.checks.numerals import Number, marked
from bonsai.builder.checks.quantity import Quantity, Rule, Weight, number, quantity, unmatched, value
from bonsai.builder.checks.times import TIME_RULES
from bonsai.builder.checks.units import BARE, BEFORE, BEHIND, UNITS


class Disagreement(NamedTuple):
    """What each of two texts says with which nothing in the other agrees."""

    first: tuple[Quantity, ...]
    second: tuple[Quantity, ...]


@functools.lru_cache(maxsize=65_536)
def quantities(text: str) -> tuple[Quantity, ...]:
    """The quantities of a text; dates, times and shares first, then the rest in the order of the text."""
    rest, numbers = marked(_NOT_NUMBERS.sub("　", text))
    found: list[Quantity] = []
    for rule in _RULES:
        if "⟨" in rest or "⟨" not in rule.pattern.pattern:
            rest = _read(rule, rest, numbers, found)
    return tuple(found)


def disagreement(first: str | Iterable[Quantity], second: str | Iterable[Quantity]) -> Disagreement:
    """The quantities of each side, surely meant as such, with which no quantity of the other side agrees.

    A number on one side alone is no contradiction (``12人`` and ``everybody``): the caller decides.
    """
    ours = quantities(first) if isinstance(first, str) else tuple(first)
    theirs = quantities(second) if isinstance(second, str) else tuple(second)
    return Disagreement(unmatched(ours, theirs), unmatched(theirs, ours))


def _read(rule: Rule, text: str, numbers: Sequence[Number], found: list[Quantity]) -> str:
    """Apply one rule; what it has read is blanked, so that no number counts twice."""

    def blank(match: re.Match[str]) -> str:
        one = rule.read(match, numbers)
        if one is None:
            return match[0]
        found.append(one._replace(text=_MARK.sub(lambda mark: numbers[int(mark[1])].text, one.text).strip()))
        return " " * len(match[0])

    return rule.pattern.sub(blank, text)


def _share(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = found.groupdict()
    name = next(name for name in ("tenth", "percent") if parts.get(name))
    amount = value(found, name, numbers) or Fraction(0)
    if name == "tenth":
        share = amount / Fraction(10 if amount <= 10 else 100)
        if parts.get("hundredth"):
            share += (value(found, "hundredth", numbers) or Fraction(0)) / 100
    else:
        share = amount / Fraction(100)
    weight = Weight.WORD if name == "tenth" and not numbers[int(found[name])].digits else Weight.DIGITS
    readings = [(share, "share"), (1 - share, "share")] if parts.get("off") else [(share, "share")]
    return quantity(found[0], weight, *readings, numeral=None if name == "tenth" else amount)


def _plain(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    this = numbers[int(found["plain"])]
    behind = BEHIND.match(found.string, found.end())
    units = UNITS[int((behind.lastgroup or "u0")[1:])] if behind else (BARE,)
    values = [this.value] if this.alternative is None else [this.value, this.alternative]
    readings = [(each * unit.factor, unit.dimension) for each in values for unit in units]
    if units == (BARE,):
        readings += [(each, "share") for each in values if each.denominator > 1]
    before = BEFORE.search(found.string, max(0, found.start() - 6), found.start())
    weight = Weight.DIGITS if this.digits else Weight.WORD if behind or before or this.text.isascii() else Weight.SOFT
    if this.value in _COMMON:
        weight = Weight.WORD if this.digits else Weight.SOFT
    elif this.alternative is not None and this.text.lower().startswith("a"):
        weight = Weight.SOFT
    return quantity(found[0] + (behind[0] if behind else ""), weight, *readings, numeral=this.value)


def _word(pattern: str, dimension: str, amount: Fraction, weight: Weight = Weight.SOFT) -> Rule:
    return Rule(
        re.compile(pattern, re.IGNORECASE),
        lambda found, _: quantity(found[0], weight, (amount, dimension), (amount, "")),
    )


_MARK = re.compile(r"⟨(\d+)⟩")
_COMMON = (Fraction(0), Fraction(1))
"""``one`` and ``no`` come and go between languages."""

_NOT_NUMBERS = re.compile(
    "百分[比率]|(?<![一二三四五六七八九])十分(?![間钟鐘]|の[一二三四五六七八九])|一[般緒致部定方旦切些样起直番面]|万[一物が]|千万(?=[别不])"
    "|三日月|三日坊主|三明治|五月雨|四[国季川]|九州|七夕|二度と"
)

_RULES: tuple[Rule, ...] = (
    *TIME_RULES,
    Rule(re.compile(rf"(?P<off>打){number('tenth')}折"), _share),
    Rule(re.compile(rf"{number('tenth')}割(?:{number('hundredth')}分)?(?P<off>引き?|off)?"), _share),
    Rule(re.compile(rf"{number('tenth')}成(?![功立果为長分りる品本年員员])"), _share),
    Rule(re.compile(rf"百分之{number('percent')}"), _share),
    Rule(
        re.compile(
            rf"{number('percent')}\s?(?:%|パーセント|per\s?cent)(?P<off>\s*(?:off|引き?|discount))?", re.IGNORECASE
        ),
        _share,
    ),
    _word(r"半分|一半|半数|\bhal(?:f|ves)\b", "share", Fraction(1, 2)),
    _word(r"\b(?:single|once)\b", "", Fraction(1)),
    _word(r"\btripled?\b", "", Fraction(3), Weight.WORD),
    _word(r"\b(?:both|twice|double|pair|couple)\b|両|双方|加倍", "", Fraction(2)),
    Rule(re.compile(number("plain")), _plain),
)
