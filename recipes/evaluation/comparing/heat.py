"""Likeness between models as a picture: where the squares of a heat map lie, and how warm they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bonsai.recipes.evaluation.comparing.measures import Pair

CELL = 64
MARGIN = 34


@dataclass(frozen=True, kw_only=True)
class Label:
    """Where the number of a model stands, above its column and before its row."""

    across: int
    down: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A square."""

    x: int
    y: int
    value: float | None
    """mean cosine; None: a single sample has nothing to be like"""
    by_chance: float | None
    """of answers to different questions"""
    warmth: float
    """0 to 1"""
    own: bool
    """on the diagonal"""
    title: str


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A square of squares; lengths in the SVG's units."""

    size: int
    cell: int
    labels: Sequence[Label]
    cells: Sequence[Cell]
    """the diagonal last: its border lies on its neighbours"""


def heat_map(pairs: Sequence[Pair], names: Mapping[str, str]) -> HeatMap | None:
    """The picture; None where there is nothing to compare.

    Args:
        names: what a reader calls each model, in the order of the rows.
    """
    if not pairs:
        return None
    known = {frozenset((pair.first, pair.second)): pair for pair in pairs}
    cold = min(figure for pair in pairs for figure in (pair.likeness.value, pair.by_chance) if figure is not None)
    cells = [
        _cell(row, column, known.get(frozenset((first, second))), cold, f"{names[first]} × {names[second]}")
        for row, first in enumerate(names)
        for column, second in enumerate(names)
    ]
    middles = [MARGIN + CELL * place + CELL // 2 for place in range(len(names))]
    return HeatMap(
        size=MARGIN + CELL * len(names) + 2,
        cell=CELL,
        labels=[Label(across=middle, down=middle + 5) for middle in middles],
        cells=sorted(cells, key=lambda cell: cell.own),
    )


def _cell(row: int, column: int, pair: Pair | None, cold: float, names: str) -> Cell:
    value = pair.likeness.value if pair else None
    return Cell(
        x=MARGIN + CELL * column,
        y=MARGIN + CELL * row,
        value=value,
        by_chance=pair.by_chance if pair else None,
        warmth=0.0 if value is None else (value - cold) / max(1 - cold, 1e-9),
        own=row == column,
        title=f"{names}: {value:.2f} ({pair.likeness.low:.2f} … {pair.likeness.high:.2f})" if pair else names,
    )
