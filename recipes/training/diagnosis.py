"""Diagnose a finished run: loss trend, spikes, overfitting, and the records with the highest loss."""

from __future__ import annotations

import csv
import enum
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bonsai.builder.errors import RecordError
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.model_card.facts import DiagnosisFacts, RecordLine
from bonsai.recipes.training.loss_curves import Spike, Trend, find_spikes, loss_trend
from bonsai.recipes.training.record_losses import CPU_TOKENS, RecordLoss, order_by_surprise, record_losses
from bonsai.recipes.training.run_record import FOLDER, RunRecord, ValidationPoint, save_diagnosis

WORTH_TELLING = 0.01
"""a share of the validation loss below which a difference is not spoken of"""


class ValidationTrend(enum.StrEnum):
    """What the validation loss did."""

    BETTER = "better"
    UNCHANGED = "unchanged"
    WORSE = "worse"
    OVERFIT = "overfit"
    """it fell, and rose again before the end"""


@dataclass(frozen=True, kw_only=True)
class ValidationVerdict:
    """The validation loss, in nats a token."""

    outcome: ValidationTrend
    before: float
    after: float
    """of the adapter that was kept"""
    lowest: ValidationPoint | None
    """of the evaluations on the way; with none, overfitting shows only where the loss ends above its beginning"""
    kept_step: int | None
    """the step whose adapter was kept, where it is not the last"""


def judge_validation(
    before: float, after: float, on_the_way: Sequence[ValidationPoint] = (), *, kept_step: int | None = None
) -> ValidationVerdict:
    """Judge the validation loss before, on the way and after.

    Args:
        kept_step: the step whose adapter was kept, where it is not the last; ``after`` is its loss then.
    """
    lowest = min(on_the_way, key=lambda point: point.loss, default=None)
    least = WORTH_TELLING * before
    end = on_the_way[-1].loss if kept_step is not None and on_the_way else after
    if lowest is not None and end - lowest.loss > least and before - lowest.loss > least:
        outcome = ValidationTrend.OVERFIT
    elif abs(after - before) <= least:
        outcome = ValidationTrend.UNCHANGED
    else:
        outcome = ValidationTrend.BETTER if after < before else ValidationTrend.WORSE
    return ValidationVerdict(outcome=outcome, before=before, after=after, lowest=lowest, kept_step=kept_step)


TABLE = "records_by_loss.csv"
TOP_SHARE = 0.05
"""the share of the records that is worth a person's eye"""
FEWEST = 5


@dataclass(frozen=True, kw_only=True)
class HighLossRecord:
    """One record and the loss it keeps."""

    id: str
    loss: float
    """in nats a completion token"""
    tokens: int
    place: str
    """``path:line`` as a person types it; empty where the group is not among the records that lie here"""
    reasons: tuple[str, ...]
    """what the checks doubt in it, the name of the check first; empty where they doubt nothing"""

    @property
    def published_place(self) -> str:
        """``file:line`` without the folder: where the records lie on this machine is nobody else's business."""
        return Path(self.place).name


def group_and_languages(row_id: str) -> tuple[str, list[str]]:
    """``open_qa-0042-ja`` -> its group and ja; ``translation-0001-ja2en`` -> its group and both languages."""
    group, _, languages = row_id.rpartition("-")
    return group, languages.split("2")


def record_locations(records: Path) -> dict[str, str]:
    """``path:line`` by group; nothing if the records can't be read just now."""
    try:
        return {located.group.id: located.place for located in read_groups(records)}
    except RecordError:
        return {}


def build_findings(dataset: Path) -> list[dict[str, Any]]:
    """What the checks found when this dataset was built, notes left out; nothing if it was built without them."""
    report = dataset / "report.json"
    if not report.is_file():
        return []
    findings = json.loads(report.read_text(encoding="utf-8"))["findings"]
    return [finding for finding in findings if finding["severity"] != "note"]


def rank_by_loss(
    losses: Sequence[RecordLoss], places: Mapping[str, str], findings: Sequence[Mapping[str, Any]]
) -> list[HighLossRecord]:
    """All measured records, the one with the most loss left first."""
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


def top(ranked: Sequence[HighLossRecord]) -> list[HighLossRecord]:
    """The top 5%, five at least."""
    return list(ranked[: max(FEWEST, round(TOP_SHARE * len(ranked)))])


def write_table(ranked: Sequence[HighLossRecord], adapter: Path) -> Path:
    """Write ``training/records_by_loss.csv``; it is published with the adapter."""
    path = adapter / FOLDER / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["record", "loss", "completion_tokens", "place", "checks"])
        for one in ranked:
            writer.writerow([one.id, f"{one.loss:.4f}", one.tokens, one.published_place, " | ".join(one.reasons)])
    return path


FITTED = 0.5
"""Nats a token, median over the records, below which a run has fitted its records: what still stands out is odd."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the loss of one run says."""

    trend: Trend | None
    """None: too few steps to judge"""
    spikes: tuple[Spike, ...]
    validation: ValidationVerdict
    records: tuple[HighLossRecord, ...]
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
    def highest(self) -> list[HighLossRecord]:
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
        trend=loss_trend(record.losses),
        spikes=tuple(find_spikes(record.losses)),
        validation=judge_validation(
            record.validation_loss_before,
            record.validation_loss_after,
            record.evaluations,
            kept_step=record.best_step,
        ),
        records=tuple(rank_by_loss(losses, places or {}, findings)),
        train_rows=record.train_rows,
    )


def card_lines(diagnosis: Diagnosis) -> list[RecordLine]:
    """The records that the card lists."""
    return [RecordLine(one.id, one.published_place, one.loss, one.reasons) for one in diagnosis.highest]


TOLD_SPIKES = 3
TOLD_RECORDS = 4
"""ids named for a spike"""


class BilingualText(NamedTuple):
    """One sentence in both languages."""

    english: str
    japanese: str


def explain_diagnosis(diagnosis: Diagnosis) -> list[BilingualText]:
    """All that is worth saying, the course of the loss first."""
    return [*_course(diagnosis), *_spikes(diagnosis), *_validation(diagnosis), *_records(diagnosis)]


def _course(diagnosis: Diagnosis) -> Iterator[BilingualText]:
    trend = diagnosis.trend
    if trend is None:
        yield BilingualText(
            "The run was too short to judge the course of its loss.", "ステップが少なく、損失の推移は判定できません。"
        )
        return
    test = f"Mann-Kendall tau {trend.test.tau:.2f}, p {_p(trend.test.p)}"
    span = f"{trend.first:.2f} -> {trend.last:.2f}"
    if trend.monotone:
        yield BilingualText(
            f"The smoothed loss falls monotonically within its noise, {span} ({test}).",
            f"平滑化した損失は、ばらつきの範囲内で単調に下がりました（{span}、{test}）。",
        )
    elif trend.falls:
        yield BilingualText(
            f"The loss falls, {span} ({test}), but not monotonically.",
            f"損失は下がりましたが（{span}、{test}）、単調ではありません。",
        )
    else:
        yield BilingualText(
            f"The loss does not fall beyond its noise, {span} ({test}).",
            f"損失の低下は、ばらつきを超えません（{span}、{test}）。",
        )
    if trend.rise is not None:
        rise = trend.rise
        yield BilingualText(
            f"It rises from {rise.from_loss:.2f} at step {rise.from_step} to {rise.to_loss:.2f} at {rise.to_step}; "
            f"one step scatters by {trend.noise:.2f}.",
            f"ステップ{rise.from_step}の{rise.from_loss:.2f}からステップ{rise.to_step}の{rise.to_loss:.2f}へ上がっています"
            f"（1ステップのばらつきは{trend.noise:.2f}）。",
        )
    elif trend.still_falling:
        yield BilingualText(
            "It was still falling at the end: more steps may help.",
            "最後まで下がり続けているので、ステップを増やす余地があります。",
        )


def _spikes(diagnosis: Diagnosis) -> Iterator[BilingualText]:
    found = sorted(diagnosis.spikes, key=lambda spike: -spike.z)
    for spike in sorted(found[:TOLD_SPIKES], key=lambda spike: spike.step):
        yield _spike(spike)
    if len(found) > TOLD_SPIKES:
        more = len(found) - TOLD_SPIKES
        yield BilingualText(f"{more} more steps stand out less.", f"ほかに{more}ステップが目立ちます。")


def _spike(spike: Spike) -> BilingualText:
    named = ", ".join(spike.records[:TOLD_RECORDS]) + (", …" if len(spike.records) > TOLD_RECORDS else "")
    saw, seen = (f"; it saw {named}", f"、対象は{named}") if named else ("", "")
    if not math.isfinite(spike.loss):
        return BilingualText(
            f"The loss of step {spike.step} is not a number{saw}.",
            f"ステップ{spike.step}の損失は数になりません{seen}。",
        )
    return BilingualText(
        f"Step {spike.step} stands out with {spike.loss:.2f} where its neighbours have {spike.expected:.2f} "
        f"(robust z {spike.z:.1f}){saw}.",
        f"ステップ{spike.step}の損失{spike.loss:.2f}は、前後の{spike.expected:.2f}から外れています"
        f"（頑健z値{spike.z:.1f}）{seen}。",
    )


def _validation(diagnosis: Diagnosis) -> Iterator[BilingualText]:
    told = diagnosis.validation
    span = f"{told.before:.3f} -> {told.after:.3f}"
    lowest = told.lowest
    if told.outcome is ValidationTrend.OVERFIT and lowest is not None:
        kept = told.kept_step
        yield BilingualText(
            f"The validation loss was lowest at step {lowest.step} ({lowest.loss:.3f}) and rose again: it overfitted"
            + (
                f"; the adapter of step {kept} was kept ({span})." if kept is not None else f" ({span}); train shorter."
            ),
            f"検証損失はステップ{lowest.step}（{lowest.loss:.3f}）で最小となり、その後上がりました。過学習です"
            + (
                f"。ステップ{kept}のアダプターを残しました（{span}）。"
                if kept is not None
                else f"（{span}）。学習を短くしてください。"
            ),
        )
    elif told.outcome is ValidationTrend.BETTER:
        yield BilingualText(
            f"The validation loss fell, {span}: no sign of overfitting.",
            f"検証損失は下がり（{span}）、過学習の兆候はありません。",
        )
    elif told.outcome is ValidationTrend.UNCHANGED:
        yield BilingualText(
            f"The validation loss hardly changed, {span}.", f"検証損失はほとんど変わりません（{span}）。"
        )
    else:
        yield BilingualText(
            f"The validation loss rose, {span}: what was learnt does not carry over.",
            f"検証損失は上がりました（{span}）。学んだ内容が未知の例に通用していません。",
        )


def _records(diagnosis: Diagnosis) -> Iterator[BilingualText]:
    if not diagnosis.records or diagnosis.median_loss is None:
        return
    measured, median = len(diagnosis.records), diagnosis.median_loss
    highest = diagnosis.highest
    doubted = sum(bool(one.reasons) for one in highest)
    yield BilingualText(
        f"Of {measured} records measured after training (of {diagnosis.train_rows}) the median keeps a loss of "
        f"{median:.2f} nats a token; of the {len(highest)} that keep most, the checks doubt {doubted}.",
        f"学習後に測った{measured}件（全{diagnosis.train_rows}件）の損失の中央値は{median:.2f}です。"
        f"損失の大きい{len(highest)}件のうち{doubted}件に検査の指摘があります。",
    )
    if diagnosis.fitted:
        yield BilingualText(
            "The run has fitted its records, so a record that keeps its loss may contradict another: read them.",
            "レコードはよく学習されています。損失の残るレコードは、ほかと矛盾しているかもしれません。読み直してください。",
        )
    else:
        yield BilingualText(
            "The run has not fitted its records closely: a high loss marks the unusual record, and contradictions are "
            "for `bonsai check` to find.",
            "覚え込むほどの学習ではありません。損失の大きさは珍しさを示し、矛盾は `bonsai check` で探します。",
        )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def diagnose_run(
    record: RunRecord,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, str]],
    *,
    dataset: Path,
    adapter: Path,
    on_record: Callable[[int], None] = lambda _: None,
) -> Diagnosis:
    """Measure the records, judge the run, write ``records_by_loss.csv`` and ``diagnosis.json`` into ``training/``.

    Args:
        model: base and adapter as trained, on the device they were trained on.
        rows: the training rows: id, prompt, completion.
        dataset: the build, whose report says what the checks doubt.
        adapter: the folder the adapter is saved in.
        on_record: told how many records are measured so far.
    """
    most = None if torch.cuda.is_available() else CPU_TOKENS
    losses = record_losses(
        model, tokenizer, order_by_surprise(record.losses, rows), most_tokens=most, on_record=on_record
    )
    diagnosis = diagnose(record, losses, record_locations(default_records_dir()), build_findings(dataset))
    write_table(diagnosis.records, adapter)
    said = explain_diagnosis(diagnosis)
    facts = DiagnosisFacts(
        english=tuple(one.english for one in said),
        japanese=tuple(one.japanese for one in said),
        highest=tuple(card_lines(diagnosis)),
        measured=len(losses),
    )
    save_diagnosis(facts, adapter)
    return diagnosis


def format_diagnosis(diagnosis: Diagnosis) -> list[str]:
    """The diagnosis as lines for a terminal: the sentences in both languages, then the records by ``path:line``."""
    lines = [line for said in explain_diagnosis(diagnosis) for line in (said.english, said.japanese)]
    for one in diagnosis.highest:
        reasons = "; ".join(one.reasons) or "no check doubts it"
        lines.append(f"{one.place or one.id}: {one.id}: loss {one.loss:.2f}; {reasons}")
    return lines
