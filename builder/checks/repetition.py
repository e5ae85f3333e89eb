"""Detect repetition in records, and loops at the end of a text that is still being generated.

Refrains that the instruction asks for, tables, laughter and doubled words of good style are left alone.

A model that has begun to repeat itself goes on (Holtzman et al. 2020, arXiv:1904.09751), so the end of the text is
enough to look at. Two things are looked for: the same characters over and over, and the same clauses, whatever number
stands before them. What is short, cries and lines of verse may come again more often.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from bonsai.builder.checks.base import (
    Finding,
    Issue,
    Severity,
    field_instruction,
    iter_text_fields,
    to_findings,
    truncate,
)
from bonsai.builder.checks.text import CJK_LETTER
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category

CHECK = "repetition"

_LOOP = re.compile(r"(?P<unit>\S.{1,39}?)(?P=unit){2,}", re.DOTALL)
_LETTER_LOOP = re.compile(r"(?P<unit>[^\W\d_])(?P=unit){3,}")
_WORD_LOOP = re.compile(r"\b(?P<unit>[a-z]+)(?:[ ,]+(?P=unit)\b){2,}", re.IGNORECASE)
_WORD_TWICE = re.compile(r"\b(?P<unit>the|an?|of|to|is|in|and|it|for|with|as|at|by)\s+(?P=unit)\b", re.IGNORECASE)

_DOUBLED = re.compile(r"(?P<half>.{6,})\s*(?P=half)", re.DOTALL)

_CRY = re.compile(
    r"[はハへヘほホふフひヒわワあアおオうウえエーんンくクぐグ哈呵嘿嘻啊呜哇噢喔嗡咚叮滴答zha]+$"
    r"|(?:ha|he|ho|no|yes|tick|tock|knock|la|na|na|so|well|now|go|bye|buzz|drip|tap|toot|boom|row|wow|いや|はい|まあ|こら|不|好|是)$",
    re.IGNORECASE,
)
_ASKS_FOR_REFRAIN = re.compile(
    r"refrain|repeat|chorus|pantoum|villanelle|rondel|twice|same (?:words|line|sentence)"
    r"|リフレイン|くり返|繰り返|反復|同じ(?:言葉|行|文|句)|叠句|反复|重复|同样的(?:词|句|行)|同一句"
)
_SENTENCE_END = re.compile(r"(?<=[。！？!?；;])|(?<=[.])(?=\s|$)|\n+")
_CLAUSE_END = re.compile(r"[。！？!?；;，、,\n]|[.](?=\s|$)")
_LABEL = re.compile(r"^\s*(?:\d{1,2}[.．、)）]|[-*・])\s*")
_POLITE = re.compile(r"(?:である|であります|でした|です|だ|ます|で)$")
_NEGATION_OR_NUMBER = re.compile(r"[0-9]|not|n't|non|never|less|ない|なく|ぬ|不|没|無|非|未|以外")

_CJK_LEAST, _LATIN_LEAST = 8, 25
"""letters below which a clause may well come twice"""


def repetition_issues(text: str, *, refrain: bool = False) -> Iterator[Issue]:
    """The first repetition in one answer.

    Args:
        refrain: whether repeated lines are asked for; loops are faults all the same.
    """
    if loop := _loop(text):
        yield _fault(loop, "again and again")
        return
    if refrain:
        return
    if doubled := _DOUBLED.fullmatch(text.strip()):
        yield _fault(doubled["half"], "twice, from beginning to end")
        return
    sentences = [key for piece in _SENTENCE_END.split(text) if (key := normalize_clause(piece))]
    for before, after in pairwise(sentences):
        if before == after and len(before) >= 3:
            yield _fault(before, "twice in a row")
            return
    clauses = [key for piece in _CLAUSE_END.split(text) if (key := normalize_clause(piece))]
    for pieces in (sentences, clauses):
        if twice := next(
            (p for n, p in enumerate(pieces) if p in pieces[:n] and is_significant(p, halved=pieces is sentences)), None
        ):
            yield _fault(twice, "twice")
            return
    for one, other in combinations(dict.fromkeys(sentences), 2):
        if is_significant(min(one, other, key=len)) and is_trivial_extension(one, other):
            yield _fault(one, f"twice, the other time as '{truncate(other)}',")
            return


def _loop(text: str) -> str:
    for pattern in (_LOOP, _LETTER_LOOP, _WORD_LOOP, _WORD_TWICE):
        for found in pattern.finditer(text):
            unit = found["unit"]
            letters = re.sub(r"[\W\d_]+", "", unit)
            if letters and not _CRY.match(letters) and not _is_pattern_of_digits(unit) and _is_loop(pattern, letters):
                return found.group()
    return ""


def _is_loop(pattern: re.Pattern[str], letters: str) -> bool:
    """Two letters thrice may be a sound (ころころころ); a Latin unit must be longer than a syllable."""
    if pattern is not _LOOP:
        return True
    return len(letters) >= 2 if CJK_LETTER.search(letters) else len(letters) >= 4


def _is_pattern_of_digits(unit: str) -> bool:
    return sum(character.isdigit() for character in unit) * 2 > len(unit)


def normalize_clause(piece: str) -> str:
    """A sentence or clause for comparison: no label, marks, capitals, politeness or spaces between CJK letters."""
    plain = _LABEL.sub("", unicodedata.normalize("NFKC", piece)).casefold()
    words = re.sub(r"[^\w]+", " ", plain).strip()
    if not CJK_LETTER.search(words):
        return words
    return _POLITE.sub("", words.replace(" ", ""))


def is_significant(key: str, *, halved: bool = False) -> bool:
    """Whether a normalised piece is long enough to be no chance; whole sentences may be shorter."""
    least = _CJK_LEAST if CJK_LETTER.search(key) else _LATIN_LEAST
    return len(key) >= (least * 0.7 if halved else least)


def is_trivial_extension(one: str, other: str) -> bool:
    """Whether the longer of two pieces is the shorter with a little put in, and that is no number and no 'not'."""
    short, long = sorted((one, other), key=len)
    if len(short) < 0.8 * len(long):
        return False
    units: tuple[Sequence[str], Sequence[str]] = (
        (short, long) if CJK_LETTER.search(short) else (short.split(), long.split())
    )
    rest = iter(units[1])
    inserted: list[str] = []
    for unit in units[0]:
        for candidate in rest:
            if candidate == unit:
                break
            inserted.append(candidate)
        else:
            return False
    inserted.extend(rest)
    return not _NEGATION_OR_NUMBER.search(" ".join(inserted))


def _fault(piece: str, how: str) -> Issue:
    return Issue(
        Severity.WARNING,
        f"'{truncate(piece)}' is said {how}",
        "say it once; a model that reads this learns to repeat itself",
    )


def check_repetition(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """Reasoning, outputs and translations; an instruction or input may hold a log or a list of records."""
    for located in groups:
        creative = located.group.category is Category.CREATIVE
        for field in iter_text_fields(located):
            if field.name in ("reasoning", "output", "text"):
                refrain = creative and _ASKS_FOR_REFRAIN.search(field_instruction(field)) is not None
                yield from to_findings(CHECK, field, repetition_issues(field.text, refrain=refrain))


MOST_CHARACTERS = 200
"""of one round of a loop"""
MOST_CLAUSES = 8
CJK_WORTH = 3
"""a CJK letter says about as much as so many Latin ones"""
LONG, MIDDLE = 24, 8
"""worth in Latin letters from which a piece is no chance the second time, and the third"""
MARKS_AT_MOST = 60
"""dots, dashes or digits in a row"""

_VERSE = re.compile(
    r"refrain|chorus|repeat|pantoum|villanelle|poem|\bverse|lyric|\bsong\b|lullab|nursery rhyme"
    r"|リフレイン|くり返|繰り返|反復|詩|短歌|俳句|歌詞|童謡|叠句|反复|重复|诗|歌词|童谣",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[^。！？!?；;，、,.\n]+(?:[。！？!?；;，、,\n]+|\.+(?=\s|$)|\.|$)")
_NUMBER_AT_END = re.compile(r"\n\s*(?:\d{1,3}[.．、)）]|[-*・])\s*$")
_LOOP_SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s|$)")
_CLAUSE_ENDS = "。！？!?；;，、,.\n"


class LoopMatch(NamedTuple):
    """Where a text begins to repeat itself."""

    start: int
    """the text before it says everything once"""
    said: str
    """what is said again"""


class _Clause(NamedTuple):
    key: str
    start: int


def allows_repetition(instruction: str) -> bool:
    """Whether lines may come again because verse or a refrain is asked for."""
    return _VERSE.search(instruction) is not None


def detect_loop(text: str, *, refrain: bool = False) -> LoopMatch | None:
    """The loop that the text ends in; None: it does not.

    Args:
        refrain: whether lines may come again.
    """
    return _same_characters(text, refrain) or _same_clauses(text, refrain)


def trim_to_first(text: str, loop: LoopMatch) -> str:
    """The text up to where it begins to repeat itself, without the number that the next round had."""
    return _NUMBER_AT_END.sub("", text[: loop.start]).rstrip()


def _same_characters(text: str, refrain: bool) -> LoopMatch | None:
    for period in range(1, min(MOST_CHARACTERS, len(text) // 2) + 1):
        if text[-period:] != text[-2 * period : -period]:
            continue
        begin = len(text) - period
        while begin > 0 and text[begin - 1] == text[begin - 1 + period]:
            begin -= 1
        if len(text) - begin >= _min_repeats(text[-period:], refrain) * period:
            start = _sentence_end(text, begin + period)
            return LoopMatch(start, text[start - period : start].strip())
    return None


def _sentence_end(text: str, start: int) -> int:
    """The end of the sentence that ``start`` stands in: a round may begin and end in the middle of one."""
    if _LOOP_SENTENCE_END.search(text[:start].rstrip()[-1:]):
        return start
    end = _LOOP_SENTENCE_END.search(text, start)
    return end.end() if end else start


def _min_repeats(unit: str, refrain: bool) -> float:
    """How often a unit has to come, one after the other, to be a loop."""
    worth = _information_weight(unit)
    if not worth:
        return MARKS_AT_MOST / len(unit)
    rounds = 2 if worth >= LONG else 3 if worth >= MIDDLE else 8
    return rounds * 2 if refrain else rounds


def _information_weight(unit: str) -> int:
    return sum(CJK_WORTH if CJK_LETTER.match(letter) else 1 for letter in unit if letter.isalpha())


def _same_clauses(text: str, refrain: bool) -> LoopMatch | None:
    if not text.rstrip(" ").endswith(tuple(_CLAUSE_ENDS)):
        return None
    clauses = [
        _Clause(key, found.start())
        for found in _CLAUSE.finditer(text)
        if _information_weight(key := normalize_clause(found[0]))
    ]
    keys = [clause.key for clause in clauses]
    for many in range(1, min(MOST_CLAUSES, len(keys) // 2) + 1):
        block = keys[-many:]
        rounds = 4 if refrain else 2
        if is_significant(" ".join(block)) and keys[-many * rounds :] == block * rounds:
            second = clauses[len(keys) - many * (rounds - 1)]
            return LoopMatch(second.start, text[clauses[-many].start :].strip())
    if keys and is_significant(keys[-1]):
        again = [clause for clause in clauses if clause.key == keys[-1]]
        if len(again) >= (6 if refrain else 3):
            return LoopMatch(again[1].start, text[again[-1].start :].strip())
    return None
