"""Extract quantities, dates and times as comparable values, and find those that disagree.

3割 is 30%, 2時間半 is 150 minutes, 令和6年 is 2024, 打八折 is 20% off. A quantity that can be read in two ways keeps
both readings, and two quantities disagree only if no reading agrees: nobody listens to a check that cries wolf.

Base units: a date is month * 100 + day, a time of the day is minutes since midnight, a span is seconds; those of other
dimensions are in `bonsai.builder.checks.numbers`.

Example:
    >>> quantity_mismatch("2時間半かかった。", "It took 150 minutes.")
    QuantityMismatch(first=(), second=())
    >>> [one.text for one in quantity_mismatch("午後3時に開く。", "It opens at 4 p.m.").first]
    ['午後3時']
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from bonsai.builder.checks.numbers import BARE, BEFORE, BEHIND, ERAS, MONTHS, UNITS, WEEKDAYS, Number, mark_numbers

_MARK = re.compile(r"⟨(\d+)⟩")
_COMMON = (Fraction(0), Fraction(1))
"""``one`` and ``no`` come and go between languages."""
_NOT_NUMBERS = re.compile(
    "百分[比率]|(?<![一二三四五六七八九])十分(?![間钟鐘]|の[一二三四五六七八九])|一[般緒致部定方旦切些样起直番面]|万[一物が]|千万(?=[别不])"
    "|三日月|三日坊主|三明治|五月雨|四[国季川]|九州|七夕|二度と"
)
_HALF_DAY, _DAY = 12 * 60, 24 * 60
_MONTH = "|".join([*MONTHS, *(f"{month[:3]}\\b" for month in MONTHS if month != "may")])
_WEEKDAY = "mon|tues|wednes|thurs|fri|satur|sun"
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
    """the number as written, without its unit: it agrees with a plain count (the unit may be in the table's head)"""


class QuantityMismatch(NamedTuple):
    """What each of two texts has with which nothing in the other agrees."""

    first: tuple[Quantity, ...]
    second: tuple[Quantity, ...]


_Reader = Callable[[re.Match[str], Sequence[Number]], Quantity | None]


class UnitRule(NamedTuple):
    """How one way of writing is read; ``read`` returns `None` where the match means something else."""

    pattern: re.Pattern[str]
    read: _Reader


@functools.lru_cache(maxsize=65_536)
def extract_quantities(text: str) -> tuple[Quantity, ...]:
    """Return the quantities of a text; dates, times and shares first, then the rest in the order of the text."""
    rest, numbers = mark_numbers(_NOT_NUMBERS.sub("　", text))
    found: list[Quantity] = []
    for pattern, read in _RULES:

        def blank(match: re.Match[str], read: _Reader = read) -> str:
            one = read(match, numbers)
            if one is None:
                return match[0]
            found.append(one._replace(text=_MARK.sub(lambda mark: numbers[int(mark[1])].text, one.text).strip()))
            return " " * len(match[0])  # so that no number counts twice

        if "⟨" in rest or "⟨" not in pattern.pattern:
            rest = pattern.sub(blank, rest)
    return tuple(found)


def quantity_mismatch(first: str, second: str) -> QuantityMismatch:
    """Return the quantities of each side, surely meant as such, with which no quantity of the other side agrees.

    A number on one side alone is no contradiction (``12人`` and ``everybody``): the caller decides.
    """
    ours, theirs = extract_quantities(first), extract_quantities(second)
    return QuantityMismatch(unmatched(ours, theirs), unmatched(theirs, ours))


def unmatched(ours: Iterable[Quantity], theirs: Iterable[Quantity]) -> tuple[Quantity, ...]:
    """Return ours, surely meant as quantities, with which none of theirs agrees in any reading."""
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
    """Return ours, written with digits, that are left over when each quantity is paired with one of theirs that agrees.

    Finds the 12 that became 13 though another 13 is nearby; for texts that mention the same things equally often.
    """
    rest = list(theirs)
    left = list(ours)
    # first those that share a reading, then those whose numeral agrees with a plain count
    agreements: tuple[Callable[[Quantity, Quantity], bool], ...] = (
        lambda one, other: not one.readings.isdisjoint(other.readings),
        lambda one, other: not unmatched([one._replace(weight=Confidence.DIGITS)], [other]),
    )
    for agree in agreements:
        alone = []
        for one in left:
            index = next((index for index, other in enumerate(rest) if agree(one, other)), None)
            if index is None:
                alone.append(one)
            else:
                del rest[index]
        left = alone
    return list({one.readings: one for one in left if one.weight is Confidence.DIGITS}.values())


def share_dimension(one: Quantity, other: Quantity) -> bool:
    """Return whether both can be read in one dimension."""
    return not {reading.dimension for reading in one.readings}.isdisjoint(
        reading.dimension for reading in other.readings
    )


def join_texts(quantities: Iterable[Quantity]) -> str:
    """List quantities as they are written, for a finding."""
    return ", ".join(one.text for one in quantities)


def _number(name: str) -> str:
    """Return the regular expression of a marked number, with its index in the group ``name``."""
    return rf"⟨(?P<{name}>\d+)⟩"


def _value(found: re.Match[str], name: str, numbers: Sequence[Number]) -> Fraction | None:
    return None if found[name] is None else numbers[int(found[name])].value


def _quantity(
    text: str, weight: Confidence, *readings: tuple[Fraction | int, str], numeral: Fraction | None = None
) -> Quantity:
    pairs = frozenset(Reading(Fraction(amount), dimension) for amount, dimension in readings)
    return Quantity(text, pairs, weight, numeral)


def _rule(pattern: str, read: _Reader) -> UnitRule:
    return UnitRule(re.compile(pattern, re.IGNORECASE), read)


def _fixed(pattern: str, weight: Confidence, *readings: tuple[Fraction | int, str]) -> UnitRule:
    """Return the rule for words that mean one amount: noon, half an hour, both."""
    return _rule(pattern, lambda found, _: _quantity(found[0], weight, *readings))


def _weekday(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = found.groupdict()
    word = f"{parts['english'].lower()}day" if parts.get("english") else parts.get("han")
    if word is None:
        order = _value(found, "order", numbers)
        return _quantity(found[0], Confidence.DIGITS, (order - 1, "weekday")) if order and order <= 6 else None
    return _quantity(found[0], Confidence.DIGITS, (WEEKDAYS[word], "weekday"))


def _era(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    count = _value(found, "count", numbers) or 1
    year = ERAS[found["era"]] + count
    return _quantity(found[0], Confidence.DIGITS, (year, "year"), (year, ""), (count, ""))


def _date(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    name, day = found.groupdict().get("name"), _value(found, "day", numbers)
    if name in ("may", "march"):
        return None
    if name is None:
        month = _value(found, "month", numbers)
    else:
        month = next(Fraction(count) for word, count in MONTHS.items() if word.startswith(name.lower()))
    if month is None or day is None or month > 12 or day > 31 or day.denominator > 1:
        return None
    return _quantity(found[0], Confidence.DIGITS, (month * 100 + day, "date"))


def _month(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    if name := found.groupdict().get("name"):
        return _quantity(found[0], Confidence.DIGITS, (MONTHS[name.lower()], "calendar month"))
    month = _value(found, "month", numbers)
    if month is None or month > 12:
        return None
    return _quantity(found[0], Confidence.DIGITS, (month, "calendar month"), (month, ""))


def _decade(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    start = _value(found, "start", numbers) or Fraction(0)
    century = _value(found, "century", numbers) if "century" in found.groupdict() else None
    year = start if century is None else (century - 1) * 100 + start
    if "english" in found.groupdict() and (year < 1000 or year % 10):
        return None
    return _quantity(found[0], Confidence.DIGITS, (year, "decade"), (year % 100, "decade"))


def _clock(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = {name.removeprefix("in_"): part for name, part in found.groupdict().items() if part is not None}
    hour, minute = _value(found, "hour", numbers), Fraction(0)
    written = numbers[int(found["hour"])].text
    if parts.get("meridiem") and re.fullmatch(r"\d{1,2}\.[0-5]\d", written):  # 11.30 a.m.
        hour, minute = (Fraction(part) for part in written.split("."))
    if hour is None or hour > 24 or hour.denominator > 1:
        return None
    if parts.get("minute"):
        minute = _value(found, "minute", numbers) or Fraction(0)
        if minute == Fraction(1, 4):  # of an hour: "a quarter" is read as a number
            minute = Fraction(15)
    elif parts.get("half"):
        minute = Fraction(30)
    elif parts.get("quarters"):
        minute = 15 * (_value(found, "quarters", numbers) or Fraction(1))
    elif parts.get("quarter"):
        minute = Fraction(15)
    if minute >= 60 or minute.denominator > 1:
        return None
    at = {hour * 60 + (-minute if parts.get("to") else minute)}
    if parts.get("before"):  # 10時15分前: a quarter to ten, or a little before a quarter past
        at.add(hour * 60 - minute)
    weight = Confidence.DIGITS if numbers[int(found["hour"])].digits or minute else Confidence.WORD
    times = {time for one in at for time in _times(one, parts)}
    return _quantity(found[0], weight, *((time, "clock") for time in times), numeral=None if minute else hour)


def _clock_without_unit(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    """六点二十 is a time; 六点二 and 三点一四 are decimals."""
    return _clock(found, numbers) if re.match("[零〇]|.*十", numbers[int(found["minute"])].text) else None


def _times(minutes: Fraction, parts: dict[str, str]) -> set[Fraction]:
    """Return the minutes since midnight that a time on a clock's face may mean, by the part of the day named."""
    within = minutes % _HALF_DAY
    if meridiem := parts.get("meridiem"):
        return {within + (_HALF_DAY if meridiem in "pP" else 0)}
    if parts.get("morning") or parts.get("afternoon"):  # 午前12時 is noon to some and midnight to others
        unsure = within < 60 <= minutes
        return {within, within + _HALF_DAY} if unsure else {within + (_HALF_DAY if parts.get("afternoon") else 0)}
    if parts.get("night"):  # before five, or from six in the evening; between them it may be either
        early = {within} if within < 6 * 60 else set()
        return early | ({within + _HALF_DAY} if within >= 5 * 60 else set())
    if parts.get("midday"):
        return {within + (_HALF_DAY if within < 10 * 60 else 0)}
    if parts.get("midnight"):
        return {within}
    return {minutes % _DAY} if minutes >= 13 * 60 or minutes == 0 else {minutes, (minutes + _HALF_DAY) % _DAY}


def _two_parts(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    """19:42 is a time of the day, hours and minutes, or minutes and seconds; nine fifty a price or a year too."""
    hours, minutes = (numbers[int(found[part])] for part in ("hour", "minute"))
    if hours.digits != minutes.digits or (minutes.digits and len(minutes.text) != 2):
        return None
    clock = _clock(found, numbers)
    if clock is not None and not hours.digits:
        price, year = hours.value + minutes.value / 100, hours.value * 100 + minutes.value
        readings = clock.readings | {Reading(price), Reading(year)}
        clock = clock._replace(text=found[0].replace(":", " "), weight=Confidence.WORD, readings=readings)
    if clock is None and found["meridiem"] is None:
        clock = _quantity(found[0], Confidence.DIGITS)
    if clock is None:
        return None
    span = 60 * (_value(found, "hour", numbers) or 0) + (_value(found, "minute", numbers) or 0)
    return clock._replace(readings=clock.readings | {Reading(Fraction(each), "time") for each in (span, 60 * span)})


def _span(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    parts = {name: part for name, part in found.groupdict().items() if part}
    units = {"hours": 3600, "minutes": 60, "seconds": 1}
    counts = {name: numbers[int(parts[name])] for name in units if name in parts}
    seconds = sum((count.value * units[name] for name, count in counts.items()), Fraction(0))
    if "half" in parts or "more" in parts:
        seconds += 1800
    first = next(iter(counts.values()))
    weight = Confidence.DIGITS if first.digits else Confidence.WORD
    return _quantity(found[0], weight, (seconds, "time"), numeral=first.value if len(parts) == 1 else None)


def _share(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = found.groupdict()
    name = next(name for name in ("tenth", "percent") if parts.get(name))
    amount = _value(found, name, numbers) or Fraction(0)
    share = amount / (10 if name == "tenth" and amount <= 10 else 100)  # 八五折 is 85%
    if parts.get("hundredth"):
        share += (_value(found, "hundredth", numbers) or Fraction(0)) / 100
    weight = Confidence.WORD if name == "tenth" and not numbers[int(found[name])].digits else Confidence.DIGITS
    readings = [(share, "share"), (1 - share, "share")] if parts.get("off") else [(share, "share")]
    return _quantity(found[0], weight, *readings, numeral=None if name == "tenth" else amount)


def _plain(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    this = numbers[int(found["plain"])]
    behind = BEHIND.match(found.string, found.end())
    units = UNITS[int((behind.lastgroup or "u0")[1:])] if behind else (BARE,)
    values = [this.value] if this.alternative is None else [this.value, this.alternative]
    readings = [(each * unit.factor, unit.dimension) for each in values for unit in units]
    if units == (BARE,):
        readings += [(each, "share") for each in values if each.denominator > 1]
    before = BEFORE.search(found.string, max(0, found.start() - 6), found.start())
    weight = Confidence.WORD if behind or before or this.text.isascii() else Confidence.SOFT
    if this.digits:
        weight = Confidence.DIGITS
    if this.value in _COMMON:
        weight = Confidence.WORD if this.digits else Confidence.SOFT
    elif this.alternative is not None and this.text.lower().startswith("a"):
        weight = Confidence.SOFT
    return _quantity(found[0] + (behind[0] if behind else ""), weight, *readings, numeral=this.value)


_HOUR = rf"{_number('hour')}(?:\s?o'clock)?{_MERIDIEM}?"
_HAN_HOUR = rf"{_number('hour')}[点點時时][钟鐘]?"
_MINUTES = rf"\s?{_number('minutes')}\s?(?:分(?![のか])間?[钟鐘]?|minutes?\b|mins?\b)"
_SECONDS = rf"\s?{_number('seconds')}\s?(?:秒[钟鐘]?|seconds?\b|s\b)"

_TIME_RULES = (
    _rule(rf"\b(?P<english>{_WEEKDAY})days?\b", _weekday),
    _rule(r"(?P<han>[月火水木金土日]曜)", _weekday),
    _rule(rf"(?:星期|礼拜|(?<![每⟩])周){_number('order')}(?![次回遍天])", _weekday),
    _rule(r"(?:星期|礼拜|(?<![每⟩])周)(?P<han>[日天])", _weekday),
    _rule(rf"(?P<era>{'|'.join(ERAS)})(?:{_number('count')}|元)年", _era),
    _rule(rf"{_number('month')}月(?:の)?{_number('day')}(?:日|号)", _date),
    _rule(rf"\b(?P<name>{_MONTH}) {_number('day')}(?! ?%)", _date),
    _rule(rf"{_number('day')} (?:of )?(?P<name>{_MONTH})\b", _date),
    _rule(rf"(?:{_number('century')}世[紀纪])?{_number('start')}年代", _decade),
    _rule(rf"{_number('start')}(?P<english>s)\b", _decade),
    _rule(
        rf"{_number('century')}(?:世[紀纪]|[- ]centur(?:y|ies))",
        lambda found, numbers: _quantity(
            found[0], Confidence.DIGITS, (_value(found, "century", numbers) or 0, "century")
        ),
    ),
    _rule(rf"{_number('hours')}:{_number('minutes')}:{_number('seconds')}", _span),
    _rule(rf"{_number('hours')}(?P<half>[个個]半)\s?(?:小时|小時|鐘頭|钟头)", _span),
    _fixed(r"\b(?:an|one)\s+hour\s+and\s+a\s+half", Confidence.WORD, (5400, "time")),
    _fixed(r"half\s+an\s+hour|半小时|半時間|半小時|半个小时", Confidence.WORD, (1800, "time")),
    _rule(
        rf"{_number('hours')}[个個]?\s?-?(?:時間|小时|小時|hours?)(?:(?P<more>半|\s+and\s+a\s+half)"
        rf"|(?:\s+and)?{_MINUTES}(?:(?:\s+and)?{_SECONDS})?)?",
        _span,
    ),
    _rule(rf"{_number('minutes')}\s?(?:分間?[钟鐘]?|minutes?|min)(?:\s+and)?{_SECONDS}", _span),
    _rule(rf"{_number('hours')}\s+of\s+an\s+hour", _span),
    _fixed(r"\b(?:an|one)\s+hour\b(?!-)", Confidence.WORD, (3600, "time")),
    _rule(
        rf"{_PART_OF_DAY}?(?P<to>差)(?:{_number('minute')}分|{_number('quarters')}刻)[钟鐘]?[到就]?{_HAN_HOUR}", _clock
    ),
    _rule(rf"{_PART_OF_DAY}?{_HAN_HOUR}(?P<to>差)(?:{_number('minute')}分|{_number('quarters')}刻)", _clock),
    _rule(rf"{_PART_OF_DAY}?{_number('hour')}[点點]{_number('minute')}(?![分刻个個])", _clock_without_unit),
    _rule(
        rf"{_PART_OF_DAY}?{_number('hour')}(?:[時时](?![間间])|[点點](?![のを以])[钟鐘整]?)"
        rf"(?:(?P<half>半)|{_number('quarters')}刻|{_number('minute')}分(?![間钟])(?P<before>前)?)?",
        _clock,
    ),
    _rule(rf"{_PART_OF_DAY}?{_number('hour')}:{_number('minute')}{_MERIDIEM}?", _two_parts),
    _rule(rf"(?P<half>half)\s+past\s+{_HOUR}", _clock),
    _rule(rf"(?<=\bat )(?P<half>half)\s+{_HOUR}", _clock),
    _rule(rf"(?P<quarter>quarter)\s+(?:past|after|(?P<to>to|before|till))\s+{_HOUR}", _clock),
    _rule(rf"{_number('minute')}(?:\s+minutes?)?\s+past\s+{_HOUR}", _clock),
    _rule(rf"{_number('minute')}\s+minutes?\s+(?:after|(?P<to>to|before|till))\s+{_HOUR}", _clock),
    _rule(
        rf"(?:(?<=\bat )|(?<=\bby )|(?<=\buntil )){_number('minute')}\s+(?:after|(?P<to>to|of|till))\s+{_HOUR}", _clock
    ),
    _rule(rf"(?:(?<=\bat )|(?<=\bby )|(?<=\buntil ))(?P<quarter>quarter)\s+(?P<to>of)\s+{_HOUR}", _clock),
    _rule(rf"{_number('hour')}(?:\s?o'clock)?{_MERIDIEM}", _clock),
    _rule(rf"{_number('hour')}\s?o'clock", _clock),
    _fixed(r"正午|\b(?:noon|midday|noontime)\b", Confidence.WORD, (_HALF_DAY, "clock")),
    _fixed("中午|お昼", Confidence.SOFT, (_HALF_DAY, "clock")),
    _fixed(r"\bmidnight\b|午夜", Confidence.WORD, (0, "clock")),
    _fixed("真夜中|半夜", Confidence.SOFT, (0, "clock")),
    _rule(rf"{_number('month')}月(?!曜)", _month),
    _rule(rf"\b(?P<name>{'|'.join(month for month in MONTHS if month not in ('march', 'may'))})\b", _month),
    # with a capital, or "may" and "march" are verbs
    UnitRule(re.compile(rf"(?:^|{_BEFORE_MONTH})(?P<name>March|May)\b(?! (?:I|we|you|the)\b)", re.MULTILINE), _month),
)

# the order matters: what one rule has read is gone for the next
_RULES: tuple[UnitRule, ...] = (
    *_TIME_RULES,
    UnitRule(re.compile(rf"(?P<off>打){_number('tenth')}折"), _share),
    UnitRule(re.compile(rf"{_number('tenth')}割(?:{_number('hundredth')}分)?(?P<off>引き?|off)?"), _share),
    UnitRule(re.compile(rf"{_number('tenth')}成(?![功立果为長分りる品本年員员])"), _share),
    UnitRule(re.compile(rf"百分之{_number('percent')}"), _share),
    UnitRule(
        re.compile(
            rf"{_number('percent')}\s?(?:%|パーセント|per\s?cent)(?P<off>\s*(?:off|引き?|discount))?", re.IGNORECASE
        ),
        _share,
    ),
    _fixed(r"半分|一半|半数|\bhal(?:f|ves)\b", Confidence.SOFT, (Fraction(1, 2), "share"), (Fraction(1, 2), "")),
    _fixed(r"\b(?:single|once)\b", Confidence.SOFT, (1, "")),
    _fixed(r"\btripled?\b", Confidence.WORD, (3, "")),
    _fixed(r"\b(?:both|twice|double|pair|couple)\b|両|双方|加倍", Confidence.SOFT, (2, "")),
    UnitRule(re.compile(_number("plain")), _plain),
)
