"""A comparison as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bonsai.cli.changes_table import Line, changes_table

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.comparing.changes import Changes
    from bonsai.recipes.evaluation.comparing.measures import Pair
    from bonsai.recipes.evaluation.comparing.ranking import Ranked
    from bonsai.recipes.evaluation.comparing.results import Results


def measures_table(results: Results) -> Table:
    """A column a model."""
    from bonsai.recipes.evaluation.comparing.measures import MEASURES
    from bonsai.recipes.evaluation.comparing.page import shown

    table = Table(title="side by side (95 % intervals)", title_style="bold")
    table.add_column("measure")
    for name in _short(results).values():
        table.add_column(Text(name), justify="right")
    for name, metric in MEASURES.items():
        found = [one.estimates.get(name) for one in results.measured]
        if any(found):
            table.add_row(
                metric.english + (" ↓" if metric.better == "lower" else ""),
                *(
                    f"{shown(one.value, name)} ({shown(one.low, name)} … {shown(one.high, name)})" if one else ""
                    for one in found
                ),
            )
    table.add_section()
    speeds = [one.tokens_per_second for one in results.measured]
    table.add_row("tokens a second, all questions together", *("" if one is None else f"{one:.1f}" for one in speeds))
    prices = [one.usd_per_1000 for one in results.measured]
    if any(price is not None for price in prices):
        table.add_row("US$ for 1,000 answers", *("" if one is None else f"{one:.3f}" for one in prices))
    return table


def likeness_table(results: Results) -> Table:
    """Every model with every other; with itself, its own samples."""
    names = _short(results)
    known = {frozenset((pair.first, pair.second)): pair for pair in results.matrix}
    table = Table(
        title="who answers like whom (mean cosine; in brackets: over different questions)", title_style="bold"
    )
    table.add_column("")
    for name in names.values():
        table.add_column(Text(name), justify="right")
    for first in names:
        pairs = [known.get(frozenset((first, second))) for second in names]
        table.add_row(Text(names[first]), *map(_likeness, pairs))
    return table


def _likeness(pair: Pair | None) -> str:
    if pair is None:
        return "–"
    return f"{pair.likeness.value:.2f}" + ("" if pair.by_chance is None else f" ({pair.by_chance:.2f})")


def compared_changes_table(changes: Changes, results: Results) -> Table:
    """What is different from an earlier comparison; what stayed as it was is left out."""
    from bonsai.recipes.evaluation.comparing.measures import MEASURES
    from bonsai.recipes.evaluation.comparing.page import shown

    names = _short(results)
    return changes_table(
        changes.earlier,
        ("model", "measure"),
        (
            Line(names[change.model], MEASURES[change.measure].english, change, partial(shown, measure=change.measure))
            for change in changes.changes
            if change.difference.value
        ),
    )


def ranking_table(ranked: Sequence[Ranked], votes: int) -> Table:
    """The models from the most preferred to the least."""
    table = Table(title=f"preferred by {votes} votes (Bradley–Terry, 95 % intervals)", title_style="bold")
    table.add_column("model")
    for column in ("preferred to the others", "strength"):
        table.add_column(column, justify="right")
    for one in ranked:
        share, strength = one.preferred, one.strength
        table.add_row(
            Text(one.model),
            f"{share.value:.0%} ({share.low:.0%} … {share.high:.0%})",
            f"{strength.value:+.2f} ({strength.low:+.2f} … {strength.high:+.2f})",
        )
    return table


def _short(results: Results) -> dict[str, str]:
    from bonsai.recipes.evaluation.comparing.identity import short_names

    return short_names([side.name for side in results.comparison.models])
