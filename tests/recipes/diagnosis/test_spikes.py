from __future__ import annotations

import math

from bonsai.recipes.training.loss_curves import find_spikes
from tests.recipes.diagnosis.curves import NOISE, falling, noisy, points


def test_a_spike_is_named_with_the_records_of_its_batch() -> None:
    losses = noisy(falling, 100, seed=3)
    values = [point.loss for point in losses]
    values[59] += 8 * NOISE
    (found,) = find_spikes(points(values))
    assert found.step == 60
    assert found.records == ("open_qa-0060-en",)
    assert found.z > 4
    assert abs(found.expected - falling(59)) < 2 * NOISE


def test_noise_alone_is_seldom_called_a_spike() -> None:
    steps = 100
    assert sum(len(find_spikes(noisy(falling, steps, seed))) for seed in range(100)) <= 0.001 * 100 * steps


def test_a_step_without_a_number_is_a_spike() -> None:
    values = [3.0 - n / 50 + (n % 3) / 10 for n in range(30)]
    values[10] = math.nan
    values[20] = math.inf
    assert [spike.step for spike in find_spikes(points(values))] == [11, 21]


def test_a_flat_line_and_a_short_run_have_no_spikes() -> None:
    assert find_spikes(points([2.0] * 40)) == []
    assert find_spikes(points([2.0, 9.0, 2.0])) == []
