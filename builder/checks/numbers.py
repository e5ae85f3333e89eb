"""Read numbers, units and counts from Japanese, English and Chinese text.

Script decides, not the language of the field: an English record may hold a Japanese passage. Each number found is
replaced by a mark, so that units can be read behind any spelling (`bonsai.builder.checks.quantities`).

Base units: second, month (for months and years), metre, square metre, litre, gram, degree, yen; shares are of 1.
Where a word has two readings (キロ, 分, 日) both are given, since the other language shows which one is meant.

Example:
    >>> marked = mark_numbers("四万二千円 for half a dozen")
    >>> marked.text, [int(number.value) for number in marked.numbers]
    ('⟨0⟩円 for ⟨1⟩', [42000, 6])
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction
from math import prod
from typing import NamedTuple

from bonsai.builder.assets import load_table
from bonsai.builder.schema import Language


class Number(NamedTuple):
    """A number in a text."""

    value: Fraction
    text: str
    digits: bool
    """written with digits, so certainly meant as a number; 三 may be part of a name"""
    alternative: Fraction | None = None
    """the other reading, if there is one: "a third" is 1/3 or the third one"""


class MarkedText(NamedTuple):
    """A text in which the i-th number is replaced by ``⟨i⟩``."""

    text: str
    numbers: tuple[Number, ...]


class Unit(NamedTuple):
    """One reading of a unit."""

    dimension: str
    factor: Fraction


_HAN_DIGITS = {
    character: value
    for value, characters in enumerate(("〇零", "一壱", "二两兩弐", "三", "四", "五", "六", "七", "八", "九"))
    for character in characters
}
_HAN_SMALL = {"十": 10, "百": 100, "千": 1000}
_HAN_LARGE = {"万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8, "兆": 10**12}

_WORDS = load_table(__package__, "numbers.toml")
_CARDINALS, _SCALES, _ORDINALS = _WORDS["cardinals"], _WORDS["scales"], _WORDS["ordinals"]
_PARTS = {word: value for word, value in _ORDINALS.items() if value > 2} | {"half": 2, "quarter": 4, "halve": 2}

_LATIN = r"0-9A-Za-zÀ-ÖØ-öø-ɏ"
_ARABIC = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_HAN = "〇零一壱二两兩弐三四五六七八九十百千万萬億亿兆"
_EAST = rf"(?:{_ARABIC})[百千]?[万萬億亿兆](?:(?:{_ARABIC})?[{_HAN}]?)*|(?:{_ARABIC})千|[{_HAN}]+"
_WORD = "|".join(sorted([*_CARDINALS, *_SCALES], key=len, reverse=True))
_ORDINAL = "|".join(sorted(_ORDINALS, key=len, reverse=True))
_PART = "|".join(sorted(_PARTS, key=len, reverse=True))
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"

_UNIT = "one|two|three|four|five|six|seven|eight|nine"
_TEEN = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TWO_PARTS = (
    rf"\b(?P<hour>{_UNIT}|{_TEEN}|twenty(?:[\s-](?:one|two|three|four))?)[\s-]"
    rf"(?P<minute>oh?[\s-](?:{_UNIT})|{_TEEN}|(?:twenty|thirty|forty|fifty)(?:[\s-](?:{_UNIT}))?)\b"
    r"(?!\s+(?:and|hundred|thousand|million|billion)\b)"
)
"""eleven thirty, nine oh five: no count is spoken like that; a time, a year or a price."""

# the order of the alternatives matters: a mixed fraction before a fraction, a fraction before its digits
_SPELLED = re.compile(
    rf"(?P<mixed>(?<![{_LATIN}/.,])(?P<whole>\d+)(?:\s+|と|又|\s*and\s+)(?P<over>\d+)/(?P<under>\d+)(?![/\d]))"
    rf"|(?P<numerator>(?<![{_LATIN}/.,])\d+)/(?P<denominator>\d+)(?![/\d])"
    rf"|(?<![時时点{_HAN}])(?P<lower>[{_HAN}]+|(?<!\d)\d+)分[の之](?P<upper>[{_HAN}]+|\d+)"
    rf"|(?P<count>\b(?:an?|one|two|three|four|five|six|seven|eight|nine))[- ](?P<part>{_PART})s?\b"
    rf"(?![-\s]centur)"
    rf"|(?P<halfdozen>\bhalf\s+a\s+dozen\b)"
    rf"|(?P<ordinal>\b(?:(?:{_TENS})-)?(?:{_ORDINAL})\b)"
    rf"|(?P<twoparts>{_TWO_PARTS})"
    rf"|(?P<arabic>(?<![{_LATIN}])(?:{_ARABIC})(?:[-\s](?:hundred|thousand|million|billion|trillion|dozen)\b)+)"
    rf"|(?P<words>(?<!few )(?<!several )(?<!many )\b(?:a\s+(?:hundred|thousand|million|billion|dozen)|{_WORD})"
    rf"(?:(?:\s+and\s+|[-\s])(?:{_WORD}))*\b(?P<half>\s+and\s+a\s+half\b)?)"
    rf"|(?P<east>(?<![数何几{_LATIN}.])(?:{_EAST}))"
    rf"|(?P<plain>(?<![{_LATIN}.])(?:{_ARABIC})(?:st|nd|rd|th)?)",
    re.IGNORECASE,
)
_SHARED_SCALE = re.compile(
    rf"\s?(?:,|and|to|or|[-~–、〜]|から)\s?(?:{_ARABIC})\s?(?:(?P<word>thousand|million|billion|trillion)\b|(?P<han>[万億亿]))",
    re.IGNORECASE,
)
"""2 and 6 million, 2〜3万: the scale may belong to both."""
_OF_A_THING = re.compile(r"-[a-z]|\s+(?:minute|hour|second|day|week|month|year|percent|per cent)", re.IGNORECASE)
"""follows the number in "three fifteen-minute breaks": two counts side by side"""
_VULGAR = re.compile("[¼-¾⅐-⅞]")

BARE = Unit("", Fraction(1))
"""A plain count, or a unit this table doesn't know."""

_UNIT_TABLE = _WORDS["units"]["table"]
UNITS: tuple[tuple[Unit, ...], ...] = tuple(
    tuple(Unit(dimension, Fraction(factor)) for dimension, factor in (one.split(" ") for one in readings.split("|")))
    for readings, _ in _UNIT_TABLE
)

BEHIND = re.compile(
    r"(?:余り?|多|数)?[ \-]?(?:"
    + "|".join(f"(?P<u{number}>{words})" for number, (_, words) in enumerate(_UNIT_TABLE))
    + ")"
)
"""matches right behind a number; the name of the group that matched is ``u`` and the index in ``UNITS``"""

BEFORE = re.compile(r"(?:¥|￥|\$|€|第|No\.? ?|大さじ|小さじ)$")
"""what makes the number behind it one that counts"""

ERAS, MONTHS, WEEKDAYS = _WORDS["eras"], _WORDS["months"], _WORDS["weekdays"]

# what an instruction may count
ENGLISH_NUMBER = rf"(?:{_UNIT}|{_TEEN}|(?:{_TENS})(?:-\w+)?|\d{{1,3}})"
HAN_NUMBER = r"(?:[一二两三四五六七八九十百]+|\d{1,4})"

_UNITS = (
    r"minutes?|hours?|days?|weeks?|months?|years?|people|persons|friends?|guests?|times|percent|per cent|yen|o'clock"
    r"|km|cm|mm|g|kg|ml|litres?|metres?|dollars?|residents|employees|pupils|children"
)
"""behind a number in an instruction they describe the situation, not what is asked for"""

_ASKED = {
    Language.JA: re.compile(
        rf"(?P<n>{HAN_NUMBER})(?:つ(?!前|目)|個|通り|とおり|案|点|項目|種類?|例|本|件|問|パターン|方法)"
    ),
    Language.EN: re.compile(rf"\b(?P<n>{ENGLISH_NUMBER})\b(?![-:%°.]|\s*(?:{_UNITS})\b)", re.IGNORECASE),
    Language.ZH: re.compile(rf"(?P<n>{HAN_NUMBER})(?:个(?!人|月|小时|星期|字)|条|种|项|句|点|道|则|样|件|类|招|幅|题)"),
}


def mark_numbers(text: str) -> MarkedText:
    """Normalize a text by NFKC and replace each number by ``⟨i⟩``; digits inside a word (M4, CO2) are left alone.

    ``eleven thirty`` becomes ``⟨i⟩:⟨j⟩``, as 11:30 does.
    """
    spaced = _VULGAR.sub(lambda found: f" {unicodedata.normalize('NFKC', found[0])}", text)
    plain = unicodedata.normalize("NFKC", spaced).replace("⁄", "/").replace("−", "-")
    numbers: list[Number] = []

    def mark(found: re.Match[str]) -> str:
        if found["twoparts"]:
            for part in ("hour", "minute"):
                numbers.append(Number(_parse_english(found[part].lower()), found[part], digits=False))
            between = " " if _OF_A_THING.match(found.string, found.end()) else ":"
            return f"⟨{len(numbers) - 2}⟩{between}⟨{len(numbers) - 1}⟩"
        number = _parse_match(found)
        if number is None:
            return found[0]
        numbers.append(number)
        return f"⟨{len(numbers) - 1}⟩"

    return MarkedText(_SPELLED.sub(mark, plain), tuple(numbers))


def parse_count(text: str) -> int:
    """Parse one number as a pattern of this module found it: digits, an English word, or Han numerals."""
    return int(mark_numbers(text).numbers[0].value)


def requested_counts(instruction: str, language: Language) -> frozenset[int]:
    """Return how many things an instruction may be asking for; 'one' only where it has no other number."""
    plain = unicodedata.normalize("NFKC", instruction)
    values = frozenset(parse_count(found["n"]) for found in _ASKED[language].finditer(plain))
    return values - {1} or values


def digits_in(text: str) -> list[Fraction]:
    """Return the numbers that are written with digits."""
    return [found.value for found in mark_numbers(text).numbers if found.digits]


def values_in(text: str) -> frozenset[Fraction]:
    """Return all numbers of a text, however written."""
    return frozenset(found.value for found in mark_numbers(text).numbers)


def is_derivable(value: Fraction, known: Iterable[Fraction]) -> bool:
    """Return whether a number is the sum, difference, product or quotient of two known ones."""
    numbers = [*known]
    return any(
        value in (one + other, one - other, one * other) or (other != 0 and value == one / other)
        for one in numbers
        for other in numbers
    )


def _parse_match(found: re.Match[str]) -> Number | None:
    """Parse one match of ``_SPELLED``; `None` for a fraction of zero parts."""
    text = found[0]

    # 1. Fractions: 2 1/2, 1/2, 六分之一, three quarters; "a third" may be the third one.
    if found["mixed"]:
        under = int(found["under"])
        return Number(int(found["whole"]) + Fraction(int(found["over"]), under), text, digits=True) if under else None
    if found["numerator"]:
        under = int(found["denominator"])
        return Number(Fraction(int(found["numerator"]), under), text, digits=True) if under else None
    if found["lower"]:
        lower, upper = _parse_cjk_number(found["lower"]), _parse_cjk_number(found["upper"])
        return Number(upper / lower, text, digits=True) if lower else None
    if found["part"]:
        count = Fraction(_CARDINALS.get(found["count"].lower(), 1))
        parts = _PARTS[found["part"].lower()]
        ordinal = Fraction(parts) if found["count"].lower() in ("a", "one") else None
        return Number(count / parts, text, digits=False, alternative=ordinal)

    # 2. Words: half a dozen, twenty-first, 3 dozen, forty-two thousand; then 四万二千.
    if found["halfdozen"]:
        return Number(Fraction(6), text, digits=False)
    if found["ordinal"]:
        tens, _, last = text.lower().rpartition("-")
        return Number(Fraction(_CARDINALS.get(tens, 0) + _ORDINALS[last]), text, digits=False)
    if found["arabic"]:
        first, *scales = re.split(r"[-\s]", text.lower())
        return Number(_parse_digits(first) * prod(_SCALES[scale] for scale in scales), text, digits=True)
    if found["words"]:
        return Number(_parse_english(text.lower()) + (Fraction(1, 2) if found["half"] else 0), text, digits=False)
    if found["east"]:
        return Number(_parse_cjk_number(text), text, digits=text[0].isdigit())

    # 3. Digits, whose scale may come after another number: 2 and 6 million.
    value = _parse_digits(text.rstrip("stndrhSTNDRH"))
    shared = _SHARED_SCALE.match(found.string, found.end())
    scale = _SCALES.get((shared["word"] or "").lower()) or _HAN_LARGE[shared["han"]] if shared else None
    return Number(value, text, digits=True, alternative=value * scale if scale else None)


def _parse_digits(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _parse_english(text: str) -> Fraction:
    total, section = Fraction(0), Fraction(0)
    for word in re.findall(r"[a-z]+", text.removesuffix(" and a half")):
        if word in _CARDINALS:
            section += _CARDINALS[word]
        elif word in _SCALES:
            scale = _SCALES[word]
            section = max(section, Fraction(1)) * scale
            if scale >= 1000:
                total, section = total + section, Fraction(0)
    return total + section


def _parse_cjk_number(text: str) -> Fraction:
    """Parse 四万二千, 4万2千, 4.2万, 二〇二四, 9.46万亿."""
    if len(text) > 1 and all(character in _HAN_DIGITS for character in text):
        return Fraction("".join(str(_HAN_DIGITS[character]) for character in text))
    total, section, current = Fraction(0), Fraction(0), None
    for token in re.findall(rf"{_ARABIC}|[{_HAN}]", text):
        if token in _HAN_SMALL:
            section += (1 if current is None else current) * _HAN_SMALL[token]
            current = None
        elif token in _HAN_LARGE:
            section += current or 0
            if section:
                total += section * _HAN_LARGE[token]
            else:
                total = max(total, Fraction(1)) * _HAN_LARGE[token]
            section, current = Fraction(0), None
        else:
            current = Fraction(_HAN_DIGITS[token]) if token in _HAN_DIGITS else _parse_digits(token)
    return total + section + (current or 0)
