"""Find records that answer the same question differently.

Similarity is no help (an answer and its negation score .9), so what can be compared exactly is: yes and no, quantities,
and then the words themselves.

Only where a category has one answer. Questions in other words are found by sentence vectors and judged by
`bonsai.builder.checks.paraphrase`; parallel languages are compared by `bonsai.builder.checks.parallel`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from bonsai.builder.checks.base import Finding, QAView, Severity, iter_qa_views, truncate
from bonsai.builder.checks.paraphrase import (
    ROWS_AT_MOST,
    content_words,
    embed,
    normalize_alnum,
    pairs_above,
    paraphrase_probability,
)
from bonsai.builder.checks.quantities import extract_quantities, quantity_mismatch, share_dimension, unmatched_digits
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import SINGLE_ANSWER, Category, Language, TranslationGroup

_YES = re.compile(
    r"^\W*(?:はい|ええ|そうです|yes\b|是的?(?![哪何])|对[，。,.]|对$|会[。，,]|能[。，,]|可以|有[。，,])", re.IGNORECASE
)
_NO = re.compile(r"^\W*(?:いいえ|いえ|違います|no\b(?!\.)|not\b|不[是会能对，。,]|不可以|没有|否)", re.IGNORECASE)
_SHORT = 60
"""Characters up to which an answer is a name or a label rather than an explanation."""
_SHARED = 0.5


class AnswerConflict(NamedTuple):
    """What two answers differ in."""

    ours: str
    theirs: str


def yes_no_polarity(answer: str) -> bool | None:
    """True for an answer that begins with yes, False for no, None for any other."""
    if _NO.search(answer) or answer.strip(" .!。").casefold() == "no":
        return False
    return True if _YES.search(answer) else None


def find_conflict(first: str, second: str) -> AnswerConflict | None:
    """What excludes the one answer if the other is right; None if they can stand together."""
    if normalize_alnum(first) == normalize_alnum(second):
        return None
    ours, theirs = yes_no_polarity(first), yes_no_polarity(second)
    if ours is not None and theirs is not None and ours != theirs:
        return AnswerConflict("yes" if ours else "no", "yes" if theirs else "no")
    numbers = quantity_mismatch(first, second)
    if all(numbers):
        return AnswerConflict(*(", ".join(each.text for each in side) for side in numbers))
    more, less = (
        unmatched_digits(extract_quantities(first), extract_quantities(second)),
        unmatched_digits(extract_quantities(second), extract_quantities(first)),
    )
    if any(share_dimension(one, other) for one in more for other in less):
        return AnswerConflict(*(", ".join(each.text for each in side) for side in (more, less)))
    if any(one.weight for one in extract_quantities(first)) and any(one.weight for one in extract_quantities(second)):
        return None
    if min(len(first), len(second)) > _SHORT or ours is not None or theirs is not None:
        return None
    words, others = content_words(first), content_words(second)
    if words and others and len(words & others) < _SHARED * min(len(words), len(others)):
        return AnswerConflict(first.strip(), second.strip())
    return None


LOOKED_AT_FROM = 0.6
"""Cosine of two questions from which they are compared at all."""
SAME_FROM = 0.5
SHORT = 120
"""Characters up to which a text is a question that can be reworded."""
UNLIKE = 0.4
"""Cosine below which two texts are no translations of the same."""


def check_contradiction(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """Conflicting answers within a language: errors where the question is the same, warnings where it is reworded."""
    records = list(iter_qa_views(groups))
    yield from _translations([one for one in records if one.located.group.category is Category.TRANSLATION])
    single = [one for one in records if one.instruction and one.located.group.category in SINGLE_ANSWER]
    for language in Language:
        spoken = [one for one in single if one.language is language]
        pairs = dict.fromkeys(_exact_pairs(spoken), 1.0)
        if len(spoken) <= ROWS_AT_MOST:
            pairs = dict(_paraphrase_pairs(spoken)) | pairs
        for (first, second), likely in sorted(pairs.items()):
            differing = find_conflict(spoken[first].output, spoken[second].output)
            if differing:
                yield _finding(spoken[first], spoken[second], *differing, likely)


def _exact_pairs(records: Sequence[QAView]) -> Iterator[tuple[int, int]]:
    """Records with the same question to the letter; the first of them is paired with each of the others."""
    seen: dict[str, int] = {}
    for place, one in enumerate(records):
        first = seen.setdefault(normalize_alnum(one.question), place)
        if first != place:
            yield first, place


def _paraphrase_pairs(records: Sequence[QAView]) -> Iterator[tuple[tuple[int, int], float]]:
    """Pairs of one passage whose instructions ask the same, and pairs of one instruction whose inputs (or none) do."""
    passages: dict[str, list[int]] = {}
    for place, one in enumerate(records):
        if one.input:
            passages.setdefault(normalize_alnum(one.input), []).append(place)
    for first, second in (pair for places in passages.values() for pair in combinations(places, 2)):
        pair = records[first].instruction, records[second].instruction
        likely = _paraphrase_probability(*pair)
        if likely >= SAME_FROM:
            yield (first, second), likely
    short = [place for place, one in enumerate(records) if len(one.subject) <= SHORT]
    for row, column, _ in pairs_above(embed([records[place].subject for place in short]), LOOKED_AT_FROM):
        first, second = short[row], short[column]
        ours, theirs = records[first], records[second]
        if bool(ours.input) == bool(theirs.input) and (
            not ours.input or normalize_alnum(ours.instruction) == normalize_alnum(theirs.instruction)
        ):
            likely = _paraphrase_probability(ours.subject, theirs.subject)
            if likely >= SAME_FROM:
                yield (first, second), likely


def _paraphrase_probability(first: str, second: str) -> float:
    ours, theirs = embed([first, second])
    return paraphrase_probability(first, second, float(ours @ theirs))


def _translations(records: Sequence[QAView]) -> Iterator[Finding]:
    """One text with two translations that have little in common; most texts allow several good ones."""
    seen: dict[str, QAView] = {}
    for one in records:
        other = seen.setdefault(normalize_alnum(one.output), one)
        ours, theirs = other.located.group, one.located.group
        if ours.id == theirs.id or not isinstance(ours, TranslationGroup) or not isinstance(theirs, TranslationGroup):
            continue
        texts = theirs.texts()
        for language, words in ours.texts().items():
            if language not in texts:
                continue
            here, there = embed([words.text, texts[language].text])
            if float(here @ there) < UNLIKE or all(quantity_mismatch(words.text, texts[language].text)):
                yield _finding(other, one, words.text, texts[language].text, 1.0)


def _finding(first: QAView, second: QAView, ours: str, theirs: str, likely: float) -> Finding:
    same = "the same question" if likely == 1.0 else f"what seems the same question (likelihood {likely:.2f})"
    other = second.located
    return Finding(
        check="contradiction",
        severity=Severity.ERROR if likely == 1.0 else Severity.WARNING,
        place=first.located.place,
        group_id=first.located.group.id,
        field=f"{first.language.value}.output",
        what=f"{ours!r} here, {theirs!r} in {other.group.id} ({other.place}), to {same}: '{truncate(first.question)}'",
        why="a category with one answer can't have both; correct one, or make the questions differ",
    )
