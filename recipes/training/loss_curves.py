"""Adjust the loss for each batch's composition, find its trend and spikes, write it as CSV and plot it.

Four or eight records make a step, and an answer in one category costs half the loss of an answer in another: most of
what makes a short run's curve jump is the composition of its batches. An analysis of covariance removes it: the loss is
fitted as a smooth curve plus an effect of each category and each language, robustly, so that a spike stays a spike.

The post of 2024-04-10 saw a loss that no longer fell monotonically and suspected contradictions in the records. Single
steps say little, as each sees other records; so the adjusted loss is tested for a trend (Mann-Kendall, which assumes no
shape of the curve), and rises are looked for in the smoothed curve.
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

# Adjustment
COURSE = 3
"""coefficients of the smooth curve: level, slope, curvature"""
STEPS_A_COEFFICIENT = 3
"""with fewer steps than this for each coefficient, the loss is left as it is"""
# Trend
SMOOTHING = 0.15
"""weight of the newest point in the smoothed curve"""
SETTLED = round(1 / SMOOTHING)
"""steps until the smoothed curve depends on more than the first few of them"""
FEWEST = 12
"""fewer steps than this are not judged"""
SIGNIFICANCE = 0.01
RISE = 2.0
"""A rise of the smoothed curve counts from this many standard deviations of a single step; it moves by 0.28 of one."""
LAST_PART = 3
"""the end of a run is its last third"""
# Spikes
NEIGHBOURS = 5
"""on each side"""
OUTSTANDING = 4.0
"""robust z-score from which a step is a spike: with normal noise one step in 30,000"""
MAD_TO_SD = 1.4826
"""median absolute deviation to standard deviation, for normal noise"""

Array = NDArray[np.float64]


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
    """The course of the training loss over a run."""

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
        """Whether it falls and never rises by more than its noise."""
        return self.falls and self.rise is None


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A step whose loss stands out."""

    step: int
    loss: float
    """in nats a token; may be infinite or not a number"""
    expected: float
    """the median of its neighbours, adjusted to its own mix of records"""
    z: float
    """robust z-score; infinite where the loss is no number"""
    records: tuple[str, ...]
    """ids of the rows in the step's batch; empty where the run did not record them"""


def adjust_for_batch_mix(losses: Sequence[LossPoint]) -> list[float]:
    """Subtract from each step's loss, in nats a token, the effect of its records' categories and languages.

    The loss is unchanged where the run did not record its batches, has one kind of record only, or is too short to
    tell. Steps whose loss is not finite keep it.
    """
    # 1. The share of each category and language in a step, centred. The first of each is the reference level: with all
    #    of them the columns would add up to a constant.
    values = [point.loss for point in losses]
    known = [here for here, point in enumerate(losses) if math.isfinite(point.loss) and point.records]
    columns: list[Array] = []
    for factor in (0, 1):
        kinds = [[row_category(name)[factor] for name in losses[here].records or ()] for here in known]
        for kind in sorted({name for step in kinds for name in step})[1:]:
            share = np.array([step.count(kind) / len(step) for step in kinds])
            columns.append(share - share.mean())
    if not columns or len(known) < STEPS_A_COEFFICIENT * (COURSE + len(columns)):
        return values

    # 2. Fit curve and effects together, robustly (soft L1): least squares alone would let one spike bend both.
    loss, mix = np.array([values[here] for here in known]), np.stack(columns, axis=1)
    time = np.linspace(-1.0, 1.0, len(loss))
    design = np.hstack([np.stack([time**power for power in range(COURSE)], axis=1), mix])
    start, *_ = np.linalg.lstsq(design, loss, rcond=None)
    scatter = float(np.median(np.abs(np.diff(loss)))) or 1.0

    def residuals(coefficients: Array) -> Array:
        return np.asarray(design @ coefficients - loss)

    fitted = least_squares(residuals, start, loss="soft_l1", f_scale=scatter)

    # 3. Subtract the effects only.
    for here, effect in zip(known, mix @ np.asarray(fitted.x[COURSE:]), strict=True):
        values[here] -= float(effect)
    return values


def ema(losses: Sequence[float]) -> list[float]:
    """Compute the exponential moving average, with Adam's correction for the start."""
    average, weight, out = 0.0, 0.0, []
    for loss in losses:
        average += SMOOTHING * (loss - average)
        weight += SMOOTHING * (1 - weight)
        out.append(average / weight)
    return out


def loss_trend(losses: Sequence[LossPoint]) -> Trend | None:
    """Judge the course of the training loss; None for a run too short to be judged."""
    finite = [point for point in losses if math.isfinite(point.loss)]
    if len(finite) < FEWEST:
        return None
    # 1. Test the whole and the last part.
    values = adjust_for_batch_mix(finite)
    test = mann_kendall(values)
    end = mann_kendall(values[-max(FEWEST, len(values) // LAST_PART) :])
    # 2. Find the largest rise of the smoothed curve above the lowest point before it.
    curve, noise = ema(values), step_noise(values)
    low, largest = SETTLED - 1, None
    for here in range(SETTLED - 1, len(curve)):
        if curve[here] < curve[low]:
            low = here
        rise = curve[here] - curve[low]
        if rise > RISE * noise and (largest is None or rise > largest.to_loss - largest.from_loss):
            largest = Rise(finite[low].step, finite[here].step, curve[low], curve[here])
    return Trend(
        test=test,
        falls=test.tau < 0 and test.p < SIGNIFICANCE,
        rise=largest,
        still_falling=end.tau < 0 and end.p < SIGNIFICANCE,
        first=curve[SETTLED - 1],
        last=curve[-1],
        noise=noise,
    )


def mann_kendall(values: Sequence[float]) -> MannKendall:
    """Test for a trend (Mann 1945): Kendall's rank correlation of 10 or more values with time."""
    result = kendalltau(range(len(values)), values, method="asymptotic")
    tau, p = float(result.statistic), float(result.pvalue)
    return MannKendall(tau, p) if math.isfinite(tau) else MannKendall(0.0, 1.0)  # all values the same


def step_noise(values: Sequence[float]) -> float:
    """Estimate the standard deviation of a single step from the differences of neighbours: blind to a slow trend."""
    # 0.6745: median absolute value of a standard normal variable; a difference of two has sqrt(2) the deviation of one.
    return statistics.median(abs(b - a) for a, b in itertools.pairwise(values)) / (0.6745 * math.sqrt(2))


def loss_residuals(losses: Sequence[LossPoint]) -> list[float]:
    """Compute by step how far the adjusted loss is above the median of its neighbours; not finite where it is not."""
    adjusted = adjust_for_batch_mix(losses)
    residuals = []
    for here, loss in enumerate(adjusted):
        near = [*adjusted[max(0, here - NEIGHBOURS) : here], *adjusted[here + 1 : here + 1 + NEIGHBOURS]]
        finite = [one for one in near if math.isfinite(one)]
        residuals.append(loss - (statistics.median(finite) if finite else math.nan))
    return residuals


def find_spikes(losses: Sequence[LossPoint]) -> list[Spike]:
    """Find the steps whose loss stands out upwards, in the order of the steps."""
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


def write_loss_csv(losses: Sequence[LossPoint], adapter: Path) -> Path:
    """Write ``training/loss.csv``: a line per step with its loss as measured and adjusted."""
    path = adapter / FOLDER / "loss.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss", "loss_like_for_like", "learning_rate", "grad_norm", "tokens"])
        for point, adjusted in zip(losses, adjust_for_batch_mix(losses), strict=True):
            rate, norm = f"{point.learning_rate:.3e}", f"{point.grad_norm:.4f}"
            writer.writerow([point.step, f"{point.loss:.4f}", f"{adjusted:.4f}", rate, norm, point.tokens])
    return path


def plot_losses(losses: Sequence[LossPoint], validation: Mapping[int, float], title: str, adapter: Path) -> Path:
    """Plot each step, the smoothed adjusted curve and the validation loss by step into ``training/loss.png``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    path = adapter / FOLDER / "loss.png"
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [point.step for point in losses]
    axes.plot(steps, [point.loss for point in losses], ".", color="#9db8a0", label="each step")
    axes.plot(steps, ema(adjust_for_batch_mix(losses)), color="#2f6b3a", linewidth=2, label="smoothed, like for like")
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
