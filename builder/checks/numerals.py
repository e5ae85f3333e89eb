"""Numbers as they are spelled: 42,000 and 4万2千 and 四萬二千 and forty-two thousand are one value.

Script decides, not the language of the field: an English record may hold a Japanese passage. Each number found is
replaced by a mark, so that units can be read behind any spelling (`bonsai.builder.checks.quantities`).
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple


class Number(NamedTuple):
    """A number in a text."""

    value: Fraction
    text: str
    digits: bool
    """written with digits, so certainly meant as a number; 三 may be part of a name"""
    alternative: Fraction | None = None
    """the other reading, if there is one: "a third" is 1/3 or the third one"""


class Marked(NamedTuple):
    """A text in which the i-th number stands as ``⟨i⟩``."""

    text: str
    numbers: tuple[Number, ...]


_HAN_DIGITS = {
    character: value
    for value, characters in enumerate(("〇零", "一壱", "二两兩弐", "三", "四", "五", "六", "七", "八", "九"))
    for character in characters
}
_HAN_SMALL = {"十": 10, "百": 100, "千": 1000}
_HAN_LARGE = {"万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8, "兆": 10**12}

_CARDINALS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16,
    "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30, "hundredth": 100,
    "thousandth": 1000,
}  # fmt: skip
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
"""eleven thirty, nine oh five: no count is spoken so; a time, a year or a price."""

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
"""Behind three fifteen-minute breaks: two counts side by side."""
_VULGAR = re.compile("[¼-¾⅐-⅞]")


def marked(text: str) -> Marked:
    """The text after NFKC, each number replaced by ``⟨i⟩``; digits inside a word (M4, CO2) are left alone.

    ``eleven thirty`` becomes ``⟨i⟩:⟨j⟩``, as 11:30 does.
    """
    spaced = _VULGAR.sub(lambda found: f" {unicodedata.normalize('NFKC', found[0])}", text)
    plain = unicodedata.normalize("NFKC", spaced).replace("⁄", "/").replace("−", "-")
    numbers: list[Number] = []

    def mark(found: re.Match[str]) -> str:
        if found["twoparts"]:
            hour, minute = (_english(found[part].lower()) for part in ("hour", "minute"))
            numbers.append(Number(hour, found["hour"], digits=False))
            numbers.append(Number(minute, found["minute"], digits=False))
            between = " " if _OF_A_THING.match(found.string, found.end()) else ":"
            return f"⟨{len(numbers) - 2}⟩{between}⟨{len(numbers) - 1}⟩"
        number = _number(found)
        if number is None:
            return found[0]
        numbers.append(number)
        return f"⟨{len(numbers) - 1}⟩"

    return Marked(_SPELLED.sub(mark, plain), tuple(numbers))


def _number(found: re.Match[str]) -> Number | None:
    text = found[0]
    if found["mixed"]:
        return _over(int(found["over"]), int(found["under"]), text, int(found["whole"]))
    if found["numerator"]:
        return _over(int(found["numerator"]), int(found["denominator"]), text)
    if found["lower"]:
        lower, upper = _east(found["lower"]), _east(found["upper"])
        return Number(upper / lower, text, digits=True) if lower else None
    if found["part"]:
        count = Fraction(_CARDINALS.get(found["count"].lower(), 1))
        parts = _PARTS[found["part"].lower()]
        ordinal = Fraction(parts) if found["count"].lower() in ("a", "one") else None
        return Number(count / parts, text, digits=False, alternative=ordinal)
    if found["halfdozen"]:
        return Number(Fraction(6), text, digits=False)
    if found["ordinal"]:
        tens, _, last = text.lower().rpartition("-")
        return Number(Fraction(_CARDINALS.get(tens, 0) + _ORDINALS[last]), text, digits=False)
    if found["arabic"]:
        first, *scales = re.split(r"[-\s]", text.lower())
        value = _digits(first)
        for scale in scales:
            value *= _SCALES[scale]
        return Number(value, text, digits=True)
    if found["words"]:
        return Number(_english(text.lower()) + (Fraction(1, 2) if found["half"] else 0), text, digits=False)
    if found["east"]:
        return Number(_east(text), text, digits=text[0].isdigit())
    value = _digits(text.rstrip("stndrhSTNDRH"))
    shared = _SHARED_SCALE.match(found.string, found.end())
    scale = _SCALES.get((shared["word"] or "").lower()) or _HAN_LARGE[shared["han"]] if shared else None
    return Number(value, text, digits=True, alternative=value * scale if scale else None)


def _over(upper: int, lower: int, text: str, whole: int = 0) -> Number | None:
    return Number(whole + Fraction(upper, lower), text, digits=True) if lower else None


def _digits(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _english(text: str) -> Fraction:
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


def _east(text: str) -> Fraction:
    """四万二千, 4万2千, 4.2万, 二〇二四, 9.46万亿."""
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
            current = Fraction(_HAN_DIGITS[token]) if token in _HAN_DIGITS else _digits(token)
    return total + section + (current or 0)
