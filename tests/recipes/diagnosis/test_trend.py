from __future__ import annotations

import math
import random

import pytest

from bonsai.recipes.training.loss_curves import loss_trend, mann_kendall, step_noise
from tests.recipes.diagnosis.curves import NOISE, falling, noisy, points

CURVES = 200


def test_mann_kendall_by_hand() -> None:
    # S = 9 - 1 of 10 pairs; without ties the variance is n(n-1)(2n+5)/18 = 300/18 (Mann 1945, Kendall 1975)
    told = mann_kendall([5.0, 4.0, 2.0, 3.0, 1.0])
    assert told.tau == pytest.approx(-0.8)
    assert told.p == pytest.approx(math.erfc(8 / math.sqrt(300 / 18) / math.sqrt(2)))
    assert mann_kendall([1.0] * 12) == (0.0, 1.0)


def test_a_loss_that_falls_with_noise_is_called_monotone() -> None:
    told = [loss_trend(noisy(falling, 150, seed)) for seed in range(CURVES)]
    assert sum(one is not None and one.monotone for one in told) >= 0.95 * CURVES


def test_a_loss_that_stays_is_not_said_to_fall() -> None:
    told = [loss_trend(noisy(lambda _: 3.0, 150, seed)) for seed in range(CURVES)]
    assert sum(one is not None and one.falls for one in told) <= 0.03 * CURVES


def test_a_rise_in_the_middle_is_found_where_it_is() -> None:
    found = [
        loss_trend(noisy(lambda n: falling(n) + (1.5 if 70 <= n < 100 else 0), 150, seed)) for seed in range(CURVES)
    ]
    rises = [one.rise for one in found if one is not None and one.rise is not None]
    assert len(rises) >= 0.95 * CURVES
    assert all(one is not None and not one.monotone for one in found if one is not None and one.rise)
    inside = [rise for rise in rises if rise.from_step <= 75 and 70 <= rise.to_step <= 105]
    assert len(inside) >= 0.9 * len(rises)


def test_loss_trend_tells_a_falling_end_from_a_settled_one() -> None:
    steep = [loss_trend(noisy(lambda n: 4 - n / 40, 120, seed)) for seed in range(50)]
    level = [loss_trend(noisy(lambda n: 1 + 3 * math.exp(-n / 5), 120, seed)) for seed in range(50)]
    assert sum(one is not None and one.still_falling for one in steep) >= 45
    assert sum(one is not None and one.still_falling for one in level) <= 3


def test_the_noise_of_a_step_is_told_apart_from_the_trend() -> None:
    chance = random.Random(1)
    values = [4 - n / 200 + chance.gauss(0, NOISE) for n in range(400)]
    assert step_noise(values) == pytest.approx(NOISE, rel=0.15)


def test_a_handful_of_steps_is_not_judged() -> None:
    assert loss_trend(points([3.0, 2.0, 1.0])) is None


def test_a_loss_that_is_no_number_does_not_spoil_the_rest() -> None:
    told = loss_trend(points([*(4 - n / 10 for n in range(20)), math.nan, 1.9]))
    assert told is not None
    assert told.monotone
