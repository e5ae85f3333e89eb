"""The effect of who was in the batch is taken out of the loss, and nothing else."""

from __future__ import annotations

import random
import statistics

import pytest

from bonsai.recipes.training.loss_curves import adjust_for_batch_mix, find_spikes, loss_trend, step_noise
from bonsai.recipes.training.run_record import LossPoint

EFFECTS = {"open_qa": -1.2, "brainstorming": 0.6, "classification": -0.5}


def run(steps: int, *, fall: float, noise: float = 0.02, records: int = 4) -> list[LossPoint]:
    """A course that falls linearly, with known effects of the categories and of Japanese."""
    chance = random.Random(1)
    points = []
    for step in range(1, steps + 1):
        names = [
            f"{chance.choice(list(EFFECTS))}-{chance.randrange(9999):04}-{chance.choice(['en', 'ja'])}"
            for _ in range(records)
        ]
        effect = statistics.mean(EFFECTS[name.split("-")[0]] + 0.4 * name.endswith("ja") for name in names)
        loss = 3 - fall * step / steps + effect + chance.gauss(0, noise)
        points.append(
            LossPoint(step=step, loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=100 * step, records=names)
        )
    return points


def test_the_mix_of_records_is_taken_out() -> None:
    points = run(60, fall=0.4)
    assert step_noise([point.loss for point in points]) > 0.2
    assert step_noise(adjust_for_batch_mix(points)) < 0.03
    assert statistics.mean(adjust_for_batch_mix(points)) == pytest.approx(
        statistics.mean(p.loss for p in points), abs=0.02
    )


def test_loss_trend_finds_a_fall_hidden_by_the_batch_mix() -> None:
    hidden, flat = loss_trend(run(40, fall=0.3)), loss_trend(run(40, fall=0.0))
    assert hidden is not None
    assert hidden.falls
    assert hidden.first - hidden.last == pytest.approx(0.25, abs=0.05)
    assert flat is not None
    assert not flat.falls


def test_a_spike_stays_a_spike_with_its_own_loss() -> None:
    points = run(60, fall=0.4)
    points[30] = LossPoint(**{**vars(points[30]), "loss": 8.0})
    (found,) = find_spikes(points)
    assert (found.step, found.loss) == (31, 8.0)
    assert found.expected == pytest.approx(run(60, fall=0.4)[30].loss, abs=0.15)


def test_what_cannot_be_told_apart_is_left_as_it_is() -> None:
    few = run(12, fall=0.4)
    unknown = [LossPoint(**{**vars(point), "records": None}) for point in run(60, fall=0.4)]
    alone = [LossPoint(**{**vars(point), "records": ["open_qa-0001-en"]}) for point in run(60, fall=0.4)]
    broken = run(60, fall=0.4)
    broken[5] = LossPoint(**{**vars(broken[5]), "loss": float("nan")})
    for points in (few, unknown, alone):
        assert adjust_for_batch_mix(points) == [point.loss for point in points]
    assert [here for here, loss in enumerate(adjust_for_batch_mix(broken)) if loss != loss] == [5]
