"""Parallel languages that contradict each other: 12 in the Japanese passage, 13 in the English; 秋 here, summer there.

Each language teaches the same thought, so an adapter that sees two answers to one question learns neither. Compared are
quantities and dates, yes and no, option labels, and names; sentence vectors only choose between candidates, as they
can't tell a sentence from its negation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from bonsai.builder.checks.asked import Asked, asked
from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.parallel_answers import may_be_name, other_answer
from bonsai.builder.checks.quantities import disagreement, quantities
from bonsai.builder.checks.quantity import Quantity, Weight, comparable, surplus, unmatched
from bonsai.builder.reader import Located
from bonsai.builder.schema import SINGLE_ANSWER, Category

FEW = 2
"""A slip changes a number or two; more of them are another way of reasoning."""


class _Conflict(NamedTuple):
    field: str
    severity: Severity
    what: str


def check_parallel(groups: Sequence[Located]) -> Iterator[Finding]:
    """At most one finding for each field and pair of languages; creative records aren't compared."""
    vectors([one.output for one in asked(groups) if may_be_name(one)])
    for located in groups:
        if located.group.category is Category.CREATIVE:
            continue
        for ours, theirs in combinations(asked([located]), 2):
            for conflict in _conflicts(ours, theirs):
                yield Finding(
                    check="parallel",
                    severity=conflict.severity,
                    place=located.place,
                    group_id=located.group.id,
                    field=f"{ours.language.value}.{conflict.field}",
                    what=f"{conflict.what} ({ours.language.value} and {theirs.language.value})",
                    why="the languages of a group say the same; correct the one that is wrong",
                )


def _conflicts(ours: Asked, theirs: Asked) -> Iterator[_Conflict]:
    category = ours.located.group.category
    yield from _changed("input" if ours.input else "instruction", ours.question, theirs.question)
    answer = "text" if category is Category.TRANSLATION else "output"
    changed = [] if category is Category.BRAINSTORMING else list(_changed(answer, ours.output, theirs.output))
    if changed:
        yield from changed
    elif category in SINGLE_ANSWER and category is not Category.TRANSLATION:
        other = other_answer(ours, theirs)
        if other:
            yield _Conflict("output", Severity.ERROR if other.sure else Severity.WARNING, other.what)
    if category in SINGLE_ANSWER and category is not Category.TRANSLATION:
        found = _slip(ours, theirs) or _slip(theirs, ours)
        if found:
            yield _Conflict("reasoning", Severity.WARNING, found)


def _changed(field: str, first: str, second: str) -> Iterator[_Conflict]:
    """Quantities that each side has and the other lacks (an error), or has less often (a warning)."""
    found = disagreement(first, second)
    if all(found):
        yield _Conflict(field, Severity.ERROR, _told(*found))
        return
    here, there = quantities(first), quantities(second)
    more, less = surplus(here, there), surplus(there, here)
    if any(comparable(one, other) for one in more for other in less):
        yield _Conflict(field, Severity.WARNING, _told(more, less))


def _told(first: Sequence[Quantity], second: Sequence[Quantity]) -> str:
    return f"{', '.join(each.text for each in first)!r} against {', '.join(each.text for each in second)!r}"


def _slip(ours: Asked, theirs: Asked) -> str | None:
    """A number of our Reasoning that their whole record lacks, where theirs has one of its kind that ours lacks.

    Only a number or two: Reasoning may take another road.
    """
    whole = "\n".join((theirs.question, theirs.reasoning, theirs.output))
    here = _written(unmatched(quantities(ours.reasoning), quantities(whole)))
    there = _written(unmatched(quantities(theirs.reasoning), quantities(ours.reasoning)))
    few = len(here) <= FEW and len(there) <= FEW
    return _told(here, there) if few and any(comparable(one, other) for one in here for other in there) else None


def _written(found: Sequence[Quantity]) -> list[Quantity]:
    return list({one.readings: one for one in found if one.weight is Weight.DIGITS}.values())
