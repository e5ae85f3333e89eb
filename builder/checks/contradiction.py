"""The same question with another answer: the "bugs" the posts suspected behind a loss that no longer fell.

Only where a category has one answer. Questions in other words are found by sentence vectors and judged by
`bonsai.builder.checks.rewording`; parallel languages are compared by `bonsai.builder.checks.parallel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from bonsai.builder.checks.answers import conflict
from bonsai.builder.checks.asked import Asked, asked
from bonsai.builder.checks.embedding import ROWS_AT_MOST, similar_pairs, vectors
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.quantities import disagreement
from bonsai.builder.checks.rewording import folded, rewording
from bonsai.builder.checks.text_fields import shortened
from bonsai.builder.reader import Located
from bonsai.builder.schema import SINGLE_ANSWER, Category, Language, TranslationGroup

LOOKED_AT_FROM = 0.6
"""Cosine of two questions from which they are compared at all."""
SAME_FROM = 0.5
SHORT = 120
"""Characters up to which a text is a question that can be reworded."""
UNLIKE = 0.4
"""Cosine below which two texts are no translations of the same."""


def check_contradiction(groups: Sequence[Located]) -> Iterator[Finding]:
    """Conflicting answers within a language: errors where the question is the same, warnings where it is reworded."""
    records = list(asked(groups))
    yield from _translations([one for one in records if one.located.group.category is Category.TRANSLATION])
    single = [one for one in records if one.instruction and one.located.group.category in SINGLE_ANSWER]
    for language in Language:
        spoken = [one for one in single if one.language is language]
        pairs = dict.fromkeys(_same(spoken), 1.0)
        if len(spoken) <= ROWS_AT_MOST:
            pairs = dict(_reworded(spoken)) | pairs
        for (first, second), likely in sorted(pairs.items()):
            differing = conflict(spoken[first].output, spoken[second].output)
            if differing:
                yield _finding(spoken[first], spoken[second], *differing, likely)


def _same(records: Sequence[Asked]) -> Iterator[tuple[int, int]]:
    """Records with the same question to the letter; the first of them is paired with each of the others."""
    seen: dict[str, int] = {}
    for place, one in enumerate(records):
        first = seen.setdefault(folded(one.question), place)
        if first != place:
            yield first, place


def _reworded(records: Sequence[Asked]) -> Iterator[tuple[tuple[int, int], float]]:
    """Pairs of one passage whose instructions ask the same, and pairs of one instruction whose inputs (or none) do."""
    passages: dict[str, list[int]] = {}
    for place, one in enumerate(records):
        if one.input:
            passages.setdefault(folded(one.input), []).append(place)
    for first, second in (pair for places in passages.values() for pair in combinations(places, 2)):
        pair = records[first].instruction, records[second].instruction
        likely = _likely(*pair)
        if likely >= SAME_FROM:
            yield (first, second), likely
    short = [place for place, one in enumerate(records) if len(one.subject) <= SHORT]
    for row, column, _ in similar_pairs(vectors([records[place].subject for place in short]), LOOKED_AT_FROM):
        first, second = short[row], short[column]
        ours, theirs = records[first], records[second]
        if bool(ours.input) == bool(theirs.input) and (
            not ours.input or folded(ours.instruction) == folded(theirs.instruction)
        ):
            likely = _likely(ours.subject, theirs.subject)
            if likely >= SAME_FROM:
                yield (first, second), likely


def _likely(first: str, second: str) -> float:
    ours, theirs = vectors([first, second])
    return rewording(first, second, float(ours @ theirs))


def _translations(records: Sequence[Asked]) -> Iterator[Finding]:
    """One text with two translations that have little in common; most texts allow several good ones."""
    seen: dict[str, Asked] = {}
    for one in records:
        other = seen.setdefault(folded(one.output), one)
        ours, theirs = other.located.group, one.located.group
        if ours.id == theirs.id or not isinstance(ours, TranslationGroup) or not isinstance(theirs, TranslationGroup):
            continue
        texts = theirs.texts()
        for language, words in ours.texts().items():
            if language not in texts:
                continue
            here, there = vectors([words.text, texts[language].text])
            if float(here @ there) < UNLIKE or all(disagreement(words.text, texts[language].text)):
                yield _finding(other, one, words.text, texts[language].text, 1.0)


def _finding(first: Asked, second: Asked, ours: str, theirs: str, likely: float) -> Finding:
    same = "the same question" if likely == 1.0 else f"what seems the same question (likelihood {likely:.2f})"
    other = second.located
    return Finding(
        check="contradiction",
        severity=Severity.ERROR if likely == 1.0 else Severity.WARNING,
        place=first.located.place,
        group_id=first.located.group.id,
        field=f"{first.language.value}.output",
        what=f"{ours!r} here, {theirs!r} in {other.group.id} ({other.place}), to {same}: '{shortened(first.question)}'",
        why="a category with one answer can't have both; correct one, or make the questions differ",
    )
