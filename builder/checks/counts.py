"""How many things an instruction asks for, and which numbers a text holds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction

from bonsai.builder.checks.numerals import marked
from bonsai.builder.schema import Language

ENGLISH_NUMBER = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    r"|eighteen|nineteen|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:-\w+)?|\d{1,3})"
)
HAN_NUMBER = r"(?:[一二两三四五六七八九十百]+|\d{1,4})"

_UNITS = (
    r"minutes?|hours?|days?|weeks?|months?|years?|people|persons|friends?|guests?|times|percent|per cent|yen|o'clock"
    r"|km|cm|mm|g|kg|ml|litres?|metres?|dollars?|residents|employees|pupils|children"
)
"""behind a number in an instruction they tell of the situation, not of what is asked for"""

_ASKED = {
    Language.JA: re.compile(
        rf"(?P<n>{HAN_NUMBER})(?:つ(?!前|目)|個|通り|とおり|案|点|項目|種類?|例|本|件|問|パターン|方法)"
    ),
    Language.EN: re.compile(rf"\b(?P<n>{ENGLISH_NUMBER})\b(?![-:%°.]|\s*(?:{_UNITS})\b)", re.IGNORECASE),
    Language.ZH: re.compile(rf"(?P<n>{HAN_NUMBER})(?:个(?!人|月|小时|星期|字)|条|种|项|句|点|道|则|样|件|类|招|幅|题)"),
}


def number(text: str) -> int:
    """The value of one number as a pattern of this module found it: digits, an English word, or Han numerals."""
    return int(marked(text).numbers[0].value)


def asked_for(instruction: str, language: Language) -> frozenset[int]:
    """How many things an instruction may be asking for; 'one' only where no other number stands there."""
    plain = unicodedata.normalize("NFKC", instruction)
    values = frozenset(number(found["n"]) for found in _ASKED[language].finditer(plain))
    return values - {1} or values


def digits_in(text: str) -> list[Fraction]:
    """The numbers that are written with digits."""
    return [found.value for found in marked(text).numbers if found.digits]


def values_in(text: str) -> frozenset[Fraction]:
    """All numbers of a text, however written."""
    return frozenset(found.value for found in marked(text).numbers)


def one_step_from(value: Fraction, known: Iterable[Fraction]) -> bool:
    """Whether a number is the sum, difference, product or quotient of two known ones."""
    numbers = [*known]
    return any(
        value in (one + other, one - other, one * other) or (other != 0 and value == one / other)
        for one in numbers
        for other in numbers
    )
