"""Write and plot the loss, adjust it for each batch's composition, and find its trend and spikes.

Four or eight records make a step, and an answer in one category costs half the loss of an answer in another: most of
what makes a short run's curve jump is who was in the batch. An analysis of covariance takes it out: the loss is fitted
as a smooth course plus an effect of each category and each language, robustly, so that a spike stays a spike.

The post of 2024-04-10 saw a loss that no longer fell monotonically and suspected contradictions in the records. Single
steps say little, as each sees other records; so the mix of records is taken out, the fall is tested (Mann-Kendall asks
for no shape of the curve) and the rise is looked for in the smoothed curve.
"""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import kendalltau

from bonsai.recipes.training.data import row_category
from bonsai.recipes.training.run_record import FOLDER, LossPoint

COURSE = 3
"""coefficients of the smooth course: level, slope, curvature"""
STEPS_A_COEFFICIENT = 3
"""fewer steps than this for each coefficient, and the loss is left as it is"""

Array = NDArray[np.float64]


def adjust_for_batch_mix(losses: Sequence[LossPoint]) -> list[float]:
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
        kinds = [[row_category(name)[factor] for name in step] for step in records]
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


SMOOTHING = 0.15
"""weight of the newest point in the smoothed curve"""


def write_loss_csv(losses: Sequence[LossPoint], adapter: Path) -> Path:
    """Write ``training/loss.csv``."""
    path = adapter / FOLDER / "loss.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss", "loss_like_for_like", "learning_rate", "grad_norm", "tokens"])
        for point, alike in zip(losses, adjust_for_batch_mix(losses), strict=True):
            writer.writerow(
                [
                    point.step,
                    f"{point.loss:.4f}",
                    f"{alike:.4f}",
                    f"{point.learning_rate:.3e}",
                    f"{point.grad_norm:.4f}",
                    point.tokens,
                ]
            )
    return path


def ema(losses: Sequence[float]) -> list[float]:
    """Exponential moving average, corrected for its start (as Adam corrects its moments)."""
    average, weight, out = 0.0, 0.0, []
    for loss in losses:
        average += SMOOTHING * (loss - average)
        weight += SMOOTHING * (1 - weight)
        out.append(average / weight)
    return out


def plot_losses(losses: Sequence[LossPoint], validation: Mapping[int, float], title: str, adapter: Path) -> Path:
    """Write ``training/loss.png``: each step, the smoothed curve of like for like, the validation loss by step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    path = adapter / FOLDER / "loss.png"
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [point.step for point in losses]
    axes.plot(steps, [point.loss for point in losses], ".", color="#9db8a0", label="each step")
    alike = ema(adjust_for_batch_mix(losses))
    axes.plot(steps, alike, color="#2f6b3a", linewidth=2, label="smoothed, like for like")
    axes.plot(list(validation), list(validation.values()), "D--", color="#b5532a", linewidth=1, label="validation")
    for x, y in validation.items():
        axes.annotate(f"{y:.2f}", (x, y), xytext=(0, -17), textcoords="offset points", ha="center", color="#b5532a")
    axes.set(xlabel="optimizer step", ylabel="loss on the completion (nats a token)", title=title)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=140, metadata={"Software": None})
    return path


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


def loss_trend(losses: Sequence[LossPoint]) -> Trend | None:
    """The course of these losses; None for a run too short to be judged."""
    finite = [point for point in losses if math.isfinite(point.loss)]
    if len(finite) < FEWEST:
        return None
    values = adjust_for_batch_mix(finite)
    curve = ema(values)
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


def find_spikes(losses: Sequence[LossPoint]) -> list[Spike]:
    """The steps that stand out upwards, in the order of the steps."""
    residuals = loss_residuals(losses)
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


def loss_residuals(losses: Sequence[LossPoint]) -> list[float]:
    """By step, how far its loss lies above the median of its neighbours, like for like; not finite where it is not."""
    alike = adjust_for_batch_mix(losses)
    return [loss - _around(alike, here) for here, loss in enumerate(alike)]


def _around(losses: Sequence[float], here: int) -> float:
    near = [*losses[max(0, here - NEIGHBOURS) : here], *losses[here + 1 : here + 1 + NEIGHBOURS]]
    finite = [loss for loss in near if math.isfinite(loss)]
    return statistics.median(finite) if finite else math.nan
