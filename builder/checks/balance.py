"""Check that the dataset is balanced: categories, topics, Chinese, and the length of answers.

Example:
    Of 40 groups of open_qa six are about "kitchen": one warning, "6 of 40 groups of open_qa are about kitchen".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median, quantiles

from bonsai.builder.checks.base import Finding, Issue, Severity, iter_qa_views
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import CATEGORIES, Category, Language, TextGroup

TOPIC_SHARE = 0.12
"""No topic above 12% of a category (the authoring guide)."""
JUDGED_FROM = 25
"""Groups below which a share says nothing."""
CHINESE_SHARES = (0.05, 0.80)
"""Chinese in small amounts, but some: the post of 2024-04-10 saw it help Japanese."""
CATEGORY_SHARES = (1 / 3, 3.0)
"""A category's size against the median of the seven."""
LONG_SHARE = 0.20
"""Most answers are short; a few may be long."""
LONG = {Language.JA: 250, Language.EN: 120, Language.ZH: 250}
"""Above this an answer is long: characters, in English words."""


def check_balance(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Return warnings where a share is out of bounds, and one note on the lengths of each category's answers."""
    findings: list[Finding] = []

    def add(located: SourcedGroup, issue: Issue) -> None:
        findings.append(issue.to_finding("balance", located))

    by_category: dict[Category, list[SourcedGroup]] = {}
    for located in groups:
        by_category.setdefault(Category(located.group.category), []).append(located)

    # 1. The size of each category against the median.
    if len(by_category) > 1:
        middle = median(len(members) for members in by_category.values())
        for name in CATEGORIES:
            members = by_category.get(Category(name), [])
            if not CATEGORY_SHARES[0] <= len(members) / middle <= CATEGORY_SHARES[1]:
                issue = Issue.warning(
                    f"{len(members)} groups of {name}, where the median category has {middle:g}",
                    "an adapter learns what it sees most; write more of the one or hold some of the other back",
                )
                add(members[0] if members else groups[0], issue)

    for category, members in by_category.items():
        if len(members) < JUDGED_FROM:
            continue

        # 2. Topics; spellings that differ in case and hyphens are one topic.
        by_topic: dict[str, list[SourcedGroup]] = {}
        for located in members:
            by_topic.setdefault(re.sub(r"[\s_-]+", " ", located.group.topic.strip().casefold()), []).append(located)
        for alike in by_topic.values():
            if len(alike) > TOPIC_SHARE * len(members):
                spellings = " / ".join(sorted({located.group.topic for located in alike}))
                issue = Issue.warning(
                    f"{len(alike)} of {len(members)} groups of {category} are about {spellings}",
                    f"no topic above {TOPIC_SHARE:.0%} of a category; write about other topics",
                )
                add(alike[0], issue)

        # 3. Chinese.
        share = sum(located.group.zh is not None for located in members) / len(members)
        if not CHINESE_SHARES[0] <= share <= CHINESE_SHARES[1]:
            issue = Issue.warning(
                f"{share:.0%} of the groups of {category} have Chinese",
                f"keep it between {CHINESE_SHARES[0]:.0%} and {CHINESE_SHARES[1]:.0%}: a little helps Japanese",
            )
            add(members[0], issue)

        # 4. The length of the answers in each language.
        if not isinstance(members[0].group, TextGroup):
            continue
        deciles = []
        for language in Language:
            answers = [one.output for one in iter_qa_views(members) if one.language is language]
            if len(answers) < JUDGED_FROM:
                continue
            sizes = [len(answer.split()) if language is Language.EN else len(answer) for answer in answers]
            lowest, *_, highest = quantiles(sizes, n=10)
            deciles.append(f"{language.value} {lowest:.0f}/{median(sizes):.0f}/{highest:.0f}")
            share = sum(size > LONG[language] for size in sizes) / len(sizes)
            if share > LONG_SHARE:
                unit = "words" if language is Language.EN else "characters"
                issue = Issue.warning(
                    f"{share:.0%} of the {language.value} answers of {category} have over {LONG[language]} {unit}",
                    f"shorten: at most {LONG_SHARE:.0%} may be long, as long answers dominate what is learnt",
                )
                add(members[0], issue)
        issue = Issue(
            Severity.NOTE,
            f"length of the answers of {category}, lowest tenth/median/highest tenth: {', '.join(deciles)}",
            "English in words, Japanese and Chinese in characters; nothing to do",
        )
        add(members[0], issue)
    return findings
