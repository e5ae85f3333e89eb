"""What changed since an earlier evaluation or comparison, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bonsai.recipes.evaluation import against
    from bonsai.recipes.evaluation.comparing import changes

_COLOURS = {"worse": "red", "better": "green", "unchanged": "dim"}


class Line(NamedTuple):
    """One score, then and now."""

    what: str
    score: str
    change: against.Change | changes.Change
    shown: Callable[..., str]
    """a number as a reader expects it, with ``signed`` for a difference"""


def changes_table(earlier: str, columns: tuple[str, str], lines: Iterable[Line]) -> Table:
    """The table; ``columns`` head what was scored and the score."""
    table = Table(title=Text(f"against {earlier} (95 % intervals, paired test)"), title_style="bold")
    for column in columns:
        table.add_column(column)
    for column in ("n", "then", "now", "difference", "p"):
        table.add_column(column, justify="right")
    table.add_column("")
    for what, score, change, shown in lines:
        spread = change.difference
        low, high = shown(spread.low, signed=True), shown(spread.high, signed=True)
        table.add_row(
            Text(what),
            score,
            str(change.questions),
            shown(change.then),
            shown(change.now),
            f"{shown(spread.value, signed=True)} ({low} … {high})",
            f"{spread.p:.3f}",
            Text(change.verdict, style=_COLOURS[change.verdict]),
        )
    return table
