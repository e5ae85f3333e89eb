"""Diagnose a finished run: loss trend, spikes, overfitting, and the records with the highest loss."""

from __future__ import annotations

import csv
import enum
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bonsai.builder.assets import load_table
from bonsai.builder.errors import RecordError
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.model_card.facts import DiagnosisFacts, RecordLine
from bonsai.recipes.training.loss_curves import Spike, Trend, find_spikes, loss_trend
from bonsai.recipes.training.record_losses import CPU_TOKENS, RecordLoss, order_by_surprise, record_losses
from bonsai.recipes.training.run_record import FOLDER, RunRecord, ValidationPoint, save_diagnosis

NOTABLE_CHANGE = 0.01
"""a smaller change, as a share of the validation loss before training, is ignored"""
FITTED = 0.5
"""median loss of the records, in nats a token, below which a run has fitted them: what still stands out is odd"""
TABLE = "records_by_loss.csv"
TOP_SHARE = 0.05
"""the share of the records that is worth reading"""
FEWEST = 5
"""records to read at least"""
NAMED_SPIKES = 3
NAMED_RECORDS = 4
"""ids named for a spike"""


class ValidationTrend(enum.StrEnum):
    """How the validation loss changed."""

    BETTER = "better"
    UNCHANGED = "unchanged"
    WORSE = "worse"
    OVERFIT = "overfit"
    """it fell and then rose again"""


@dataclass(frozen=True, kw_only=True)
class ValidationVerdict:
    """The validation loss before and after training, in nats a token."""

    outcome: ValidationTrend
    before: float
    after: float
    """loss of the adapter that was kept"""
    lowest: ValidationPoint | None
    """evaluation with the lowest loss during training; without any, overfitting shows only if the loss ends higher"""
    kept_step: int | None
    """the step whose adapter was kept, unless it is the last"""


@dataclass(frozen=True, kw_only=True)
class HighLossRecord:
    """A record, its loss after training, and what the checks found in it."""

    id: str
    loss: float
    """in nats a completion token"""
    tokens: int
    place: str
    """``path:line``; empty if the group is not among the local records"""
    reasons: tuple[str, ...]
    """findings of the checks, as ``check: message``"""

    @property
    def published_place(self) -> str:
        """``file:line`` without the folder, which is private to this machine."""
        return Path(self.place).name


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The diagnosis of one run."""

    trend: Trend | None
    """None: too few steps"""
    spikes: tuple[Spike, ...]
    validation: ValidationVerdict
    records: tuple[HighLossRecord, ...]
    """all measured records, the highest loss first"""
    train_rows: int

    @property
    def median_loss(self) -> float | None:
        """Median loss of the measured records, in nats a token."""
        return statistics.median(one.loss for one in self.records) if self.records else None

    @property
    def fitted(self) -> bool:
        """Whether the run has fitted its records so closely that a contradiction stands out."""
        return self.median_loss is not None and self.median_loss < FITTED

    @property
    def highest(self) -> list[HighLossRecord]:
        """The records worth reading: the top 5%, five at least."""
        return list(self.records[: max(FEWEST, round(TOP_SHARE * len(self.records)))])


class BilingualText(NamedTuple):
    """One sentence in both languages."""

    english: str
    japanese: str


def diagnose_run(
    record: RunRecord,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, str]],
    *,
    dataset: Path,
    adapter: Path,
    on_record: Callable[[int], None] | None = None,
) -> Diagnosis:
    """Measure the records, judge the run, and write ``records_by_loss.csv`` and ``diagnosis.json`` to ``training/``.

    Args:
        model: base and adapter as trained, on the device they were trained on.
        rows: the training rows: id, prompt, completion.
        dataset: the build, whose report holds the findings of the checks.
        adapter: the adapter's folder.
        on_record: called with the number of records measured so far.
    """
    most = None if torch.cuda.is_available() else CPU_TOKENS
    losses = record_losses(
        model, tokenizer, order_by_surprise(record.losses, rows), most_tokens=most, on_record=on_record
    )
    diagnosis = diagnose(record, losses, record_locations(default_records_dir()), build_findings(dataset))
    write_table(diagnosis.records, adapter)
    sentences = explain_diagnosis(diagnosis)
    facts = DiagnosisFacts(
        english=tuple(one.english for one in sentences),
        japanese=tuple(one.japanese for one in sentences),
        highest=tuple(card_lines(diagnosis)),
        measured=len(losses),
    )
    save_diagnosis(facts, adapter)
    return diagnosis


def diagnose(
    record: RunRecord,
    losses: Sequence[RecordLoss] = (),
    places: Mapping[str, str] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> Diagnosis:
    """Judge a run from its losses.

    Args:
        losses: of each record after training, if measured.
        places: ``path:line`` by group.
        findings: of the checks, as in report.json.
    """
    return Diagnosis(
        trend=loss_trend(record.losses),
        spikes=tuple(find_spikes(record.losses)),
        validation=judge_validation(
            record.validation_loss_before, record.validation_loss_after, record.evaluations, kept_step=record.best_step
        ),
        records=tuple(rank_by_loss(losses, places or {}, findings)),
        train_rows=record.train_rows,
    )


def judge_validation(
    before: float, after: float, on_the_way: Sequence[ValidationPoint] = (), *, kept_step: int | None = None
) -> ValidationVerdict:
    """Classify the change of the validation loss, in nats a token.

    Args:
        kept_step: the step whose adapter was kept, unless it is the last; ``after`` is its loss then.
    """
    lowest = min(on_the_way, key=lambda point: point.loss, default=None)
    least = NOTABLE_CHANGE * before
    end = on_the_way[-1].loss if kept_step is not None and on_the_way else after
    if lowest is not None and end - lowest.loss > least and before - lowest.loss > least:
        outcome = ValidationTrend.OVERFIT
    elif abs(after - before) <= least:
        outcome = ValidationTrend.UNCHANGED
    else:
        outcome = ValidationTrend.BETTER if after < before else ValidationTrend.WORSE
    return ValidationVerdict(outcome=outcome, before=before, after=after, lowest=lowest, kept_step=kept_step)


def group_and_languages(row_id: str) -> tuple[str, list[str]]:
    """Split a row's id: ``open_qa-0042-ja`` -> ``open_qa-0042``, [ja]; ``…-0001-ja2en`` -> ``…-0001``, [ja, en]."""
    group, _, languages = row_id.rpartition("-")
    return group, languages.split("2")


def record_locations(records: Path) -> dict[str, str]:
    """Map each group to its ``path:line``; empty if the records cannot be read."""
    try:
        return {located.group.id: located.location for located in read_groups(records)}
    except RecordError:
        return {}


def build_findings(dataset: Path) -> list[dict[str, Any]]:
    """Read the checks' findings, except notes, from the build's report; empty if it was built without checks."""
    report = dataset / "report.json"
    if not report.is_file():
        return []
    findings = json.loads(report.read_text(encoding="utf-8"))["findings"]
    return [finding for finding in findings if finding["severity"] != "note"]


def rank_by_loss(
    losses: Sequence[RecordLoss], places: Mapping[str, str], findings: Sequence[Mapping[str, Any]]
) -> list[HighLossRecord]:
    """Join losses, locations and findings, the highest loss first."""
    by_group: dict[str, list[Mapping[str, Any]]] = {}
    for finding in findings:
        by_group.setdefault(finding["group_id"], []).append(finding)
    found = []
    for one in sorted(losses, key=lambda loss: (-loss.loss, loss.id)):
        group, languages = group_and_languages(one.id)
        reasons = tuple(
            f"{finding['check']}: {finding['what']}"
            for finding in by_group.get(group, ())
            if not finding["field"] or finding["field"].split(".")[0] in languages
        )
        found.append(
            HighLossRecord(id=one.id, loss=one.loss, tokens=one.tokens, place=places.get(group, ""), reasons=reasons)
        )
    return found


def card_lines(diagnosis: Diagnosis) -> list[RecordLine]:
    """Convert the records with the highest loss for the card."""
    return [
        RecordLine(id=one.id, place=one.published_place, loss=one.loss, reasons=one.reasons)
        for one in diagnosis.highest
    ]


def write_table(ranked: Sequence[HighLossRecord], adapter: Path) -> Path:
    """Write ``training/records_by_loss.csv``, which is published with the adapter."""
    path = adapter / FOLDER / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["record", "loss", "completion_tokens", "place", "checks"])
        for one in ranked:
            writer.writerow([one.id, f"{one.loss:.4f}", one.tokens, one.published_place, " | ".join(one.reasons)])
    return path


def explain_diagnosis(diagnosis: Diagnosis) -> list[BilingualText]:
    """Put a diagnosis into sentences: trend, spikes, validation loss, records."""
    texts = load_table(__package__, "diagnosis.toml")
    sentences: list[BilingualText] = []

    def fill(name: str, **figures: object) -> BilingualText:
        """Fill in a text in both languages; a figure that is a text itself, in the language of either."""
        sides = (
            texts[name][side].format(**{key: getattr(figure, side, figure) for key, figure in figures.items()})
            for side in BilingualText._fields
        )
        return BilingualText(*sides)

    def add(name: str, **figures: object) -> None:
        sentences.append(fill(name, **figures))

    # 1. The trend of the training loss.
    trend = diagnosis.trend
    if trend is None:
        add("too_short")
    else:
        p = "< 0.001" if trend.test.p < 0.001 else f"{trend.test.p:.3f}"
        test = f"Mann-Kendall tau {trend.test.tau:.2f}, p {p}"
        course = "monotone" if trend.monotone else "falls" if trend.falls else "does_not_fall"
        add(course, span=f"{trend.first:.2f} -> {trend.last:.2f}", test=test)
        if trend.rise is not None:
            add("rises", rise=trend.rise, noise=trend.noise)
        elif trend.still_falling:
            add("still_falling")

    # 2. The largest spikes, in the order of the steps.
    spikes = sorted(diagnosis.spikes, key=lambda spike: -spike.z)
    for spike in sorted(spikes[:NAMED_SPIKES], key=lambda spike: spike.step):
        ids = ", ".join(spike.records[:NAMED_RECORDS]) + (", …" if len(spike.records) > NAMED_RECORDS else "")
        batch = fill("batch", ids=ids) if ids else ""
        add("spike" if math.isfinite(spike.loss) else "no_number", spike=spike, batch=batch)
    if len(spikes) > NAMED_SPIKES:
        add("more_spikes", more=len(spikes) - NAMED_SPIKES)

    # 3. The validation loss.
    validation = diagnosis.validation
    outcome = validation.outcome.value
    if validation.outcome is ValidationTrend.OVERFIT and validation.kept_step is not None:
        outcome = "overfit_kept"
    span = f"{validation.before:.3f} -> {validation.after:.3f}"
    add(outcome, span=span, lowest=validation.lowest, kept=validation.kept_step)

    # 4. The records with the highest loss after training.
    if diagnosis.median_loss is not None:
        highest = diagnosis.highest
        add(
            "records",
            measured=len(diagnosis.records),
            train_rows=diagnosis.train_rows,
            median=diagnosis.median_loss,
            highest=len(highest),
            doubted=sum(bool(one.reasons) for one in highest),
        )
        add("fitted" if diagnosis.fitted else "not_fitted")
    return sentences


def format_diagnosis(diagnosis: Diagnosis) -> list[str]:
    """Format a diagnosis for a terminal: sentences in both languages, then the records by ``path:line``."""
    lines = [line for sentence in explain_diagnosis(diagnosis) for line in sentence]
    for one in diagnosis.highest:
        reasons = "; ".join(one.reasons) or "no finding"
        lines.append(f"{one.place or one.id}: {one.id}: loss {one.loss:.2f}; {reasons}")
    return lines
