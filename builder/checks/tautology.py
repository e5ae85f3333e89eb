"""Questions that go in circles: a question_to_question record whose new question asks again what was asked before.

The post of 2024-05-07 saw its chains do that; a model taught by such records will, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from bonsai.builder.checks.asked import Asked, asked, earlier_question
from bonsai.builder.checks.embedding import ROWS_AT_MOST, vectors
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.rewording import rewording
from bonsai.builder.reader import Located
from bonsai.builder.schema import Category, TextGroup

SAME_FROM = 0.45
"""Probability from which two questions count as the same; see `bonsai.builder.checks.rewording`."""
SURE_FROM = 0.9


def check_tautology(groups: Sequence[Located]) -> Iterator[Finding]:
    """Compare each new question with the one in its input and with all earlier ones of its chain.

    The languages of a group say the same, so the likelihood is the mean of what each of them gives.
    """
    records = [one for one in asked(groups) if one.located.group.category is Category.QUESTION_TO_QUESTION]
    pairs = list(_pairs(records[:ROWS_AT_MOST]))
    news = vectors([new.output for new, _, _ in pairs])
    olds = vectors([old for _, old, _ in pairs])
    judged: dict[tuple[str, str], list[tuple[float, Asked, str]]] = {}
    for (new, old, whose), cosine in zip(pairs, (news * olds).sum(axis=1), strict=True):
        likely = rewording(old, new.output, float(cosine))
        judged.setdefault((new.located.group.id, whose), []).append((likely, new, old))
    for (_, whose), languages in judged.items():
        mean = fmean(likely for likely, _, _ in languages)
        if mean >= SAME_FROM:
            _, new, old = max(languages, key=lambda language: language[0])
            yield Finding(
                check="tautology",
                severity=Severity.ERROR if mean >= SURE_FROM else Severity.WARNING,
                place=new.located.place,
                group_id=new.located.group.id,
                field=f"{new.language.value}.output",
                what=f"{new.output.strip()!r} seems to ask again {old!r} ({whose}; likelihood {mean:.2f})",
                why="the new question has to go deeper; ask for a cause, a limit, a counterexample or a consequence",
            )


def _pairs(records: Sequence[Asked]) -> Iterator[tuple[Asked, str, str]]:
    """New question, older question, and where the older one stands."""
    chains: dict[tuple[str, str], list[tuple[int, Asked]]] = {}
    for one in records:
        group = one.located.group
        if isinstance(group, TextGroup) and group.chain:
            chains.setdefault((group.chain.id, one.language.value), []).append((group.chain.step, one))
    for one in records:
        start = earlier_question(one.input)
        if start:
            yield one, start, "the question in its input"
        group = one.located.group
        if not isinstance(group, TextGroup) or group.chain is None:
            continue
        for step, other in sorted(chains[group.chain.id, one.language.value], key=lambda member: member[0]):
            if step == 1 and group.chain.step > 1:
                yield one, earlier_question(other.input), "the question the chain began with"
            if step < group.chain.step - 1:
                yield one, other.output.strip(), f"asked in {other.located.group.id}"
