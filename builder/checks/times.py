"""Dates, days of the week, times of the day and spans of time, as Japanese, English and Chinese write them.

Base units: a date is month * 100 + day, a time of the day is minutes since midnight, a span is seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from bonsai.builder.checks.numerals import Number
from bonsai.builder.checks.quantity import Quantity, Reading, Rule, Weight, number, quantity, value
from bonsai.builder.checks.units import ERAS, MONTHS, WEEKDAYS

_HALF_DAY = 12 * 60
_MONTH = "|".join([*MONTHS, *(f"{month[:3]}\\b" for month in MONTHS if month != "may")])
_WEEKDAY = "mon|tues|wednes|thurs|fri|satur|sun"
_MORNING = "午前|上午|早上|凌晨|清晨|朝の?"
_AFTERNOON = "午後|下午|晚上|傍晚|夜の?|夕方の?"
_BEFORE_MONTH = "|".join(
    f"(?<={word})" for word in ("in ", "of ", "to ", "by ", "and ", "from ", "late ", "early ", "mid-")
)
_MERIDIEM = r"\s?(?P<meridiem>[ap])\.?m\b\.?"


def _weekday(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = found.groupdict()
    word = f"{parts['english'].lower()}day" if parts.get("english") else parts.get("han")
    if word is None:
        order = value(found, "order", numbers)
        return quantity(found[0], Weight.DIGITS, (order - 1, "weekday")) if order and order <= 6 else None
    return quantity(found[0], Weight.DIGITS, (WEEKDAYS[word], "weekday"))


def _era(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    count = value(found, "count", numbers) or 1
    year = ERAS[found["era"]] + count
    return quantity(found[0], Weight.DIGITS, (year, "year"), (year, ""), (count, ""))


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
    return quantity(text, Weight.DIGITS, (month * 100 + day, "date"))


def _month(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    return quantity(found[0], Weight.DIGITS, (MONTHS[found["name"].lower()], "calendar month"))


def _east_month(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    month = value(found, "month", numbers)
    return (
        None
        if month is None or month > 12
        else quantity(found[0], Weight.DIGITS, (month, "calendar month"), (month, ""))
    )


def _decade(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    start = value(found, "start", numbers) or Fraction(0)
    century = value(found, "century", numbers) if "century" in found.groupdict() else None
    year = start if century is None else (century - 1) * 100 + start
    if "english" in found.groupdict() and (year < 1000 or year % 10):
        return None
    return quantity(found[0], Weight.DIGITS, (year, "decade"), (year % 100, "decade"))


def _century(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    return quantity(found[0], Weight.DIGITS, (value(found, "century", numbers) or 0, "century"))


def _clock(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    parts = found.groupdict()
    hour, minute = value(found, "hour", numbers), Fraction(0)
    if hour is None or hour > 24 or hour.denominator > 1:
        return None
    if parts.get("minute"):
        minute = value(found, "minute", numbers) or Fraction(0)
    elif parts.get("half"):
        minute = Fraction(30)
    elif parts.get("quarters"):
        minute = 15 * (value(found, "quarters", numbers) or Fraction(1))
    if parts.get("to"):
        hour, minute = hour - 1, 60 - (minute or Fraction(15))
    elif parts.get("quarter"):
        minute = Fraction(15)
    weight = Weight.DIGITS if numbers[int(found["hour"])].digits or minute else Weight.WORD
    return _at(found[0], hour * 60 + minute, _later(parts), weight, None if minute else hour)


def _later(parts: dict[str, str | None]) -> bool | None:
    """Afternoon (True), morning (False), or left to the reader (None)."""
    meridiem = parts.get("meridiem")
    if meridiem:
        return meridiem.lower() == "p"
    return True if parts.get("afternoon") else False if parts.get("morning") else None


def _at(text: str, minutes: Fraction, later: bool | None, weight: Weight, bare: Fraction | None) -> Quantity:
    within = minutes % _HALF_DAY
    if later is None:
        times = {minutes} if minutes >= 13 * 60 or minutes == 0 else {minutes, (minutes + _HALF_DAY) % (2 * _HALF_DAY)}
    else:
        times = {within + _HALF_DAY if later else within}
    return quantity(text, weight, *((time, "clock") for time in times), numeral=bare)


def _noon(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    return quantity(found[0], Weight.WORD, (_HALF_DAY, "clock"))


def _two_parts(found: re.Match[str], numbers: Sequence[Number]) -> Quantity | None:
    """19:42 is a time of the day, hours and minutes, or minutes and seconds."""
    minutes = numbers[int(found["minute"])]
    if not minutes.digits or len(minutes.text) != 2:
        return None
    clock = _clock(found, numbers)
    if clock is None and found["meridiem"] is None:
        clock = quantity(found[0], Weight.DIGITS)
    if clock is None:
        return None
    span = 60 * (value(found, "hour", numbers) or 0) + (value(found, "minute", numbers) or 0)
    return clock._replace(readings=clock.readings | {Reading(Fraction(each), "time") for each in (span, 60 * span)})


def _stopwatch(found: re.Match[str], numbers: Sequence[Number]) -> Quantity:
    hours, minutes, seconds = (value(found, name, numbers) or 0 for name in ("hours", "minutes", "seconds"))
    return quantity(found[0], Weight.DIGITS, (hours * 3600 + minutes * 60 + seconds, "time"))


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
    return quantity(found[0], Weight.DIGITS if whole.digits else Weight.WORD, (seconds, "time"), numeral=numeral)


def _fixed_span(seconds: int) -> Rule:
    patterns = {
        1800: r"half\s+an\s+hour|半小时|半時間|半小時|半个小时",
        5400: r"\b(?:an|one)\s+hour\s+and\s+a\s+half",
        3600: r"\b(?:an|one)\s+hour\b(?!-)",
    }
    return Rule(
        re.compile(patterns[seconds], re.IGNORECASE),
        lambda found, _: quantity(found[0], Weight.WORD, (seconds, "time")),
    )


def _rule(pattern: str, read: object) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), read)  # type: ignore[arg-type]


_MINUTES = rf"\s?{number('minutes')}\s?(?:分(?![のか])間?[钟鐘]?|minutes?\b|mins?\b)"
_SECONDS = rf"\s?{number('seconds')}\s?(?:秒[钟鐘]?|seconds?\b|s\b)"

TIME_RULES: tuple[Rule, ...] = (
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
        rf"(?:(?P<morning>{_MORNING})|(?P<afternoon>{_AFTERNOON})|中午)?{number('hour')}(?:[時时](?![間间])|[点點](?![のを以])钟?)"
        rf"(?:(?P<half>半)|{number('quarters')}刻|{number('minute')}分(?![間钟]))?",
        _clock,
    ),
    _rule(
        rf"(?:(?P<morning>{_MORNING})|(?P<afternoon>{_AFTERNOON}))?{number('hour')}:{number('minute')}(?:{_MERIDIEM})?",
        _two_parts,
    ),
    _rule(rf"(?P<half>half)\s+past\s+{number('hour')}(?:{_MERIDIEM})?", _clock),
    _rule(rf"(?P<quarter>quarter)\s+(?:past|(?P<to>to))\s+{number('hour')}(?:{_MERIDIEM})?", _clock),
    _rule(rf"{number('hour')}{_MERIDIEM}", _clock),
    _rule(rf"{number('hour')}\s?o'clock", _clock),
    _rule(r"正午|\bnoon\b", _noon),
    _rule(rf"{number('month')}月(?!曜)", _east_month),
    _rule(rf"\b(?P<name>{'|'.join(month for month in MONTHS if month not in ('march', 'may'))})\b", _month),
    Rule(re.compile(rf"(?:^|{_BEFORE_MONTH})(?P<name>March|May)\b(?! (?:I|we|you|the)\b)", re.MULTILINE), _month),
)
"""In this order: what one rule has read is gone for the next."""
