"""The loss as a table and as a picture: it is shown and judged after every step of the project."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from bonsai.recipes.training.like_for_like import like_for_like
from bonsai.recipes.training.record import FOLDER, LossPoint

SMOOTHING = 0.15
"""weight of the newest point in the smoothed curve"""


def write_table(losses: Sequence[LossPoint], adapter: Path) -> Path:
    """Write ``training/loss.csv``."""
    path = adapter / FOLDER / "loss.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss", "loss_like_for_like", "learning_rate", "grad_norm", "tokens"])
        for point, alike in zip(losses, like_for_like(losses), strict=True):
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


def smoothed(losses: Sequence[float]) -> list[float]:
    """Exponential moving average, corrected for its start (as Adam corrects its moments)."""
    average, weight, out = 0.0, 0.0, []
    for loss in losses:
        average += SMOOTHING * (loss - average)
        weight += SMOOTHING * (1 - weight)
        out.append(average / weight)
    return out


def draw(losses: Sequence[LossPoint], validation: Mapping[int, float], title: str, adapter: Path) -> Path:
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
    alike = smoothed(like_for_like(losses))
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
