"""Whether the run went on learning its records by heart after it had learnt what carries over."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from bonsai.recipes.training.record import ValidationPoint

WORTH_TELLING = 0.01
"""a share of the validation loss below which a difference is not spoken of"""


class Outcome(enum.StrEnum):
    """What the validation loss did."""

    BETTER = "better"
    UNCHANGED = "unchanged"
    WORSE = "worse"
    OVERFIT = "overfit"
    """it fell, and rose again before the end"""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The validation loss, in nats a token."""

    outcome: Outcome
    before: float
    after: float
    """of the adapter that was kept"""
    lowest: ValidationPoint | None
    """of the evaluations on the way; with none, overfitting shows only where the loss ends above its beginning"""
    kept_step: int | None
    """the step whose adapter was kept, where it is not the last"""


def validation(
    before: float, after: float, on_the_way: Sequence[ValidationPoint] = (), *, kept_step: int | None = None
) -> Validation:
    """Judge the validation loss before, on the way and after.

    Args:
        kept_step: the step whose adapter was kept, where it is not the last; ``after`` is its loss then.
    """
    lowest = min(on_the_way, key=lambda point: point.loss, default=None)
    least = WORTH_TELLING * before
    end = on_the_way[-1].loss if kept_step is not None and on_the_way else after
    if lowest is not None and end - lowest.loss > least and before - lowest.loss > least:
        outcome = Outcome.OVERFIT
    elif abs(after - before) <= least:
        outcome = Outcome.UNCHANGED
    else:
        outcome = Outcome.BETTER if after < before else Outcome.WORSE
    return Validation(outcome=outcome, before=before, after=after, lowest=lowest, kept_step=kept_step)
