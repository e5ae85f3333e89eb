"""The loss as a table and as a picture: it is shown and judged after every step of the project."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from bonsai.recipes.training.record import FOLDER, LossPoint

SMOOTHING = 0.15
"""weight of the newest point in the smoothed curve"""


def write_table(losses: Sequence[LossPoint], adapter: Path) -> Path:
    """Write ``training/loss.csv``."""
    path = adapter / FOLDER / "loss.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss", "learning_rate", "grad_norm", "tokens"])
        for point in losses:
            writer.writerow(
                [
                    point.step,
                    f"{point.loss:.4f}",
                    f"{point.learning_rate:.3e}",
                    f"{point.grad_norm:.4f}",
                    point.tokens,
                ]
            )
    return path


def smoothed(losses: Sequence[LossPoint]) -> list[float]:
    """Exponential moving average, corrected for its start (as Adam corrects its moments)."""
    average, weight, out = 0.0, 0.0, []
    for point in losses:
        average += SMOOTHING * (point.loss - average)
        weight += SMOOTHING * (1 - weight)
        out.append(average / weight)
    return out


def draw(losses: Sequence[LossPoint], before: float, after: float, title: str, adapter: Path) -> Path:
    """Write ``training/loss.png``: each step, the smoothed curve, the validation loss before and after."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = adapter / FOLDER / "loss.png"
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [point.step for point in losses]
    axes.plot(steps, [point.loss for point in losses], ".", color="#9db8a0", label="each step")
    axes.plot(steps, smoothed(losses), color="#2f6b3a", linewidth=2, label="smoothed")
    axes.plot([steps[0] - 1, steps[-1]], [before, after], "D", color="#b5532a", label="validation, before and after")
    for x, y in ((steps[0] - 1, before), (steps[-1], after)):
        axes.annotate(f"{y:.2f}", (x, y), xytext=(0, 8), textcoords="offset points", ha="center", color="#b5532a")
    axes.set(xlabel="optimizer step", ylabel="loss on the completion (nats a token)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=140, metadata={"Software": None})
    return path
