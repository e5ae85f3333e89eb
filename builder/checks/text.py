"""Normalize texts, split them into sentences, and classify characters by script.

The national character sets decide whose a character is, and OpenCC's tables say which form is simplified, traditional
or shinjitai: JIS X 0208 is what Japanese is printed with, GB 2312 what simplified Chinese is.

Example:
    >>> split_sentences('Mr. Mori said "Run!" and left. Why?')
    ['A Mori said Q and left.', 'Why?']
    >>> normalize("琵琶湖 は、広い。")
    '琵琶湖は広い'
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

import opencc

KANA = r"\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fd\u30fe\uff66-\uff9f"
HAN = r"\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
KANA_LETTER = re.compile(f"[{KANA}]")
HIRAGANA_LETTER = re.compile(r"[\u3041-\u3096]")
HAN_LETTER = re.compile(f"[{HAN}]")
CJK_LETTER = re.compile(f"[{KANA}{HAN}ー]")
LATIN_LETTER = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]")
OTHER_LETTERS = re.compile(
    r"[\u0400-\u052f]{2,}|[\u0370-\u03ff]{4,}|[\u0590-\u08ff]{2,}|[\u0900-\u0dff]{2,}|[\u0e00-\u0eff]{2,}|[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]+"
)
"""Cyrillic, Greek words (single letters are formulas), Hebrew and Arabic, Indic, Thai and Lao, Korean"""

_HAN_BLOCK = [chr(code) for code in range(0x4E00, 0xA000)]

_JIS_IN_NAME_ONLY = frozenset("个么")
"""listed in the second level of JIS X 0208, but in running Japanese they are simplified Chinese"""

_STANDARD_IN_CHINESE = frozenset("瞭昇邨堃喆犇甯陞甦仝氾澂龢勠瞋噘蹚皙瀞")
"""outside GB 2312, yet standard by the Table of General Standard Chinese Characters of 2013 (mostly names)"""


def _encodes(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _changed_by(conversion: str) -> set[str]:
    converted = opencc.OpenCC(conversion).convert("\n".join(_HAN_BLOCK)).split("\n")
    return {before for before, after in zip(_HAN_BLOCK, converted, strict=True) if before != after}


@functools.cache
def simplified_only() -> frozenset[str]:
    """Return the Han characters that simplified Chinese uses and Japanese does not: 认, 饮, 广."""
    simplified = _changed_by("s2t")
    return frozenset(c for c in simplified if not _encodes(c, "shift_jis")) | _JIS_IN_NAME_ONLY


@functools.cache
def not_simplified() -> frozenset[str]:
    """Return the Han characters that simplified Chinese does not use: traditional 縣, shinjitai 広, kokuji 込."""
    foreign = _changed_by("t2s") | _changed_by("jp2t")
    foreign |= {c for c in _HAN_BLOCK if _encodes(c, "shift_jis") and not _encodes(c, "big5")}
    return frozenset(c for c in foreign if not _encodes(c, "gb2312")) - _STANDARD_IN_CHINESE


def script_counts(text: str) -> tuple[int, int, int]:
    """Count the kana, Han and Latin letters of a text."""
    return len(KANA_LETTER.findall(text)), len(HAN_LETTER.findall(text)), len(LATIN_LETTER.findall(text))


SENTENCE_MARKS = "。！？!?."
CLAUSE_MARKS = f"{SENTENCE_MARKS}；;，、,"
SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s|$)")

_QUOTE = re.compile(r"(?P<open>「|“|『|\")(?P<inner>[^「」“”『』\"]*)[」”』\"]")
_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|vs|etc|Co|Ltd|Jr|Sr|Fig|approx|[A-Z]|a\.m|p\.m|e\.g|i\.e|D\.C|U\.S)\.(?!\s*$)"
)
_DECIMAL = re.compile(r"(?<=\d)\.(?=\d)|^\s*\d{1,2}\.\s", re.MULTILINE)
_ELLIPSIS = re.compile(r"\.{3,}|…+")
# unlike SENTENCE_END, a run of marks ("?!") is one end, and a full stop may close a bracket
_END = re.compile(r"[。！？!?]+|\.+(?=\s|$|\))")
_MAYBE = "\x01"
"""marks a possible end: an ellipsis, or a quotation that holds a whole sentence"""


def normalize(text: str) -> str:
    """Normalize a text for comparison: NFKC, case folded, no marks, no spaces between CJK letters."""
    words = re.sub(r"[^\w]+", " ", unicodedata.normalize("NFKC", text)).casefold().strip()
    return words.replace(" ", "") if CJK_LETTER.search(words) else words


@functools.lru_cache(maxsize=65_536)
def normalize_alnum(text: str) -> str:
    """Normalize a text to its letters and digits alone: NFKC, case folded, no spaces in any language."""
    return "".join(each for each in unicodedata.normalize("NFKC", text).casefold() if each.isalnum())


def fold(text: str) -> str:
    """Normalize a text by NFKC and case folding alone, so that marks and spaces can still be matched."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def split_at_marks(text: str, marks: str) -> list[str]:
    """Split a text behind each of ``marks`` (a full stop only before a space) and at new lines, even in quotations."""
    full_stop = r"(?<=\.)(?=\s|$)|" if "." in marks else ""
    return re.split(rf"(?<=[{marks.replace('.', '')}])|{full_stop}\n+", text)


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences; a quotation becomes ``Q`` and ends no sentence."""
    plain = _mask_quotations(text).replace(_MAYBE, "")
    return [piece.strip() for piece in re.findall(rf"[^。！？!?\n]+?(?:{_END.pattern}|\n|$)", plain) if piece.strip()]


class SentenceCount(NamedTuple):
    """The fewest and the most sentences that a text can be said to have."""

    fewest: int
    most: int


def count_sentences(text: str) -> SentenceCount:
    """Count sentences as a range: a line without a mark, as the name below a letter, may or may not be a sentence."""
    plain = _mask_quotations(text)
    marks = [mark for line in plain.replace(_MAYBE, "").split("\n") for mark in _END.findall(line)]
    pieces = _END.split(re.sub(rf"{_MAYBE}|\n+", "。", plain))
    return SentenceCount(len(marks) or 1, sum(bool(re.search(r"\w", piece)) for piece in pieces))


def _mask_quotations(text: str) -> str:
    """Replace what looks like the end of a sentence and is none: abbreviations, decimals, ellipses and quotations."""
    plain = _DECIMAL.sub("", _ABBREVIATION.sub("A", text))
    plain = _ELLIPSIS.sub(_MAYBE, plain)
    return _QUOTE.sub(lambda quote: "Q" + (_MAYBE if re.search(r"[。！？!?.]$", quote["inner"]) else ""), plain)
