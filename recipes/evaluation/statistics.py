"""Estimate means and paired differences with bootstrap intervals and exact sign-flip tests.

Plain numpy, so that figures can be worked out where scipy is not installed; the tests hold each function against the
scipy function that its docstring names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 42
CHANCE = 0.05
"""p below which a difference counts"""
EXACT_UP_TO = 14
"""differences up to which all 2^n sign patterns are tried; beyond, a sample of them is drawn"""

Floats = npt.NDArray[np.float64]
Direction = Literal["higher", "lower", "neither"]
"""which values of a metric are better"""
Verdict = Literal["better", "worse", "unchanged"]
WORST_FIRST: dict[Verdict, int] = {"worse": 0, "better": 1, "unchanged": 2}


class MeanEstimate(NamedTuple):
    """A mean with its 95% interval."""

    value: float
    low: float
    high: float


class MeanDifference(NamedTuple):
    """A mean difference with its 95% interval, and the probability of one as large by chance."""

    value: float
    low: float
    high: float
    p: float

    def verdict(self, direction: Direction) -> Verdict:
        """Say whether a metric improved beyond chance.

        Both the interval must exclude zero and the paired test must agree; with few questions the test never does.
        """
        if self.p >= CHANCE or self.low <= 0 <= self.high:
            return "unchanged"
        return "better" if (self.low > 0) == (direction == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One metric in an earlier and a later result, over the questions that both share."""

    questions: int
    then: float
    now: float
    difference: MeanDifference
    verdict: Verdict


def paired_change(pairs: Sequence[tuple[float, float]], direction: Direction) -> Change:
    """Compare the (earlier, later) scores of the same questions, at least one pair."""
    then, now = [before for before, _ in pairs], [after for _, after in pairs]
    difference = paired_difference(then, now)
    return Change(
        questions=len(pairs),
        then=sum(then) / len(then),
        now=sum(now) / len(now),
        difference=difference,
        verdict=difference.verdict(direction),
    )


def mean_interval(values: Sequence[float]) -> MeanEstimate:
    """Estimate a mean with its percentile bootstrap interval (Efron 1979).

    Equivalent to ``scipy.stats.bootstrap((values,), np.mean, method="percentile")``. If all values are equal, as few
    yes-or-no scores often are, the interval has no width and says nothing.
    """
    sample = np.asarray(values, dtype=np.float64)
    return MeanEstimate(float(sample.mean()), *_bootstrap_interval(sample))


def paired_difference(before: Sequence[float], after: Sequence[float]) -> MeanDifference:
    """Estimate ``after - before`` over the same questions, with a bootstrap interval and a two-sided sign-flip test.

    The p value is that of ``scipy.stats.permutation_test((before, after), …, permutation_type="samples")`` for the mean
    difference: exact for few differences, sampled for many. Swapping the sides only turns the signs.
    """
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    low, high = _bootstrap_interval(change)
    nonzero = change[change != 0]
    if not len(nonzero):
        return MeanDifference(float(change.mean()), low, high, 1.0)
    if len(nonzero) <= EXACT_UP_TO:
        patterns = np.arange(2 ** len(nonzero))[:, None]
        signs = np.where(patterns >> np.arange(len(nonzero)) & 1, 1.0, -1.0)
        observed = 0
    else:
        signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (RESAMPLES, len(nonzero)))
        observed = 1  # the observed signs count as one sample: a sampled p is never 0 (Phipson and Smyth 2010)
    # a hair below the observed sum: sums in another order differ in the last bit
    as_large = np.abs(signs @ nonzero) >= abs(nonzero.sum()) * (1 - 1e-9)
    p = float((as_large.sum() + observed) / (len(signs) + observed))
    return MeanDifference(float(change.mean()), low, high, p)


def percentile_interval(resampled: Floats) -> tuple[float, float]:
    """Cut equal tails off resampled statistics, so that `LEVEL` of them lies between the two ends."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def _bootstrap_interval(sample: Floats) -> tuple[float, float]:
    indices = np.random.default_rng(SEED).integers(0, len(sample), (RESAMPLES, len(sample)))
    return percentile_interval(sample[indices].mean(axis=1))
