"""Check question_to_question chains: each step follows from the last, and none asks an earlier question again.

A chain teaches how one question breeds the next; a gap or a changed word teaches that the next one comes from nowhere.

The post of 2024-05-07 saw its chains do that; a model taught by such records will, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean

from bonsai.builder.checks.base import Finding, QAView, Severity, extract_previous_question, iter_qa_views
from bonsai.builder.checks.paraphrase import ROWS_AT_MOST, embed, paraphrase_probability
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, Chain, TextGroup

STEPS = range(3, 6)
"""Fewer steps don't deepen; more leave the subject (the posts went up to five)."""


def check_chains(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """Steps from 1 without gaps, three to five of them, in the same languages, each starting where the last ended."""
    chains: dict[str, list[tuple[Chain, TextGroup, SourcedGroup]]] = {}
    for located in groups:
        group = located.group
        if isinstance(group, TextGroup) and group.chain:
            chains.setdefault(group.chain.id, []).append((group.chain, group, located))
    for name, members in chains.items():
        members.sort(key=lambda member: member[0].step)
        yield from _steps(name, members)
        for (_, earlier, _), (_, later, located) in pairwise(members):
            yield from _link(name, earlier, later, located)


def _steps(name: str, members: list[tuple[Chain, TextGroup, SourcedGroup]]) -> Iterator[Finding]:
    steps = [chain.step for chain, _, _ in members]
    _, _, first = members[0]
    if steps != list(range(1, len(steps) + 1)):
        yield _finding(
            first, "", f"chain {name!r} has the steps {steps}", "number its steps 1, 2, 3 without gaps or repetition"
        )
    if len(steps) not in STEPS:
        yield _finding(
            first,
            "",
            f"chain {name!r} has {len(steps)} steps",
            f"give it {STEPS.start} to {STEPS.stop - 1} steps, so that it deepens and stays with its subject",
        )
    spoken = {located.group.id: set(group.texts()) for _, group, located in members}
    common = set.intersection(*spoken.values())
    for _, group, located in members:
        for language in (each for each in group.texts() if each not in common):
            lacking = [group_id for group_id, languages in spoken.items() if language not in languages]
            yield _finding(
                located,
                language.value,
                f"chain {name!r} has {language.value!r} here, but not in {', '.join(lacking)}",
                "write the missing steps in this language, or leave the language out of the whole chain",
            )


def _link(name: str, earlier: TextGroup, later: TextGroup, located: SourcedGroup) -> Iterator[Finding]:
    if earlier.chain is None or later.chain is None or later.chain.step != earlier.chain.step + 1:
        return
    texts = earlier.texts()
    for language, text in later.texts().items():
        if language not in texts:
            continue
        wanted, found = texts[language].output.strip(), extract_previous_question(text.input)
        if wanted != found:
            yield _finding(
                located,
                f"{language.value}.input",
                f"step {later.chain.step} of chain {name!r} starts from {found!r}",
                f"{earlier.id} ended with {wanted!r}; put that question here word for word",
            )


def _finding(located: SourcedGroup, field: str, what: str, why: str) -> Finding:
    return Finding(
        check="chains",
        severity=Severity.ERROR,
        place=located.place,
        group_id=located.group.id,
        field=field,
        what=what,
        why=why,
    )


SAME_FROM = 0.45
"""Probability from which two questions count as the same; see `bonsai.builder.checks.paraphrase`."""
SURE_FROM = 0.9


def check_tautology(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """Compare each new question with the one in its input and with all earlier ones of its chain.

    The languages of a group say the same, so the likelihood is the mean of what each of them gives.
    """
    records = [one for one in iter_qa_views(groups) if one.located.group.category is Category.QUESTION_TO_QUESTION]
    pairs = list(_pairs(records[:ROWS_AT_MOST]))
    news = embed([new.output for new, _, _ in pairs])
    olds = embed([old for _, old, _ in pairs])
    judged: dict[tuple[str, str], list[tuple[float, QAView, str]]] = {}
    for (new, old, whose), cosine in zip(pairs, (news * olds).sum(axis=1), strict=True):
        likely = paraphrase_probability(old, new.output, float(cosine))
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


def _pairs(records: Sequence[QAView]) -> Iterator[tuple[QAView, str, str]]:
    """New question, older question, and where the older one stands."""
    chains: dict[tuple[str, str], list[tuple[int, QAView]]] = {}
    for one in records:
        group = one.located.group
        if isinstance(group, TextGroup) and group.chain:
            chains.setdefault((group.chain.id, one.language.value), []).append((group.chain.step, one))
    for one in records:
        start = extract_previous_question(one.input)
        if start:
            yield one, start, "the question in its input"
        group = one.located.group
        if not isinstance(group, TextGroup) or group.chain is None:
            continue
        for step, other in sorted(chains[group.chain.id, one.language.value], key=lambda member: member[0]):
            if step == 1 and group.chain.step > 1:
                yield one, extract_previous_question(other.input), "the question the chain began with"
            if step < group.chain.step - 1:
                yield one, other.output.strip(), f"asked in {other.located.group.id}"
