"""Whether the loss falls, and whether it falls monotonically.

The post of 2024-04-10 saw a loss that no longer fell monotonically and suspected contradictions in the records. Single
steps say little, as each sees other records; so the mix of records is taken out, the fall is tested (Mann-Kendall asks
for no shape of the curve) and the rise is looked for in the smoothed curve.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import kendalltau

from bonsai.recipes.training.like_for_like import like_for_like
from bonsai.recipes.training.losses import SMOOTHING, smoothed
from bonsai.recipes.training.record import LossPoint

FEWEST = 12
"""steps below which a course is not judged"""
SIGNIFICANCE = 0.01
RISE = 2.0
"""A rise of the smoothed curve counts from this many standard deviations of a single step; it moves by 0.28 of one."""
SETTLED = round(1 / SMOOTHING)
"""steps until the smoothed curve stands on more than the first few of them"""
LAST_PART = 3
"""the end is the last third"""


class MannKendall(NamedTuple):
    """Tau is -1 for a strict fall, 0 for no trend, 1 for a strict rise; p is two-sided."""

    tau: float
    p: float


class Rise(NamedTuple):
    """The largest rise of the smoothed loss, in nats a token."""

    from_step: int
    to_step: int
    from_loss: float
    to_loss: float


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The course of the training loss."""

    test: MannKendall
    falls: bool
    rise: Rise | None
    """None: no rise larger than the noise of the steps"""
    still_falling: bool
    """over the last third"""
    first: float
    """smoothed, where the smoothing has settled, in nats a token"""
    last: float
    noise: float
    """standard deviation of one step around its course, in nats a token"""

    @property
    def monotone(self) -> bool:
        """It falls, and never rises by more than its noise."""
        return self.falls and self.rise is None


def trend(losses: Sequence[LossPoint]) -> Trend | None:
    """The course of these losses; None for a run too short to be judged."""
    finite = [point for point in losses if math.isfinite(point.loss)]
    if len(finite) < FEWEST:
        return None
    values = like_for_like(finite)
    curve = smoothed(values)
    noise = step_noise(values)
    test = mann_kendall(values)
    end = mann_kendall(values[-max(FEWEST, len(values) // LAST_PART) :])
    return Trend(
        test=test,
        falls=test.tau < 0 and test.p < SIGNIFICANCE,
        rise=_largest_rise(finite, curve, RISE * noise),
        still_falling=end.tau < 0 and end.p < SIGNIFICANCE,
        first=curve[SETTLED - 1],
        last=curve[-1],
        noise=noise,
    )


def mann_kendall(values: Sequence[float]) -> MannKendall:
    """Mann (1945): Kendall's rank correlation of the values with time, for 10 values or more."""
    result = kendalltau(range(len(values)), values, method="asymptotic")
    tau, p = float(result.statistic), float(result.pvalue)
    return MannKendall(tau, p) if math.isfinite(tau) else MannKendall(0.0, 1.0)  # all values the same


def step_noise(values: Sequence[float]) -> float:
    """Standard deviation of a step around its course, from the differences of neighbours: blind to a slow trend."""
    return statistics.median(abs(b - a) for a, b in itertools.pairwise(values)) / (0.6745 * math.sqrt(2))


def _largest_rise(points: Sequence[LossPoint], curve: Sequence[float], least: float) -> Rise | None:
    low, found = SETTLED - 1, None
    for here in range(SETTLED - 1, len(curve)):
        if curve[here] < curve[low]:
            low = here
        rise = curve[here] - curve[low]
        if rise > least and (found is None or rise > found.to_loss - found.from_loss):
            found = Rise(points[low].step, points[here].step, curve[low], curve[here])
    return found
