"""Names across scripts: whether ブダペスト is Budapest, by its consonants and by what the sentence encoder knows.

Vowels and voicing get lost on the way into katakana, consonants stay in order (after the phonetic keys of Soundex
and its kin); names that Japanese took from another language than English (ウィーン) are left to the encoder.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from pypinyin import lazy_pinyin

from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.rewording import ENGLISH_EMPTY
from bonsai.builder.schema import Language

_KATAKANA = re.compile(r"[ァ-ヴ][ァ-ヴー]+")
_HAN = re.compile(r"[一-鿿]{2,}")
_PERSON = re.compile(r"[一-鿿]{1,4}(?=さん|くん|先生|氏)")
_CAPITALISED = re.compile(r"[A-ZÀ-Þ][a-zà-öø-ɏ]+(?:-[A-Z][a-zà-öø-ɏ]+)?")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;]\s+|\n\s*|[\"“(]\s*)$")

_SURE = 0.75
"""Consonants alone mislead below, and where there are fewer than ``_ENOUGH``: many short names share two of them."""
_ENOUGH = 3
_BARE_NAME = 30
"""Characters up to which a text may be nothing but a name, so that its first word counts."""

_ROWS = {
    "K": "カキクケコガギグゲゴヵヶ",
    "S": "サシスセソザジズゼゾチツヂヅ",
    "T": "タテトダデド",
    "N": "ナニヌネノマミムメモン",
    "P": "パピプペポバビブベボヴフ",
    "R": "ラリルレロ",
}
_KANA = {kana: row for row, members in _ROWS.items() for kana in members}
_LATIN = (
    ("tch", "S"), ("sch", "S"), ("ch", "S"), ("sh", "S"), ("th", "S"), ("ph", "P"), ("ck", "K"), ("qu", "K"),
    ("ts", "S"), ("tz", "S"), ("x", "KS"), ("wr", "R"), ("kn", "N"), ("gh", ""),
)  # fmt: skip
_PINYIN = (
    ("zh", "S"), ("ch", "S"), ("sh", "S"), ("b", "P"), ("p", "P"), ("f", "P"), ("d", "T"), ("t", "T"), ("g", "K"),
    ("k", "K"), ("j", "S"), ("q", "S"), ("x", "S"), ("z", "S"), ("c", "S"), ("s", "S"), ("m", "N"), ("n", "N"),
    ("l", "R"), ("r", "R"),
)  # fmt: skip
_LETTERS = dict(zip("bfpvcgkqdtjszlrmn", "PPPPKKKKTTSSSRRNN", strict=True))


def names(text: str, language: Language) -> list[str]:
    """The names a text shows by their script: katakana words and people in Japanese, capitalised words in English."""
    if language is Language.JA:
        return [*dict.fromkeys([*_KATAKANA.findall(text), *_PERSON.findall(text)])]
    if language is not Language.EN:
        return []
    found: dict[str, None] = {}
    for match in _CAPITALISED.finditer(text):
        if match[0].lower() not in ENGLISH_EMPTY and (
            not _SENTENCE_START.search(text, 0, match.start()) or len(text) <= _BARE_NAME
        ):
            found[match[0]] = None
    return list(found)


@functools.lru_cache(maxsize=65_536)
def consonants(name: str) -> str:
    """The row of each consonant, doubled ones once: Budapest and ブダペスト are both PTPST, 布达佩斯 is PTPS."""
    if _KATAKANA.match(name):
        rows = "".join(_KANA.get(kana, "") for kana in name)
    elif _HAN.match(name):
        rows = "".join(_syllable(syllable) for syllable in lazy_pinyin(name))
    else:
        plain = "".join(
            each for each in unicodedata.normalize("NFKD", name).lower() if each.isascii() and each.isalpha()
        )
        plain = re.sub(r"c(?=[eiy])", "s", plain)
        for letters, row in _LATIN:
            plain = plain.replace(letters, row)
        rows = "".join(_LETTERS.get(each, each if each.isupper() else "") for each in plain)
    return re.sub(r"(.)\1+", r"\1", rows)


def _syllable(pinyin: str) -> str:
    start = next((row for letters, row in _PINYIN if pinyin.startswith(letters)), "")
    return start + ("N" if pinyin[1:].rstrip("g").endswith("n") else "")


def sounds_alike(first: str, second: str) -> float:
    """1 for the same consonants, 0 for none in common; an R that one side lacks (Baker, ベーカー) hardly counts."""
    ours, theirs = consonants(first), consonants(second)
    if not ours or not theirs:
        return 0.0
    distance = min(_distance(ours, theirs), 0.5 + _distance(ours.replace("R", ""), theirs.replace("R", "")))
    return max(0.0, 1 - distance / max(len(ours), len(theirs)))


def heard_in(name: str, chinese: str) -> float:
    """How much like the name the stretch of Chinese text sounds that sounds most like it; for short texts."""
    wanted = len(consonants(name))
    if wanted < _ENOUGH:
        return 0.0
    stretches = {
        run[start : start + size]
        for run in _HAN.findall(chinese)
        for size in range(max(2, wanted - 1), wanted + 2)
        for start in range(max(1, len(run) - size + 1))
    }
    return max((sounds_alike(name, stretch) for stretch in stretches), default=0.0)


def _distance(first: str, second: str) -> int:
    """Levenshtein's."""
    row = list(range(len(second) + 1))
    for number, letter in enumerate(first, 1):
        above, row[0] = row[0], number
        for place, other in enumerate(second, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (letter != other))
    return row[-1]


def same_name(first: str, second: str) -> float:
    """How likely two names are the same (0 to 1): by sound where that is sure, else by what the encoder knows."""
    heard = sounds_alike(first, second)
    if heard >= _SURE and min(len(consonants(first)), len(consonants(second))) >= _ENOUGH:
        return heard
    ours, theirs = vectors([first, second])
    return max(float(ours @ theirs), heard / 2)
