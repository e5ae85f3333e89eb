"""Records of test or validation that stand in train as well: held-out figures would flatter the adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.relatives import Likeness, relatives
from bonsai.builder.checks.text_fields import shortened
from bonsai.builder.reader import Located
from bonsai.builder.splits import split_of


def check_leakage(groups: Sequence[Located]) -> Iterator[Finding]:
    """One finding for each two groups that are alike, one of them in train and the other held out."""
    for first, second, likeness, score in relatives(groups):
        here, there = split_of(first.located.group), split_of(second.located.group)
        if (here == "train") == (there == "train"):
            continue
        other = second.located
        yield Finding(
            check="leakage",
            severity=Severity.ERROR if likeness in (Likeness.EXACT, Likeness.NEAR) else Severity.WARNING,
            place=first.located.place,
            group_id=first.located.group.id,
            field=first.language.value,
            what=f"'{shortened(first.subject)}' ({here}) and '{shortened(second.subject)}' ({there}, {other.group.id}, "
            f"{other.place}) are {likeness} ({score:.2f})",
            why="what is held out must be new; rewrite one of them (a record can't be moved: its id decides its split)",
        )
