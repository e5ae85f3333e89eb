"""Detect repetition in records, and loops at the end of a text that is still being generated.

Refrains that the instruction asks for, tables, laughter and doubled words of good style are left alone.

A model that has begun to repeat itself goes on (Holtzman et al. 2020, arXiv:1904.09751), so for a loop only the end of
the text is looked at, for two things: the same characters over and over, and the same clauses, whatever number precedes
them. Short pieces, cries and lines of verse may come again more often.

Example:
    >>> [issue.message for issue in repetition_issues("The rope was wet and heavy. The rope was wet and heavy.")]
    ["'The rope was wet and heavy.' is said twice, from beginning to end"]
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from bonsai.builder.checks.base import Finding, Issue, iter_text_fields, to_findings, truncate
from bonsai.builder.checks.text import (
    CJK_LETTER,
    CLAUSE_MARKS,
    SENTENCE_END,
    SENTENCE_MARKS,
    normalize,
    split_at_marks,
)
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category

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
# wider than _ASKS_FOR_REFRAIN: a model that is asked for any verse may repeat lines, a record only where asked to
_VERSE = re.compile(
    r"refrain|chorus|repeat|pantoum|villanelle|poem|\bverse|lyric|\bsong\b|lullab|nursery rhyme"
    r"|リフレイン|くり返|繰り返|反復|詩|短歌|俳句|歌詞|童謡|叠句|反复|重复|诗|歌词|童谣",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^\s*(?:\d{1,2}[.．、)）]|[-*・])\s*")
_POLITE = re.compile(r"(?:である|であります|でした|です|だ|ます|で)$")
_NEGATION_OR_NUMBER = re.compile(r"[0-9]|not|n't|non|never|less|ない|なく|ぬ|不|没|無|非|未|以外")
# with positions, which `split_at_marks` does not give; here every full stop ends a clause, as the text may end anywhere
_CLAUSE = re.compile(r"[^。！？!?；;，、,.\n]+(?:[。！？!?；;，、,\n]+|\.+(?=\s|$)|\.|$)")
_NUMBER_AT_END = re.compile(r"\n\s*(?:\d{1,3}[.．、)）]|[-*・])\s*$")

_CJK_LEAST, _LATIN_LEAST = 8, 25
"""letters below which a clause may well come twice"""
MOST_CHARACTERS = 200
"""of one round of a loop"""
MOST_CLAUSES = 8
CJK_WEIGHT = 3
"""a CJK letter carries about as much information as this many Latin ones"""
LONG, MIDDLE = 24, 8
"""weight in Latin letters from which a piece is no coincidence the second time, and the third"""
MARKS_AT_MOST = 60
"""dots, dashes or digits in a row"""


class LoopMatch(NamedTuple):
    """Where a text begins to repeat itself."""

    start: int
    """the text before it says everything once"""
    unit: str
    """what is repeated"""


def check_repetition(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Check reasoning, outputs and translations; an instruction or input may hold a log or a list of records."""
    findings: list[Finding] = []
    for located in groups:
        creative = located.group.category is Category.CREATIVE
        for field in iter_text_fields(located):
            if field.name.endswith(("reasoning", "output", "text")):
                refrain = creative and _ASKS_FOR_REFRAIN.search(field.instruction) is not None
                findings += to_findings("repetition", field, repetition_issues(field.text, refrain=refrain))
    return findings


def repetition_issues(text: str, *, refrain: bool = False) -> Iterator[Issue]:
    """Yield the first repetition in one answer.

    Args:
        refrain: whether repeated lines are asked for; loops are faults all the same.
    """
    found = _find_repetition(text, refrain)
    if found:
        piece, how = found
        yield Issue.warning(
            f"'{truncate(piece)}' is said {how}", "say it once; a model that reads this learns to repeat itself"
        )


def _find_repetition(text: str, refrain: bool) -> tuple[str, str] | None:
    # 1. The same characters, letter or word over and over. Two CJK letters thrice may be a sound (ころころころ) and so
    #    may a Latin syllable; a unit of digits is a table.
    for pattern in (_LOOP, _LETTER_LOOP, _WORD_LOOP, _WORD_TWICE):
        for found in pattern.finditer(text):
            unit = found["unit"]
            letters = re.sub(r"[\W\d_]+", "", unit)
            least = 1 if pattern is not _LOOP else 2 if CJK_LETTER.search(letters) else 4
            digits = sum(character.isdigit() for character in unit)
            if len(letters) >= least and not _CRY.match(letters) and digits * 2 <= len(unit):
                return found.group(), "again and again"
    if refrain:
        return None

    # 2. The whole text twice.
    if doubled := _DOUBLED.fullmatch(text.strip()):
        return doubled["half"], "twice, from beginning to end"

    # 3. A sentence twice in a row, however short; then a sentence or clause twice that is long enough to be no chance.
    sentences = [key for piece in split_at_marks(text, SENTENCE_MARKS + "；;") if (key := normalize_clause(piece))]
    for before, after in pairwise(sentences):
        if before == after and len(before) >= 3:
            return before, "twice in a row"
    clauses = [key for piece in split_at_marks(text, CLAUSE_MARKS) if (key := normalize_clause(piece))]
    for pieces in (sentences, clauses):
        for number, piece in enumerate(pieces):
            if piece in pieces[:number] and is_significant(piece, halved=pieces is sentences):
                return piece, "twice"

    # 4. A sentence that is another one with a little put in.
    for one, other in combinations(dict.fromkeys(sentences), 2):
        if is_significant(min(one, other, key=len)) and is_trivial_extension(one, other):
            return one, f"twice, the other time as '{truncate(other)}',"
    return None


def normalize_clause(piece: str) -> str:
    """Normalize a sentence or clause as `normalize` does, without list label and Japanese politeness."""
    key = normalize(_LABEL.sub("", unicodedata.normalize("NFKC", piece)))
    return _POLITE.sub("", key) if CJK_LETTER.search(key) else key


def is_significant(key: str, *, halved: bool = False) -> bool:
    """Return whether a normalized piece is too long to come twice by chance; ``halved`` is for whole sentences."""
    least = _CJK_LEAST if CJK_LETTER.search(key) else _LATIN_LEAST
    return len(key) >= (least * 0.7 if halved else least)


def is_trivial_extension(one: str, other: str) -> bool:
    """Return whether the longer of two pieces is the shorter with a little put in that is no number and no negation."""
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


def allows_repetition(instruction: str) -> bool:
    """Return whether lines may come again because the instruction asks for verse or a refrain."""
    return _VERSE.search(instruction) is not None


def detect_loop(text: str, *, refrain: bool = False) -> LoopMatch | None:
    """Find the loop that the text ends in.

    Args:
        refrain: whether lines may come again.

    Returns:
        The loop, or `None` if the text does not end in one.
    """
    # 1. The same characters: the shortest period that the end of the text has, as far back as it goes.
    for period in range(1, min(MOST_CHARACTERS, len(text) // 2) + 1):
        if text[-period:] != text[-2 * period : -period]:
            continue
        begin = len(text) - period
        while begin > 0 and text[begin - 1] == text[begin - 1 + period]:
            begin -= 1
        unit = text[-period:]
        weight = _information_weight(unit)
        rounds: float = 2 if weight >= LONG else 3 if weight >= MIDDLE else 8
        rounds = (rounds * 2 if refrain else rounds) if weight else MARKS_AT_MOST / len(unit)
        if len(text) - begin >= rounds * period:
            # a round may begin in the middle of a sentence: keep that sentence whole
            start = begin + period
            if not SENTENCE_END.search(text[:start].rstrip()[-1:]) and (end := SENTENCE_END.search(text, start)):
                start = end.end()
            return LoopMatch(start, text[start - period : start].strip())

    # 2. The same clauses. An unfinished clause may still turn out different, so the text must end with a mark.
    if not text.rstrip(" ").endswith((*CLAUSE_MARKS, "\n")):
        return None
    clauses = [(normalize_clause(found[0]), found.start()) for found in _CLAUSE.finditer(text)]
    clauses = [(key, start) for key, start in clauses if _information_weight(key)]
    keys = [key for key, _ in clauses]
    for size in range(1, min(MOST_CLAUSES, len(keys) // 2) + 1):
        block = keys[-size:]
        times = 4 if refrain else 2
        if is_significant(" ".join(block)) and keys[-size * times :] == block * times:
            return LoopMatch(clauses[len(keys) - size * (times - 1)][1], text[clauses[-size][1] :].strip())

    # 3. The last clause several times before, with others in between.
    if keys and is_significant(keys[-1]):
        starts = [start for key, start in clauses if key == keys[-1]]
        if len(starts) >= (6 if refrain else 3):
            return LoopMatch(starts[1], text[starts[-1] :].strip())
    return None


def trim_to_first(text: str, loop: LoopMatch) -> str:
    """Cut the text where it begins to repeat itself, without the list number of the next round."""
    return _NUMBER_AT_END.sub("", text[: loop.start]).rstrip()


def _information_weight(unit: str) -> int:
    return sum(CJK_WEIGHT if CJK_LETTER.match(letter) else 1 for letter in unit if letter.isalpha())
