"""Whether the dataset leans to one side: categories, languages, topics, and the length of answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median, quantiles

from bonsai.builder.checks.base import Finding, QAView, Severity, iter_qa_views
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


def check_balance(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """Warnings where a share is out of bounds, and one note a category with its lengths."""
    by_category: dict[Category, list[SourcedGroup]] = {}
    for located in groups:
        by_category.setdefault(Category(located.group.category), []).append(located)
    yield from _categories(by_category)
    for members in by_category.values():
        yield from _topics(members)
        yield from _chinese(members)
        yield from _lengths(members)


def _categories(by_category: dict[Category, list[SourcedGroup]]) -> Iterator[Finding]:
    if len(by_category) < 2:
        return
    middle = median(len(members) for members in by_category.values())
    first = next(iter(by_category.values()))[0]
    for name in CATEGORIES:
        size = len(by_category.get(Category(name), ()))
        if not CATEGORY_SHARES[0] <= size / middle <= CATEGORY_SHARES[1]:
            where = by_category[Category(name)][0] if size else first
            yield _warning(
                where,
                f"{size} groups of {name}, where the median category has {middle:g}",
                "an adapter learns what it sees most; write more of the one or hold some of the other back",
            )


def _topics(members: Sequence[SourcedGroup]) -> Iterator[Finding]:
    spelled: dict[str, list[SourcedGroup]] = {}
    for located in members:
        spelled.setdefault(re.sub(r"[\s_-]+", " ", located.group.topic.strip().casefold()), []).append(located)
    for those in spelled.values():
        if len(members) >= JUDGED_FROM and len(those) > TOPIC_SHARE * len(members):
            ways = sorted({located.group.topic for located in those})
            yield _warning(
                those[0],
                f"{len(those)} of {len(members)} groups of {those[0].group.category} are about {' / '.join(ways)}",
                f"no topic above {TOPIC_SHARE:.0%} of a category; write about other topics",
            )


def _chinese(members: Sequence[SourcedGroup]) -> Iterator[Finding]:
    share = sum(located.group.zh is not None for located in members) / len(members)
    if len(members) >= JUDGED_FROM and not CHINESE_SHARES[0] <= share <= CHINESE_SHARES[1]:
        yield _warning(
            members[0],
            f"{share:.0%} of the groups of {members[0].group.category} have Chinese",
            f"keep it between {CHINESE_SHARES[0]:.0%} and {CHINESE_SHARES[1]:.0%}: a little props Japanese up",
        )


def _lengths(members: Sequence[SourcedGroup]) -> Iterator[Finding]:
    if len(members) < JUDGED_FROM or not isinstance(members[0].group, TextGroup):
        return
    category, notes = members[0].group.category, []
    for language in Language:
        sizes = [_size(one) for one in iter_qa_views(members) if one.language is language]
        if len(sizes) < JUDGED_FROM:
            continue
        deciles = quantiles(sizes, n=10)
        notes.append(f"{language.value} {deciles[0]:.0f}/{median(sizes):.0f}/{deciles[-1]:.0f}")
        share = sum(size > LONG[language] for size in sizes) / len(sizes)
        if share > LONG_SHARE:
            unit = "words" if language is Language.EN else "characters"
            yield _warning(
                members[0],
                f"{share:.0%} of the {language.value} answers of {category} have over {LONG[language]} {unit}",
                f"shorten: at most {LONG_SHARE:.0%} may be long, as long answers dominate what is learnt",
            )
    yield _finding(
        Severity.NOTE,
        members[0],
        f"length of the answers of {category}, lowest tenth/median/highest tenth: {', '.join(notes)}",
        "English in words, Japanese and Chinese in characters; nothing to do",
    )


def _size(one: QAView) -> int:
    return len(one.output.split()) if one.language is Language.EN else len(one.output)


def _warning(located: SourcedGroup, what: str, why: str) -> Finding:
    return _finding(Severity.WARNING, located, what, why)


def _finding(severity: Severity, located: SourcedGroup, what: str, why: str) -> Finding:
    return Finding(
        check="balance", severity=severity, place=located.place, group_id=located.group.id, field="", what=what, why=why
    )
