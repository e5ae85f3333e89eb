"""Bootstrap confidence intervals and exact sign-flip tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 42
_EXACT_UP_TO = 14
"""differences whose 2^n signs are all tried, instead of a sample of them"""

Floats = npt.NDArray[np.float64]


class MeanEstimate(NamedTuple):
    """A mean with its 95% interval."""

    value: float
    low: float
    high: float


class MeanDifference(NamedTuple):
    """A mean difference with its 95% interval, and how likely one as large is by chance."""

    value: float
    low: float
    high: float
    p: float


def mean_interval(values: Sequence[float]) -> MeanEstimate:
    """Mean and percentile bootstrap interval (Efron 1979).

    Where all values are equal, as with few yes-or-no scores, the interval has no width; it says nothing then.
    """
    sample = np.asarray(values, dtype=np.float64)
    return MeanEstimate(float(sample.mean()), *_interval(sample))


def paired_difference(before: Sequence[float], after: Sequence[float]) -> MeanDifference:
    """After minus before, on the same questions.

    The interval is a bootstrap over questions, p that of a two-sided sign-flip test (Fisher's, with all signs where
    they are few): swapping the sides turns the signs and nothing else.
    """
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return MeanDifference(float(change.mean()), *_interval(change), _p_value(change))


def _interval(sample: Floats) -> tuple[float, float]:
    drawn = np.random.default_rng(SEED).integers(0, len(sample), (RESAMPLES, len(sample)))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(sample[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _p_value(change: Floats) -> float:
    moved = change[change != 0]
    if not len(moved):
        return 1.0
    if len(moved) <= _EXACT_UP_TO:
        numbers = np.arange(2 ** len(moved))[:, None]
        signs = np.where(numbers >> np.arange(len(moved)) & 1, 1.0, -1.0)
        added = 0
    else:
        signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (RESAMPLES, len(moved)))
        added = 1  # the signs as they are: a sampled p is never 0 (Phipson and Smyth 2010)
    # a hair below: sums in another order differ in the last bit
    as_large = np.abs(signs @ moved) >= abs(moved.sum()) * (1 - 1e-9)
    return float((as_large.sum() + added) / (len(signs) + added))
