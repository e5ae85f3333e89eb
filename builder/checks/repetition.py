"""An answer that repeats itself: what the posts' model did, and what no record may teach.

Refrains that the instruction asks for, tables, laughter and doubled words of good style are left alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.scripts import CJK_LETTER
from bonsai.builder.checks.text_fields import Fault, fields_of, findings, instruction_of, shortened
from bonsai.builder.reader import Located
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


def repeated(text: str, *, refrain: bool = False) -> Iterator[Fault]:
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
    sentences = [key for piece in _SENTENCE_END.split(text) if (key := normalised(piece))]
    for before, after in pairwise(sentences):
        if before == after and len(before) >= 3:
            yield _fault(before, "twice in a row")
            return
    clauses = [key for piece in _CLAUSE_END.split(text) if (key := normalised(piece))]
    for pieces in (sentences, clauses):
        if twice := next(
            (p for n, p in enumerate(pieces) if p in pieces[:n] and is_long(p, halved=pieces is sentences)), None
        ):
            yield _fault(twice, "twice")
            return
    for one, other in combinations(dict.fromkeys(sentences), 2):
        if is_long(min(one, other, key=len)) and adds_nothing(one, other):
            yield _fault(one, f"twice, the other time as '{shortened(other)}',")
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


def normalised(piece: str) -> str:
    """A sentence or clause for comparison: no label, marks, capitals, politeness or spaces between CJK letters."""
    plain = _LABEL.sub("", unicodedata.normalize("NFKC", piece)).casefold()
    words = re.sub(r"[^\w]+", " ", plain).strip()
    if not CJK_LETTER.search(words):
        return words
    return _POLITE.sub("", words.replace(" ", ""))


def is_long(key: str, *, halved: bool = False) -> bool:
    """Whether a normalised piece is long enough to be no chance; whole sentences may be shorter."""
    least = _CJK_LEAST if CJK_LETTER.search(key) else _LATIN_LEAST
    return len(key) >= (least * 0.7 if halved else least)


def adds_nothing(one: str, other: str) -> bool:
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


def _fault(piece: str, how: str) -> Fault:
    return Fault(
        Severity.WARNING,
        f"'{shortened(piece)}' is said {how}",
        "say it once; a model that reads this learns to repeat itself",
    )


def check_repetition(groups: Sequence[Located]) -> Iterator[Finding]:
    """Reasoning, outputs and translations; an instruction or input may hold a log or a list of records."""
    for located in groups:
        creative = located.group.category is Category.CREATIVE
        for field in fields_of(located):
            if field.name in ("reasoning", "output", "text"):
                refrain = creative and _ASKS_FOR_REFRAIN.search(instruction_of(field)) is not None
                yield from findings(CHECK, field, repeated(field.text, refrain=refrain))
