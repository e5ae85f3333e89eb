"""Write a typed spreadsheet cell as the person who typed it sees it, by the number format of the cell.

    >>> format_cell(0.25, "0%"), format_cell(7, "000"), format_cell(datetime.date(2026, 1, 2), "m/d")
    ('25%', '007', '1/2')

Format codes are those of ECMA-376, part 1, 18.8.31. Widths, colours and conditions in brackets are left out; a format
that asks for more than that gives the value as `General` shows it.
"""

from __future__ import annotations

import datetime
import re
from fractions import Fraction

Number = int | float
Moment = datetime.datetime | datetime.date | datetime.time

BUILTIN = {
    14: "yyyy/m/d",
    22: "yyyy/m/d h:mm",
    **dict.fromkeys((27, 36, 50, 57), "[$-411]ge.m.d"),
    **dict.fromkeys((28, 29, 51, 54, 58), '[$-411]ggge"年"m"月"d"日"'),
    30: "m/d/yy",
    31: 'yyyy"年"m"月"d"日"',
    32: 'h"時"mm"分"',
    33: 'h"時"mm"分"ss"秒"',
    **dict.fromkeys((34, 52, 55), 'yyyy"年"m"月"'),
    **dict.fromkeys((35, 53, 56), 'm"月"d"日"'),
}
"""Formats whose look depends on the country of the spreadsheet program, as a Japanese one shows them."""

_ERAS = (
    (datetime.date(2019, 5, 1), "R", "令", "令和"),
    (datetime.date(1989, 1, 8), "H", "平", "平成"),
    (datetime.date(1926, 12, 25), "S", "昭", "昭和"),
    (datetime.date(1912, 7, 30), "T", "大", "大正"),
    (datetime.date(1868, 1, 25), "M", "明", "明治"),
)
_SYSTEM_FORMATS = {"[$-f800]": 'yyyy"年"m"月"d"日"', "[$-f400]": "h:mm:ss"}
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*.|\[\$(?P<currency>[^\]-]*)[^\]]*\]|(?P<elapsed>\[(?:h+|m+|s+)\])'
    r"|\[[^\]]*\]|(?P<ampm>AM/PM|A/P|上午/下午)|(?P<general>General)|(?P<exponent>E[+-])|(?P<date>[ymdhsaeg]+)"
    r"|(?P<number>[0#?.,]+)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_Token = tuple[str, str]


def format_cell(value: object, code: str) -> str:
    """Return a cell's value as it is seen; ``code`` is its number format."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    code = next((plain for system, plain in _SYSTEM_FORMATS.items() if code.lower().startswith(system)), code)
    sections = [_tokens(section) for section in _sections(code)]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time | datetime.timedelta):
        return _format_date(value, sections[0])
    return _format_number(value, sections) if isinstance(value, int | float) else str(value)


def is_date(code: str) -> bool:
    """Return whether a format shows a number as a date or a time."""
    return any(kind in ("date", "elapsed") for kind, _ in _tokens(_sections(code)[0]))


def _sections(code: str) -> list[str]:
    """Split a format at its semicolons: for positive and negative numbers, zero, and text."""
    parts = re.findall(r'((?:"[^"]*"|\\.|\[[^\]]*\]|[^;])*)(;|$)', code)
    return [part for number, (part, end) in enumerate(parts) if not number or part or end][:4]


def _tokens(section: str) -> list[_Token]:
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(section):
        kind, text = match.lastgroup or "", match[match.lastgroup] if match.lastgroup else ""
        if kind in ("quoted", "escaped", "currency", "other"):
            kind = "%" if text == "%" and kind == "other" else "/" if text == "/" and kind == "other" else "literal"
        if kind == "date":
            # "yyyy" and "mm" are tokens of their own though they stand together in "yyyymmdd"
            tokens.extend(("date", run[0]) for run in re.finditer(r"([a-z])\1*", text.lower()))
        elif kind:
            tokens.append((kind, text))
    return tokens


def general(value: Number) -> str:
    """Return a number as a cell without a format shows it, with the 15 digits that a spreadsheet keeps."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    return f"{value:.15g}".replace("e", "E")


def _format_number(value: Number, sections: list[list[_Token]]) -> str:
    # 1. The section for this sign. A section for negative numbers shows the minus itself, if it shows one.
    number, signed = value, True
    tokens = sections[0]
    if value < 0 and len(sections) > 1:
        tokens, number, signed = sections[1], -value, False
    elif value == 0 and len(sections) > 2:
        tokens = sections[2]
    kinds = [kind for kind, _ in tokens]
    if not tokens or "general" in kinds or (kinds == ["literal"] and tokens[0][1] == "@"):
        around = ["".join(t for k, t in part if k == "literal" and t != "@") for part in _around_general(tokens)]
        return around[0] + general(number) + around[1]
    if "number" not in kinds:  # such as "-" for zero
        return "".join(text for kind, text in tokens if kind == "literal").strip()
    if "/" in kinds:
        return _format_fraction(number, tokens)

    # 2. The digits: percent and trailing commas scale, a comma between placeholders groups.
    places = "".join(text for kind, text in tokens if kind == "number")
    number = number * 100 ** kinds.count("%") / 1000 ** (len(places) - len(places.rstrip(",")))
    whole, _, decimals = places.rstrip(",").partition(".")
    if "exponent" in kinds:
        # the placeholders behind E are the digits of the exponent
        at = kinds.index("exponent")
        mantissa = "".join(text for kind, text in tokens[:at] if kind == "number")
        digits, power = f"{number:.{len(mantissa.partition('.')[2])}E}".split("E")
        sign = "-" if int(power) < 0 else "+" if tokens[at][1][1] == "+" else ""
        width = len("".join(text for kind, text in tokens[at:] if kind == "number"))
        return f"{digits}E{sign}{abs(int(power)):0{width}d}"
    # half up as spreadsheets round, not half even
    step = 10 ** len(decimals)
    scaled = int(abs(Fraction(repr(number) if isinstance(number, float) else number)) * step + Fraction(1, 2))
    integer, rest = divmod(scaled, step)
    least = whole.replace(",", "").count("0")
    text = f"{integer:,}" if "," in whole else str(integer)
    text = text.rjust(least, "0") if least > 1 else text if integer or least else ""
    digits = f"{rest:0{len(decimals)}d}" if decimals else ""
    while digits and decimals[len(digits) - 1] != "0" and digits.endswith("0"):
        digits = digits[:-1]
    tail = "." + digits if "." in places else ""

    # 3. Literals before, between and behind them: the digits fill the placeholders from the right.
    out: list[str] = []
    left = sum(kind == "number" for kind, _ in tokens)
    for kind, token in reversed(tokens):
        if kind == "number":
            left -= 1
            width = len(token.partition(".")[0].replace(",", ""))
            shown = text if not left else text[-width:] if width else ""
            text = text[: len(text) - len(shown)]
            out.append(shown + tail)
            tail = ""
        elif kind in ("literal", "%"):
            out.append(token)
    minus = "-" if value < 0 and scaled and signed else ""
    return (minus + "".join(reversed(out))).strip()


def _around_general(tokens: list[_Token]) -> tuple[list[_Token], list[_Token]]:
    at = next((n for n, (kind, text) in enumerate(tokens) if kind == "general" or text == "@"), 0)
    return tokens[:at], tokens[at + 1 :]


def _format_fraction(value: Number, tokens: list[_Token]) -> str:
    """Format as ``# ?/?`` does: a whole part, and the nearest fraction with so many digits below the line."""
    slash = [kind for kind, _ in tokens].index("/")
    below = next(text for kind, text in tokens[slash:] if kind in ("number", "literal"))
    fixed = "".join(text for kind, text in tokens[slash + 1 :] if kind in ("literal", "number"))
    exact = Fraction(value).limit_denominator(10**15)
    if fixed.isdigit() and int(fixed):
        nearest = Fraction(round(exact * int(fixed)), int(fixed))
    else:
        nearest = exact.limit_denominator(10 ** max(1, len(below)) - 1)
    sign, size = "-" if nearest < 0 else "", abs(nearest)
    # one group of placeholders before the slash is a fraction alone, two have a whole part
    has_whole = sum(kind == "number" for kind, _ in tokens[:slash]) > 1
    whole, rest = divmod(size, 1) if has_whole else (0, size)
    parts = [str(int(whole))] if whole or not rest else []
    if rest:
        parts.append(f"{rest.numerator}/{rest.denominator}")
    return sign + " ".join(parts)


def _format_date(value: Moment | datetime.timedelta, tokens: list[_Token]) -> str:
    # 1. Every value as a date with a time; a duration counts its hours on.
    elapsed = value if isinstance(value, datetime.timedelta) else None
    if isinstance(value, datetime.timedelta):
        moment = datetime.datetime(1899, 12, 31) + value
    elif isinstance(value, datetime.time):
        moment = datetime.datetime.combine(datetime.date(1899, 12, 31), value)
        elapsed = moment - datetime.datetime(1899, 12, 31)
    elif isinstance(value, datetime.datetime):
        moment = value
    else:
        moment = datetime.datetime.combine(value, datetime.time())
    if not any(kind in ("date", "elapsed") for kind, _ in tokens):
        # a date whose cell has no format for one
        if isinstance(value, datetime.time):
            return f"{value:%H:%M:%S}"
        return f"{moment:%Y-%m-%d}" if moment.time() == datetime.time() else f"{moment:%Y-%m-%d %H:%M:%S}"
    twelve = any(kind == "ampm" for kind, _ in tokens)
    start, *names = next((era for era in _ERAS if moment.date() >= era[0]), (datetime.date(1, 1, 1), "", "", ""))
    year = moment.year - start.year + 1
    hour = (moment.hour + 11) % 12 + 1 if twelve else moment.hour

    # 2. Token by token. An m means minutes behind an h and before an s.
    dates = [n for n, (kind, _) in enumerate(tokens) if kind in ("date", "elapsed")]
    out = ""
    for n, (kind, text) in enumerate(tokens):
        if kind == "elapsed":
            seconds = int((elapsed or moment - datetime.datetime(1899, 12, 30)).total_seconds())
            unit = {"h": 3600, "m": 60, "s": 1}[text[1].lower()]
            out += f"{seconds // unit:0{len(text) - 2}d}"
        elif kind == "ampm":
            before, after = text.split("/")
            out += before if moment.hour < 12 else after
        elif kind == "number" and set(text) <= {".", "0"} and text.startswith("."):
            out += f".{moment.microsecond:06d}"[: len(text)]
        elif kind in ("literal", "/", "number", "%"):
            out += text
        elif kind == "date":
            place = dates.index(n)
            before = tokens[dates[place - 1]][1].strip("[]").lower() if place else ""
            after = tokens[dates[place + 1]][1].strip("[]") if place + 1 < len(dates) else ""
            minutes = text in ("m", "mm") and (before.startswith("h") or after.startswith("s"))
            out += _date_part(text, moment, hour, year, names, minutes=minutes)
    return out.strip()


def _date_part(
    token: str, moment: datetime.datetime, hour: int, era_year: int, era: list[str], *, minutes: bool
) -> str:
    if minutes:
        return f"{moment.minute:0{len(token)}d}"
    match token[0]:
        case "y":
            return f"{moment.year % 100:02d}" if len(token) < 3 else str(moment.year)
        case "m" if len(token) > 2:
            return (f"{moment:%b}", f"{moment:%B}", f"{moment:%b}"[0])[min(len(token), 5) - 3]
        case "m":
            return f"{moment.month:0{len(token)}d}"
        case "d" if len(token) > 2:
            return f"{moment:%a}" if len(token) == 3 else f"{moment:%A}"
        case "d":
            return f"{moment.day:0{len(token)}d}"
        case "h":
            return f"{hour:0{len(token)}d}"
        case "s":
            return f"{moment.second:0{len(token)}d}"
        case "a":
            day = "月火水木金土日"[moment.weekday()]
            return day if len(token) < 4 else f"{day}曜日"
        case "e":
            return f"{era_year:0{len(token)}d}"
        case _:  # g
            return era[min(len(token), 3) - 1]
