"""Which records say nearly the same: by their letters, by their meaning, across languages.

Found once and used twice: two relatives are a duplicate, and a leak where a split lies between them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bonsai.builder.checks.asked import Asked, asked
from bonsai.builder.checks.contrasts import contrasted
from bonsai.builder.checks.embedding import ROWS_AT_MOST, similar_pairs, vectors
from bonsai.builder.checks.quantities import disagreement
from bonsai.builder.checks.rewording import folded, rewording
from bonsai.builder.near_duplicates import near_duplicates
from bonsai.builder.reader import Located
from bonsai.builder.schema import Category

LETTERS_FROM = 0.55
"""Jaccard similarity of character shingles."""
MEANING_FROM = 0.65
"""Cosine from which two texts of one language are compared at all."""
SAME_FROM = 0.5
ACROSS_FROM = 0.70
"""Cosine from which texts of two languages count as the same; rewording can't be judged word by word there."""
SHORT = 120
"""Characters up to which a text is a question that can be reworded; longer ones are compared by their letters."""
LONG_ANSWER = 30
"""Characters from which an answer of its own is worth comparing."""


class Likeness(enum.StrEnum):
    """How two records are alike."""

    EXACT = "the same but for punctuation"
    NEAR = "nearly the same letters"
    ANSWER = "nearly the same answer"
    MEANING = "the same in other words"
    ACROSS = "the same in another language"


class Relative(NamedTuple):
    """Two records of different groups, the earlier one first."""

    first: Asked
    second: Asked
    likeness: Likeness
    score: float
    """Jaccard similarity, likelihood, or cosine, as the likeness says"""


def relatives(groups: Sequence[Located]) -> list[Relative]:
    """The closest likeness of each two groups that are alike, in the order of the first and then of the second."""
    records = list(asked(groups))
    place = {located.group.id: number for number, located in enumerate(groups)}
    best: dict[tuple[int, int], Relative] = {}
    for relative in _all(records):
        first, second = (place[one.located.group.id] for one in (relative.first, relative.second))
        if first > second:
            first, second, relative = second, first, relative._replace(first=relative.second, second=relative.first)
        if first != second and (relative.likeness is Likeness.EXACT or not _one_chain(relative)):
            best.setdefault((first, second), relative)
    return [best[key] for key in sorted(best)]


def _all(records: Sequence[Asked]) -> Iterator[Relative]:
    """Closest likeness first."""
    subjects = [one.subject for one in records]
    letters = near_duplicates(subjects, threshold=LETTERS_FROM) if len(subjects) > 1 else []
    for first, second, jaccard in letters:
        ours, theirs = records[first], records[second]
        if folded(ours.question) == folded(theirs.question) and folded(ours.subject) == folded(theirs.subject):
            yield Relative(ours, theirs, Likeness.EXACT, 1.0)
        elif jaccard == 1.0 or _near(ours.subject, theirs.subject):
            yield Relative(ours, theirs, Likeness.NEAR, jaccard)
    free = [one for one in records if one.located.group.category in (Category.BRAINSTORMING, Category.CREATIVE)]
    free += [
        one for one in records if one.located.group.category is Category.OPEN_QA and len(one.output) >= LONG_ANSWER
    ]
    for first, second, jaccard in near_duplicates([one.output for one in free], threshold=LETTERS_FROM) if free else []:
        if min(len(free[first].output), len(free[second].output)) >= LONG_ANSWER:
            yield Relative(free[first], free[second], Likeness.ANSWER, jaccard)
    if len(records) <= ROWS_AT_MOST:
        yield from _by_meaning([one for one in records if len(one.subject) <= SHORT])


def _by_meaning(records: Sequence[Asked]) -> Iterator[Relative]:
    across: list[Relative] = []
    for first, second, cosine in similar_pairs(vectors([one.subject for one in records]), MEANING_FROM):
        ours, theirs = records[first], records[second]
        if (
            ours.located.group.id == theirs.located.group.id
            or ours.located.group.category != theirs.located.group.category
        ):
            continue
        if ours.language is theirs.language:
            likely = rewording(ours.subject, theirs.subject, cosine)
            if likely >= SAME_FROM:
                yield Relative(ours, theirs, Likeness.MEANING, likely)
        elif cosine >= ACROSS_FROM and _may_be_same(ours.subject, theirs.subject):
            across.append(Relative(ours, theirs, Likeness.ACROSS, cosine))
    yield from across


def _near(first: str, second: str) -> bool:
    """Letters alone mislead in a short text, where one word is the subject."""
    if not _may_be_same(first, second):
        return False
    if min(len(first), len(second)) > SHORT / 2:
        return True
    ours, theirs = vectors([first, second])
    return rewording(first, second, float(ours @ theirs)) >= SAME_FROM


def _may_be_same(first: str, second: str) -> bool:
    return not contrasted(first, second) and not all(disagreement(first, second))


def _one_chain(relative: Relative) -> bool:
    chains = [getattr(one.located.group, "chain", None) for one in relative[:2]]
    return chains[0] is not None and chains[1] is not None and chains[0].id == chains[1].id
