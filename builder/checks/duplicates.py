"""Records that say nearly the same: the smaller a dataset, the more a repeated record weighs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.relatives import Likeness, relatives
from bonsai.builder.reader import Located


def check_duplicates(groups: Sequence[Located]) -> Iterator[Finding]:
    """One finding for each two groups that are alike: an error for the same letters, a warning otherwise."""
    for first, second, likeness, score in relatives(groups):
        other = second.located
        yield Finding(
            check="duplicates",
            severity=Severity.ERROR if likeness is Likeness.EXACT else Severity.WARNING,
            place=first.located.place,
            group_id=first.located.group.id,
            field=first.language.value,
            what=f"{first.subject.strip()[:80]!r} and {second.subject.strip()[:80]!r} in {other.group.id} ({other.place}, "
            f"{second.language}) are {likeness} ({score:.2f})",
            why="a small dataset has no room for repetition; replace one of them, or make it ask for something else",
        )
