"""Extract quantities, dates and times as comparable values, and find those that disagree.

Base units: a date is month * 100 + day, a time of the day is minutes since midnight, a span is seconds.

3割 is 30%, 2時間半 is 150 minutes, 令和6年 is 2024, 打八折 is 20% off. A quantity that can be read in two ways
keeps both readings, and two quantities disagree only if no reading agrees: nobody listens to a check that cries wolf.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from bonsai.builder.checks.numbers import BARE, BEFORE, BEHIND, ERAS, MONTHS, UNITS, WEEKDAYS, Number, mark_numbers


class Confidence(enum.IntEnum):
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
    weight: Confidence
    numeral: Fraction | None = None
    """the number as written, without its unit: it agrees with a plain count (the unit stands in the table's head)"""


class UnitRule(NamedTuple):
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
    text: str, weight: Confidence, *readings: tuple[Fraction | int, str], numeral: Fraction | None = None
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


def unmatched_digits(ours: Sequence[Quantity], theirs: Sequence[Quantity]) -> list[Quantity]:
    """Ours, written with digits, that are left over when each quantity is paired with one of theirs that agrees.

    Finds the 12 that became 13 though another 13 stands nearby; for texts that tell the same things equally often.
    """
    rest = list(theirs)
    left = [
        one for one in ours if not _pair_off(one, rest, lambda one, other: not one.readings.isdisjoint(other.readings))
    ]
    left = [
        one for one in left if not _pair_off(one, rest, lambda one, other: not unmatched([_as_certain(one)], [other]))
    ]
    return list({one.readings: one for one in left if one.weight is Confidence.DIGITS}.values())


def _as_certain(one: Quantity) -> Quantity:
    return one._replace(weight=Confidence.DIGITS)


def _pair_off(one: Quantity, rest: list[Quantity], agrees: Callable[[Quantity, Quantity], bool]) -> bool:
    place = next((place for place, other in enumerate(rest) if agrees(one, other)), None)
    if place is not None:
        del rest[place]
    return place is not None


def share_dimension(one: Quantity, other: Quantity) -> bool:
    """Whether both can be read in one dimension."""
    return not {reading.dimension for reading in one.readings}.isdisjoint(
        reading.dimension for reading in other.readings
    )


_HALF_DAY = 12 * 60
_MONTH = "|".join([*MONTHS, *(f"{month[:3]}\\b" for month in MONTHS if month != "may")])
_WEEKDAY = "mon|tues|wednes|thurs|fri|satur|sun"
_DAY = 2 * _HALF_DAY
_PART_OF_DAY = (
    r"(?:(?P<morning>午前|上午|早上|清晨|早晨|早朝|明け方の?|未明の?|朝の?)|(?P<afternoon>午後|下午|傍晚|夕方の?)"
    r"|(?P<night>真夜中の?|夜中の?|深夜の?|午夜|半夜|晚上|夜里|夜裡|凌晨|夜の?)|(?P<midday>正午の?|中午|お?昼の?))"
)
"""At night it is 20:00 as well as 2:00, and twelve is midnight; at midday it is 11:00 as well as 13:00."""
_BEFORE_MONTH = "|".join(
    f"(?<={word})" for word in ("in ", "of ", "to ", "by ", "and ", "from ", "late ", "early ", "mid-")
)
_IN_WORDS = (
    r",?\s+(?:in the (?P<in_morning>morning)|in the (?P<in_afternoon>afternoon|evening)|(?P<in_night>at night)"
    r"|(?P<in_midday>at noon|noon)|(?P<in_midnight>at midnight|midnight))\b"
)
_MERIDIEM = rf"(?:\s?(?P<meridiem>[ap])\.?m\b\.?|{_IN_WORDS})"


def _weekday(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = found.groupdict()
    word = f"{parts['english'].lower()}day" if parts.get("english") else parts.get("han")
    if word is None:
        order = value(found, "order", numbers)
        return quantity(found[0], Confidence.DIGITS, (order - 1, "weekday")) if order and order <= 6 else None
    return quantity(found[0], Confidence.DIGITS, (WEEKDAYS[word], "weekday"))


def _era(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    count = value(found, "count", numbers) or 1
    year = ERAS[found["era"]] + count
    return quantity(found[0], Confidence.DIGITS, (year, "year"), (year, ""), (count, ""))


def _east_date(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    return _date(found[0], value(found, "month", numbers), value(found, "day", numbers))


def _english_date(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    if found["name"] in ("may", "march"):
        return None
    month = next(count for word, count in MONTHS.items() if word.startswith(found["name"].lower()))
    return _date(found[0], Fraction(month), value(found, "day", numbers))


def _date(text: str, month: Fraction | None, day: Fraction | None) -> Quantity | None:
    if month is None or day is None or month > 12 or day > 31 or day.denominator > 1:
        return None
    return quantity(text, Confidence.DIGITS, (month * 100 + day, "date"))


def _month(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    return quantity(found[0], Confidence.DIGITS, (MONTHS[found["name"].lower()], "calendar month"))


def _east_month(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    month = value(found, "month", numbers)
    return (
        None
        if month is None or month > 12
        else quantity(found[0], Confidence.DIGITS, (month, "calendar month"), (month, ""))
    )


def _decade(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    start = value(found, "start", numbers) or Fraction(0)
    century = value(found, "century", numbers) if "century" in found.groupdict() else None
    year = start if century is None else (century - 1) * 100 + start
    if "english" in found.groupdict() and (year < 1000 or year % 10):
        return None
    return quantity(found[0], Confidence.DIGITS, (year, "decade"), (year % 100, "decade"))


def _century(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    return quantity(found[0], Confidence.DIGITS, (value(found, "century", numbers) or 0, "century"))


def _clock(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = {name.removeprefix("in_"): part for name, part in found.groupdict().items() if part is not None}
    hour, minute = value(found, "hour", numbers), Fraction(0)
    written = numbers[int(found["hour"])].text
    if parts.get("meridiem") and re.fullmatch(r"\d{1,2}\.[0-5]\d", written):  # 11.30 a.m.
        hour, minute = (Fraction(part) for part in written.split("."))
    if hour is None or hour > 24 or hour.denominator > 1:
        return None
    if parts.get("minute"):
        minute = value(found, "minute", numbers) or Fraction(0)
        if minute == Fraction(1, 4):  # of an hour: "a quarter" is read as a number
            minute = Fraction(15)
    elif parts.get("half"):
        minute = Fraction(30)
    elif parts.get("quarters"):
        minute = 15 * (value(found, "quarters", numbers) or Fraction(1))
    elif parts.get("quarter"):
        minute = Fraction(15)
    if minute >= 60 or minute.denominator > 1:
        return None
    at = {hour * 60 + (-minute if parts.get("to") else minute)}
    if parts.get("before"):  # 10時15分前: a quarter to ten, or a little before a quarter past
        at.add(hour * 60 - minute)
    weight = Confidence.DIGITS if numbers[int(found["hour"])].digits or minute else Confidence.WORD
    times = {time for one in at for time in _times(one, parts)}
    return quantity(found[0], weight, *((time, "clock") for time in times), numeral=None if minute else hour)


def _clock_without_unit(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    """六点二十 is a time; 六点二 and 三点一四 are decimals."""
    return _clock(found, numbers) if re.match("[零〇]|.*十", numbers[int(found["minute"])].text) else None


def _times(minutes: Fraction, parts: dict[str, str]) -> set[Fraction]:
    """The minutes since midnight that a time on a clock's face may mean, by the part of the day that is named."""
    within = minutes % _HALF_DAY
    if meridiem := parts.get("meridiem"):
        return {within + (_HALF_DAY if meridiem in "pP" else 0)}
    if parts.get("morning") or parts.get("afternoon"):  # 午前12時 is noon to some and midnight to others
        unsure = within < 60 <= minutes
        return {within, within + _HALF_DAY} if unsure else {within + (_HALF_DAY if parts.get("afternoon") else 0)}
    if parts.get("night"):  # before five, or from six in the evening
        return (
            {within} if within < 5 * 60 else {within, within + _HALF_DAY} if within < 6 * 60 else {within + _HALF_DAY}
        )
    if parts.get("midday"):
        return {within + (_HALF_DAY if within < 10 * 60 else 0)}
    if parts.get("midnight"):
        return {within}
    return {minutes % _DAY} if minutes >= 13 * 60 or minutes == 0 else {minutes, (minutes + _HALF_DAY) % _DAY}


def _spoken_time(minutes: int, weight: Confidence) -> Callable[[re.Match[str], Sequence[Number]], Quantity]:
    return lambda found, _: quantity(found[0], weight, (minutes, "clock"))


def _two_parts(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    """19:42 is a time of the day, hours and minutes, or minutes and seconds; nine fifty a price or a year too."""
    hours, minutes = (numbers[int(found[part])] for part in ("hour", "minute"))
    if hours.digits != minutes.digits or (minutes.digits and len(minutes.text) != 2):
        return None
    clock = _clock(found, numbers)
    if clock is not None and not hours.digits:
        price, year = hours.value + minutes.value / 100, hours.value * 100 + minutes.value
        spoken = found[0].replace(":", " ")
        clock = clock._replace(
            text=spoken, weight=Confidence.WORD, readings=clock.readings | {Reading(price), Reading(year)}
        )
    if clock is None and found["meridiem"] is None:
        clock = quantity(found[0], Confidence.DIGITS)
    if clock is None:
        return None
    span = 60 * (value(found, "hour", numbers) or 0) + (value(found, "minute", numbers) or 0)
    return clock._replace(readings=clock.readings | {Reading(Fraction(each), "time") for each in (span, 60 * span)})


def _stopwatch(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    hours, minutes, seconds = (value(found, name, numbers) or 0 for name in ("hours", "minutes", "seconds"))
    return quantity(found[0], Confidence.DIGITS, (hours * 3600 + minutes * 60 + seconds, "time"))


def _span(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    parts = found.groupdict()
    seconds = Fraction(0)
    for name, factor in (("hours", 3600), ("minutes", 60), ("seconds", 1)):
        if parts.get(name):
            seconds += factor * (value(found, name, numbers) or 0)
    if parts.get("half") or parts.get("more"):
        seconds += 1800
    whole = next(numbers[int(parts[name] or 0)] for name in ("hours", "minutes") if parts.get(name))
    spelled = sum(bool(parts.get(name)) for name in ("hours", "minutes", "seconds", "half", "more"))
    numeral = whole.value if spelled == 1 else None
    return quantity(
        found[0], Confidence.DIGITS if whole.digits else Confidence.WORD, (seconds, "time"), numeral=numeral
    )


def _fixed_span(seconds: int) -> UnitRule:
    patterns = {
        1800: r"half\s+an\s+hour|半小时|半時間|半小時|半个小时",
        5400: r"\b(?:an|one)\s+hour\s+and\s+a\s+half",
        3600: r"\b(?:an|one)\s+hour\b(?!-)",
    }
    return UnitRule(
        re.compile(patterns[seconds], re.IGNORECASE),
        lambda found, _: quantity(found[0], Confidence.WORD, (seconds, "time")),
    )


def _rule(pattern: str, read: object) -> UnitRule:
    return UnitRule(re.compile(pattern, re.IGNORECASE), read)  # type: ignore[arg-type]


_HOUR = rf"{number('hour')}(?:\s?o'clock)?{_MERIDIEM}?"
_HAN_HOUR = rf"{number('hour')}[点點時时][钟鐘]?"
_MINUTES = rf"\s?{number('minutes')}\s?(?:分(?![のか])間?[钟鐘]?|minutes?\b|mins?\b)"
_SECONDS = rf"\s?{number('seconds')}\s?(?:秒[钟鐘]?|seconds?\b|s\b)"

TIME_RULES: tuple[UnitRule, ...] = (
    _rule(rf"\b(?P<english>{_WEEKDAY})days?\b", _weekday),
    _rule(r"(?P<han>[月火水木金土日]曜)", _weekday),
    _rule(rf"(?:星期|礼拜|(?<![每⟩])周){number('order')}(?![次回遍天])", _weekday),
    _rule(r"(?:星期|礼拜|(?<![每⟩])周)(?P<han>[日天])", _weekday),
    _rule(rf"(?P<era>{'|'.join(ERAS)})(?:{number('count')}|元)年", _era),
    _rule(rf"{number('month')}月(?:の)?{number('day')}(?:日|号)", _east_date),
    _rule(rf"\b(?P<name>{_MONTH}) {number('day')}(?! ?%)", _english_date),
    _rule(rf"{number('day')} (?:of )?(?P<name>{_MONTH})\b", _english_date),
    _rule(rf"(?:{number('century')}世[紀纪])?{number('start')}年代", _decade),
    _rule(rf"{number('start')}(?P<english>s)\b", _decade),
    _rule(rf"{number('century')}(?:世[紀纪]|[- ]centur(?:y|ies))", _century),
    _rule(rf"{number('hours')}:{number('minutes')}:{number('seconds')}", _stopwatch),
    _rule(rf"{number('hours')}(?P<half>[个個]半)\s?(?:小时|小時|鐘頭|钟头)", _span),
    _fixed_span(5400),
    _fixed_span(1800),
    _rule(
        rf"{number('hours')}[个個]?\s?-?(?:時間|小时|小時|hours?)(?:(?P<more>半|\s+and\s+a\s+half)"
        rf"|(?:\s+and)?{_MINUTES}(?:(?:\s+and)?{_SECONDS})?)?",
        _span,
    ),
    _rule(rf"{number('minutes')}\s?(?:分間?[钟鐘]?|minutes?|min)(?:\s+and)?{_SECONDS}", _span),
    _rule(rf"{number('hours')}\s+of\s+an\s+hour", _span),
    _fixed_span(3600),
    _rule(
        rf"{_PART_OF_DAY}?(?P<to>差)(?:{number('minute')}分|{number('quarters')}刻)[钟鐘]?[到就]?{_HAN_HOUR}", _clock
    ),
    _rule(rf"{_PART_OF_DAY}?{_HAN_HOUR}(?P<to>差)(?:{number('minute')}分|{number('quarters')}刻)", _clock),
    _rule(rf"{_PART_OF_DAY}?{number('hour')}[点點]{number('minute')}(?![分刻个個])", _clock_without_unit),
    _rule(
        rf"{_PART_OF_DAY}?{number('hour')}(?:[時时](?![間间])|[点點](?![のを以])[钟鐘整]?)"
        rf"(?:(?P<half>半)|{number('quarters')}刻|{number('minute')}分(?![間钟])(?P<before>前)?)?",
        _clock,
    ),
    _rule(rf"{_PART_OF_DAY}?{number('hour')}:{number('minute')}{_MERIDIEM}?", _two_parts),
    _rule(rf"(?P<half>half)\s+past\s+{_HOUR}", _clock),
    _rule(rf"(?<=\bat )(?P<half>half)\s+{_HOUR}", _clock),
    _rule(rf"(?P<quarter>quarter)\s+(?:past|after|(?P<to>to|before|till))\s+{_HOUR}", _clock),
    _rule(rf"{number('minute')}(?:\s+minutes?)?\s+past\s+{_HOUR}", _clock),
    _rule(rf"{number('minute')}\s+minutes?\s+(?:after|(?P<to>to|before|till))\s+{_HOUR}", _clock),
    _rule(
        rf"(?:(?<=\bat )|(?<=\bby )|(?<=\buntil )){number('minute')}\s+(?:after|(?P<to>to|of|till))\s+{_HOUR}", _clock
    ),
    _rule(rf"(?:(?<=\bat )|(?<=\bby )|(?<=\buntil ))(?P<quarter>quarter)\s+(?P<to>of)\s+{_HOUR}", _clock),
    _rule(rf"{number('hour')}(?:\s?o'clock)?{_MERIDIEM}", _clock),
    _rule(rf"{number('hour')}\s?o'clock", _clock),
    _rule(r"正午|\b(?:noon|midday|noontime)\b", _spoken_time(_HALF_DAY, Confidence.WORD)),
    _rule("中午|お昼", _spoken_time(_HALF_DAY, Confidence.SOFT)),
    _rule(r"\bmidnight\b|午夜", _spoken_time(0, Confidence.WORD)),
    _rule("真夜中|半夜", _spoken_time(0, Confidence.SOFT)),
    _rule(rf"{number('month')}月(?!曜)", _east_month),
    _rule(rf"\b(?P<name>{'|'.join(month for month in MONTHS if month not in ('march', 'may'))})\b", _month),
    UnitRule(re.compile(rf"(?:^|{_BEFORE_MONTH})(?P<name>March|May)\b(?! (?:I|we|you|the)\b)", re.MULTILINE), _month),
)
"""In this order: what one rule has read is gone for the next."""


class QuantityMismatch(NamedTuple):
    """What each of two texts says with which nothing in the other agrees."""

    first: tuple[Quantity, ...]
    second: tuple[Quantity, ...]


@functools.lru_cache(maxsize=65_536)
def extract_quantities(text: str) -> tuple[Quantity, ...]:
    """The quantities of a text; dates, times and shares first, then the rest in the order of the text."""
    rest, numbers = mark_numbers(_NOT_NUMBERS.sub("　", text))
    found: list[Quantity] = []
    for rule in _RULES:
        if "⟨" in rest or "⟨" not in rule.pattern.pattern:
            rest = _read(rule, rest, numbers, found)
    return tuple(found)


def quantity_mismatch(first: str | Iterable[Quantity], second: str | Iterable[Quantity]) -> QuantityMismatch:
    """The quantities of each side, surely meant as such, with which no quantity of the other side agrees.

    A number on one side alone is no contradiction (``12人`` and ``everybody``): the caller decides.
    """
    ours = extract_quantities(first) if isinstance(first, str) else tuple(first)
    theirs = extract_quantities(second) if isinstance(second, str) else tuple(second)
    return QuantityMismatch(unmatched(ours, theirs), unmatched(theirs, ours))


def _read(rule: UnitRule, text: str, numbers: Sequence[Number], found: list[Quantity]) -> str:
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
    weight = Confidence.WORD if name == "tenth" and not numbers[int(found[name])].digits else Confidence.DIGITS
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
    weight = (
        Confidence.DIGITS
        if this.digits
        else Confidence.WORD
        if behind or before or this.text.isascii()
        else Confidence.SOFT
    )
    if this.value in _COMMON:
        weight = Confidence.WORD if this.digits else Confidence.SOFT
    elif this.alternative is not None and this.text.lower().startswith("a"):
        weight = Confidence.SOFT
    return quantity(found[0] + (behind[0] if behind else ""), weight, *readings, numeral=this.value)


def _word(pattern: str, dimension: str, amount: Fraction, weight: Confidence = Confidence.SOFT) -> UnitRule:
    return UnitRule(
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

_RULES: tuple[UnitRule, ...] = (
    *TIME_RULES,
    UnitRule(re.compile(rf"(?P<off>打){number('tenth')}折"), _share),
    UnitRule(re.compile(rf"{number('tenth')}割(?:{number('hundredth')}分)?(?P<off>引き?|off)?"), _share),
    UnitRule(re.compile(rf"{number('tenth')}成(?![功立果为長分りる品本年員员])"), _share),
    UnitRule(re.compile(rf"百分之{number('percent')}"), _share),
    UnitRule(
        re.compile(
            rf"{number('percent')}\s?(?:%|パーセント|per\s?cent)(?P<off>\s*(?:off|引き?|discount))?", re.IGNORECASE
        ),
        _share,
    ),
    _word(r"半分|一半|半数|\bhal(?:f|ves)\b", "share", Fraction(1, 2)),
    _word(r"\b(?:single|once)\b", "", Fraction(1)),
    _word(r"\btripled?\b", "", Fraction(3), Confidence.WORD),
    _word(r"\b(?:both|twice|double|pair|couple)\b|両|双方|加倍", "", Fraction(2)),
    UnitRule(re.compile(number("plain")), _plain),
)
