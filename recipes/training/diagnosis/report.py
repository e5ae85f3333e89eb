"""The diagnosis as a whole."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bonsai.model_card.facts import RecordLine
from bonsai.recipes.training.diagnosis.overfit import Validation, validation
from bonsai.recipes.training.diagnosis.record_losses import RecordLoss
from bonsai.recipes.training.diagnosis.spikes import Spike, spikes
from bonsai.recipes.training.diagnosis.suspects import Suspect, suspects, top
from bonsai.recipes.training.diagnosis.trend import Trend, trend
from bonsai.recipes.training.record import RunRecord

FITTED = 0.5
"""Nats a token, median over the records, below which a run has fitted its records: what still stands out is odd."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the loss of one run says."""

    trend: Trend | None
    """None: too few steps to judge"""
    spikes: tuple[Spike, ...]
    validation: Validation
    records: tuple[Suspect, ...]
    """all measured records, the one with the most loss left first"""
    train_rows: int

    @property
    def median_loss(self) -> float | None:
        """Of the measured records, in nats a token."""
        return statistics.median(one.loss for one in self.records) if self.records else None

    @property
    def fitted(self) -> bool:
        """Whether the run has fitted its records so closely that a contradiction stands out."""
        return self.median_loss is not None and self.median_loss < FITTED

    @property
    def highest(self) -> list[Suspect]:
        """The records worth a person's eye."""
        return top(self.records)


def diagnose(
    record: RunRecord,
    losses: Sequence[RecordLoss] = (),
    places: Mapping[str, str] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> Diagnosis:
    """Judge a run.

    Args:
        losses: what is left on each record, where it was measured.
        places: ``path:line`` by group.
        findings: of the checks, as report.json has them.
    """
    return Diagnosis(
        trend=trend(record.losses),
        spikes=tuple(spikes(record.losses)),
        validation=validation(
            record.validation_loss_before,
            record.validation_loss_after,
            record.evaluations,
            kept_step=record.best_step,
        ),
        records=tuple(suspects(losses, places or {}, findings)),
        train_rows=record.train_rows,
    )


def card_lines(diagnosis: Diagnosis) -> list[RecordLine]:
    """The records that the card lists."""
    return [RecordLine(one.id, one.published_place, one.loss, one.reasons) for one in diagnosis.highest]
