"""Check question_to_question chains: each step follows from the last, and none asks an earlier question again.

A chain teaches how one question leads to the next; a gap or a changed word teaches that the next comes from nowhere.
The chains in the post of 2024-05-07 went in circles, and so will those of a model trained on such records.

Example:
    A chain "gauge" with the steps 1, 2 and 4: one error, "chain 'gauge' has the steps [1, 2, 4]".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from bonsai.builder.checks.base import Finding, Issue, QAView, Severity, extract_previous_question, iter_qa_views
from bonsai.builder.checks.paraphrase import ROWS_AT_MOST, embed, paraphrase_probability
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, Chain, Language, TextGroup

STEPS = range(3, 6)
"""Fewer steps don't deepen; more leave the subject (the posts went up to five)."""
SAME_FROM = 0.45
"""Probability from which two questions count as the same; lower than `paraphrase.SAME_FROM` on purpose, as set on this
check's own labelled cases (72 of 75 found, 5 false alarms)."""
SURE_FROM = 0.9


def check_chains(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Require three to five steps from 1 without gaps, in the same languages, each starting where the last ended."""
    findings: list[Finding] = []

    def add(located: SourcedGroup, field: str, message: str, hint: str, severity: Severity = Severity.ERROR) -> None:
        findings.append(Issue(severity, message, hint).to_finding("chains", located, field))

    chains: dict[str, list[tuple[Chain, TextGroup, SourcedGroup]]] = {}
    for located in groups:
        group = located.group
        if isinstance(group, TextGroup) and group.chain:
            chains.setdefault(group.chain.id, []).append((group.chain, group, located))
    for name, members in chains.items():
        members.sort(key=lambda member: member[0].step)

        # 1. The numbers of the steps.
        steps = [chain.step for chain, _, _ in members]
        _, _, first = members[0]
        if steps != list(range(1, len(steps) + 1)):
            add(
                first,
                "",
                f"chain {name!r} has the steps {steps}",
                "number its steps 1, 2, 3 without gaps or repetition",
            )
        if len(steps) not in STEPS:
            add(
                first,
                "",
                f"chain {name!r} has {len(steps)} steps",
                f"give it {STEPS.start} to {STEPS.stop - 1} steps, so that it deepens and stays with its subject",
                Severity.WARNING,  # a chain that somebody is still writing is short, not broken
            )

        # 2. The same languages in each step.
        languages = {located.group.id: set(group.texts()) for _, group, located in members}
        common = set.intersection(*languages.values())
        for _, group, located in members:
            for language in (each for each in group.texts() if each not in common):
                lacking = ", ".join(group_id for group_id, others in languages.items() if language not in others)
                add(
                    located,
                    language.value,
                    f"chain {name!r} has {language.value!r} here, but not in {lacking}",
                    "write the missing steps in this language, or leave the language out of the whole chain",
                )

        # 3. Each step starts from the question that the one before it ended with.
        for (before, earlier, _), (after, later, located) in pairwise(members):
            if after.step != before.step + 1:
                continue
            texts = earlier.texts()
            for language, text in later.texts().items():
                found = extract_previous_question(text.input)
                if language in texts and found != (wanted := texts[language].output.strip()):
                    add(
                        located,
                        f"{language.value}.input",
                        f"step {after.step} of chain {name!r} starts from {found!r}",
                        f"{earlier.id} ended with {wanted!r}; put that question here word for word",
                    )
    return findings


def check_tautology(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Compare each new question with the one in its input and with all earlier ones of its chain.

    The languages of a group mean the same, so the probability is the mean over them.

    Example:
        Step 3 "Why does the ice melt?" after step 1 "What makes the ice melt?": "… seems to ask again …".
    """
    records = [one for one in iter_qa_views(groups) if one.located.group.category is Category.QUESTION_TO_QUESTION]
    records = records[:ROWS_AT_MOST]

    # 1. Pair each new question with the older ones, and say where those come from.
    steps: dict[tuple[str, Language], list[tuple[int, QAView]]] = {}
    for one in records:
        if chain := _chain_of(one):
            steps.setdefault((chain.id, one.language), []).append((chain.step, one))
    pairs: list[tuple[QAView, str, str]] = []
    for one in records:
        if start := extract_previous_question(one.input):
            pairs.append((one, start, "the question in its input"))
        if chain := _chain_of(one):
            for step, other in sorted(steps[chain.id, one.language], key=lambda member: member[0]):
                if step == 1 and chain.step > 1:
                    pairs.append((one, extract_previous_question(other.input), "the question the chain began with"))
                if step < chain.step - 1:
                    pairs.append((one, other.output.strip(), f"asked in {other.located.group.id}"))

    # 2. Judge each pair, and take the mean over the languages.
    cosines = (embed([new.output for new, _, _ in pairs]) * embed([old for _, old, _ in pairs])).sum(axis=1)
    judged: dict[tuple[str, str], list[tuple[float, QAView, str]]] = {}
    for (new, old, origin), cosine in zip(pairs, cosines, strict=True):
        probability = paraphrase_probability(old, new.output, float(cosine))
        judged.setdefault((new.located.group.id, origin), []).append((probability, new, old))
    findings: list[Finding] = []
    for (_, origin), languages in judged.items():
        mean = fmean(probability for probability, _, _ in languages)
        if mean >= SAME_FROM:
            _, new, old = max(languages, key=lambda language: language[0])
            issue = Issue(
                Severity.ERROR if mean >= SURE_FROM else Severity.WARNING,
                f"{new.output.strip()!r} seems to ask again {old!r} ({origin}; likelihood {mean:.2f})",
                "the new question has to go deeper; ask for a cause, a limit, a counterexample or a consequence",
            )
            findings.append(issue.to_finding("tautology", new.located, f"{new.language.value}.output"))
    return findings


def _chain_of(one: QAView) -> Chain | None:
    return one.located.group.chain if isinstance(one.located.group, TextGroup) else None
