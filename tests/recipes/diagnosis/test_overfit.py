from __future__ import annotations

import pytest

from bonsai.recipes.training.diagnosis import ValidationTrend, judge_validation
from bonsai.recipes.training.run_record import ValidationPoint


def seen(*losses: float) -> list[ValidationPoint]:
    return [ValidationPoint(step=10 * n, loss=loss) for n, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("before", "on_the_way", "after", "outcome"),
    [
        (3.5, (), 2.5, ValidationTrend.BETTER),
        (3.5, (3.0, 2.6), 2.5, ValidationTrend.BETTER),
        (3.5, (3.0, 2.495), 2.5, ValidationTrend.BETTER),  # within one per cent
        (3.5, (), 3.49, ValidationTrend.UNCHANGED),
        (3.5, (), 3.9, ValidationTrend.WORSE),
        (3.5, (2.4, 2.6), 2.9, ValidationTrend.OVERFIT),
        (3.5, (2.4, 3.2), 3.9, ValidationTrend.OVERFIT),
        (3.5, (3.6, 3.7), 3.9, ValidationTrend.WORSE),
    ],
)
def test_the_validation_loss_is_judged(
    before: float, on_the_way: tuple[float, ...], after: float, outcome: ValidationTrend
) -> None:
    assert judge_validation(before, after, seen(*on_the_way)).outcome is outcome


def test_judge_validation_reports_overfitting_of_a_restored_run() -> None:
    told = judge_validation(3.5, 2.4, seen(2.4, 2.6, 2.9), kept_step=10)
    assert told.outcome is ValidationTrend.OVERFIT
    assert told.lowest is not None
    assert (told.lowest.step, told.kept_step) == (10, 10)
