"""Loops at the end of a text in the making: found while it is written, and cut back to where all is said once.

A model that has begun to repeat itself goes on (Holtzman et al. 2020, arXiv:1904.09751), so the end of the text is
enough to look at. Two things are looked for: the same characters over and over, and the same clauses, whatever number
stands before them. What is short, cries and lines of verse may come again more often.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bonsai.builder.checks.repetition import is_long, normalised
from bonsai.builder.checks.scripts import CJK_LETTER

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
_SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s|$)")
_CLAUSE_ENDS = "。！？!?；;，、,.\n"


class Loop(NamedTuple):
    """Where a text begins to repeat itself."""

    start: int
    """the text before it says everything once"""
    said: str
    """what is said again"""


class _Clause(NamedTuple):
    key: str
    start: int


def may_repeat(instruction: str) -> bool:
    """Whether lines may come again because verse or a refrain is asked for."""
    return _VERSE.search(instruction) is not None


def loop_at_end(text: str, *, refrain: bool = False) -> Loop | None:
    """The loop that the text ends in; None: it does not.

    Args:
        refrain: whether lines may come again.
    """
    return _same_characters(text, refrain) or _same_clauses(text, refrain)


def once(text: str, loop: Loop) -> str:
    """The text up to where it begins to repeat itself, without the number that the next round had."""
    return _NUMBER_AT_END.sub("", text[: loop.start]).rstrip()


def _same_characters(text: str, refrain: bool) -> Loop | None:
    for period in range(1, min(MOST_CHARACTERS, len(text) // 2) + 1):
        if text[-period:] != text[-2 * period : -period]:
            continue
        begin = len(text) - period
        while begin > 0 and text[begin - 1] == text[begin - 1 + period]:
            begin -= 1
        if len(text) - begin >= _rounds(text[-period:], refrain) * period:
            start = _sentence_end(text, begin + period)
            return Loop(start, text[start - period : start].strip())
    return None


def _sentence_end(text: str, start: int) -> int:
    """The end of the sentence that ``start`` stands in: a round may begin and end in the middle of one."""
    if _SENTENCE_END.search(text[:start].rstrip()[-1:]):
        return start
    end = _SENTENCE_END.search(text, start)
    return end.end() if end else start


def _rounds(unit: str, refrain: bool) -> float:
    """How often a unit has to come, one after the other, to be a loop."""
    worth = _worth(unit)
    if not worth:
        return MARKS_AT_MOST / len(unit)
    rounds = 2 if worth >= LONG else 3 if worth >= MIDDLE else 8
    return rounds * 2 if refrain else rounds


def _worth(unit: str) -> int:
    return sum(CJK_WORTH if CJK_LETTER.match(letter) else 1 for letter in unit if letter.isalpha())


def _same_clauses(text: str, refrain: bool) -> Loop | None:
    if not text.rstrip(" ").endswith(tuple(_CLAUSE_ENDS)):
        return None
    clauses = [_Clause(key, found.start()) for found in _CLAUSE.finditer(text) if _worth(key := normalised(found[0]))]
    keys = [clause.key for clause in clauses]
    for many in range(1, min(MOST_CLAUSES, len(keys) // 2) + 1):
        block = keys[-many:]
        rounds = 4 if refrain else 2
        if is_long(" ".join(block)) and keys[-many * rounds :] == block * rounds:
            second = clauses[len(keys) - many * (rounds - 1)]
            return Loop(second.start, text[clauses[-many].start :].strip())
    if keys and is_long(keys[-1]):
        again = [clause for clause in clauses if clause.key == keys[-1]]
        if len(again) >= (6 if refrain else 3):
            return Loop(again[1].start, text[again[-1].start :].strip())
    return None
