"""The loss of each step as it would have been on the run's average mix of records.

Four or eight records make a step, and an answer in one category costs half the loss of an answer in another: most of
what makes a short run's curve jump is who was in the batch. An analysis of covariance takes it out: the loss is fitted
as a smooth course plus an effect of each category and each language, robustly, so that a spike stays a spike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bonsai.recipes.training.record import LossPoint
from bonsai.recipes.training.row_statistics import kind

COURSE = 3
"""coefficients of the smooth course: level, slope, curvature"""
STEPS_A_COEFFICIENT = 3
"""fewer steps than this for each coefficient, and the loss is left as it is"""

Array = NDArray[np.float64]


def like_for_like(losses: Sequence[LossPoint]) -> list[float]:
    """By step, the loss in nats a token less the effect of its records' categories and languages.

    The same as the loss where the run did not write its records down, has one kind only, or is too short to tell.
    Steps whose loss is not finite keep it.
    """
    values = [point.loss for point in losses]
    known = [here for here, point in enumerate(losses) if math.isfinite(point.loss) and point.records]
    mix = _mix([losses[here].records or [] for here in known])
    if mix.shape[1] == 0 or len(known) < STEPS_A_COEFFICIENT * (COURSE + mix.shape[1]):
        return values
    loss = np.array([values[here] for here in known])
    effect = mix @ _effects(loss, mix)
    for here, part in zip(known, effect, strict=True):
        values[here] -= float(part)
    return values


def _mix(records: Sequence[Sequence[str]]) -> Array:
    """Steps by factor: each kind's share of the step, centred; the first category and language are the yardstick."""
    columns: list[Array] = []
    for factor in (0, 1):
        kinds = [[kind(name)[factor] for name in step] for step in records]
        for one in sorted({name for step in kinds for name in step})[1:]:
            share = np.array([step.count(one) / len(step) for step in kinds])
            columns.append(share - share.mean())
    return np.stack(columns, axis=1) if columns else np.empty((len(records), 0))


def _effects(loss: Array, mix: Array) -> Array:
    time = np.linspace(-1.0, 1.0, len(loss))
    known = np.hstack([np.stack([time**power for power in range(COURSE)], axis=1), mix])
    start, *_ = np.linalg.lstsq(known, loss, rcond=None)
    scatter = float(np.median(np.abs(np.diff(loss)))) or 1.0

    def misses(at: Array) -> Array:
        return np.asarray(known @ at - loss)

    fitted = least_squares(misses, start, loss="soft_l1", f_scale=scatter)
    return np.asarray(fitted.x[COURSE:])
