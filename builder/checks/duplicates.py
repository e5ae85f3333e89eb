"""Records that say nearly the same: the smaller a dataset, the more a repeated record weighs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bonsai.builder.checks.asked import asked
from bonsai.builder.checks.embedding import ROWS_AT_MOST
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.relatives import Likeness, relatives
from bonsai.builder.checks.text_fields import shortened
from bonsai.builder.reader import Located


def check_duplicates(groups: Sequence[Located]) -> Iterator[Finding]:
    """One finding for each two groups that are alike: an error for the same letters, a warning otherwise."""
    if groups and sum(1 for _ in asked(groups)) > ROWS_AT_MOST:
        yield Finding(
            check="duplicates",
            severity=Severity.NOTE,
            place=groups[0].place,
            group_id=groups[0].group.id,
            field="",
            what=f"more than {ROWS_AT_MOST:,} rows: compared by their letters, not by their meaning",
            why="reworded duplicates, leaks and contradictions may stay unseen; check the records in parts",
        )
    for first, second, likeness, score in relatives(groups):
        other = second.located
        yield Finding(
            check="duplicates",
            severity=Severity.ERROR if likeness is Likeness.EXACT else Severity.WARNING,
            place=first.located.place,
            group_id=first.located.group.id,
            field=first.language.value,
            what=f"'{shortened(first.subject)}' and '{shortened(second.subject)}' in {other.group.id} ({other.place}, "
            f"{second.language}) are {likeness} ({score:.2f})",
            why="a small dataset has no room for repetition; replace one of them, or make it ask for something else",
        )
