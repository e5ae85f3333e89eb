"""Loss curves with known faults."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from bonsai.recipes.training.run_record import LossPoint

NOISE = 0.3
"""nats, of one step: what a batch of two records scatters by"""


def points(values: list[float]) -> list[LossPoint]:
    return [
        LossPoint(step=n, loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=100 * n, records=[f"open_qa-{n:04}-en"])
        for n, loss in enumerate(values, 1)
    ]


def noisy(course: Callable[[int], float], steps: int, seed: int) -> list[LossPoint]:
    chance = random.Random(seed)
    return points([course(n) + chance.gauss(0, NOISE) for n in range(steps)])


def falling(step: int) -> float:
    return 2 + 2 * math.exp(-step / 30)
