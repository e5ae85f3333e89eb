"""Single steps whose loss stands out from their neighbours', with the records they saw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bonsai.recipes.training.like_for_like import like_for_like
from bonsai.recipes.training.record import LossPoint

NEIGHBOURS = 5
"""on each side"""
OUTSTANDING = 4.0
"""Robust z-score from which a step stands out: with normal noise one step in 30,000."""
MAD_TO_SD = 1.4826
"""median absolute deviation to standard deviation, for normal noise"""


@dataclass(frozen=True, kw_only=True)
class Spike:
    """One step that stands out."""

    step: int
    loss: float
    """in nats a token; may be infinite or not a number"""
    expected: float
    """the median of its neighbours, for its own mix of records"""
    z: float
    """robust z-score; infinite where the loss is no number"""
    records: tuple[str, ...]
    """ids of the rows in the step's batch; empty where the run did not write them down"""


def spikes(losses: Sequence[LossPoint]) -> list[Spike]:
    """The steps that stand out upwards, in the order of the steps."""
    residuals = surprises(losses)
    finite = [residual for residual in residuals if math.isfinite(residual)]
    if len(finite) <= 2 * NEIGHBOURS:
        return []
    middle = statistics.median(finite)
    deviation = MAD_TO_SD * statistics.median(abs(residual - middle) for residual in finite)
    found = []
    for point, residual in zip(losses, residuals, strict=True):
        z = math.inf
        if math.isfinite(residual):
            z = (residual - middle) / deviation if deviation else 0.0
        if z >= OUTSTANDING:
            expected = point.loss - residual if math.isfinite(residual) else math.nan
            found.append(
                Spike(step=point.step, loss=point.loss, expected=expected, z=z, records=tuple(point.records or ()))
            )
    return found


def surprises(losses: Sequence[LossPoint]) -> list[float]:
    """By step, how far its loss lies above the median of its neighbours, like for like; not finite where it is not."""
    alike = like_for_like(losses)
    return [loss - _around(alike, here) for here, loss in enumerate(alike)]


def _around(losses: Sequence[float], here: int) -> float:
    near = [*losses[max(0, here - NEIGHBOURS) : here], *losses[here + 1 : here + 1 + NEIGHBOURS]]
    finite = [loss for loss in near if math.isfinite(loss)]
    return statistics.median(finite) if finite else math.nan
