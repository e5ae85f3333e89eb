"""Chains of question_to_question: each answer's question is, word for word, where the next step starts.

A chain teaches how one question breeds the next; a gap or a changed word teaches that the next one comes from nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from bonsai.builder.checks.asked import earlier_question
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.reader import Located
from bonsai.builder.schema import Chain, TextGroup

STEPS = range(3, 6)
"""Fewer steps don't deepen; more leave the subject (the posts went up to five)."""


def check_chains(groups: Sequence[Located]) -> Iterator[Finding]:
    """Steps from 1 without gaps, three to five of them, in the same languages, each starting where the last ended."""
    chains: dict[str, list[tuple[Chain, TextGroup, Located]]] = {}
    for located in groups:
        group = located.group
        if isinstance(group, TextGroup) and group.chain:
            chains.setdefault(group.chain.id, []).append((group.chain, group, located))
    for name, members in chains.items():
        members.sort(key=lambda member: member[0].step)
        yield from _steps(name, members)
        for (_, earlier, _), (_, later, located) in pairwise(members):
            yield from _link(name, earlier, later, located)


def _steps(name: str, members: list[tuple[Chain, TextGroup, Located]]) -> Iterator[Finding]:
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


def _link(name: str, earlier: TextGroup, later: TextGroup, located: Located) -> Iterator[Finding]:
    if earlier.chain is None or later.chain is None or later.chain.step != earlier.chain.step + 1:
        return
    texts = earlier.texts()
    for language, text in later.texts().items():
        if language not in texts:
            continue
        wanted, found = texts[language].output.strip(), earlier_question(text.input)
        if wanted != found:
            yield _finding(
                located,
                f"{language.value}.input",
                f"step {later.chain.step} of chain {name!r} starts from {found!r}",
                f"{earlier.id} ended with {wanted!r}; put that question here word for word",
            )


def _finding(located: Located, field: str, what: str, why: str) -> Finding:
    return Finding(
        check="chains",
        severity=Severity.ERROR,
        place=located.place,
        group_id=located.group.id,
        field=field,
        what=what,
        why=why,
    )
