"""The diagnosis in sentences, English and Japanese: what happened, and what to look at next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from bonsai.recipes.training.diagnosis.overfit import Outcome
from bonsai.recipes.training.diagnosis.report import Diagnosis
from bonsai.recipes.training.diagnosis.spikes import Spike

TOLD_SPIKES = 3
TOLD_RECORDS = 4
"""ids named for a spike"""


class Said(NamedTuple):
    """One sentence in both languages."""

    english: str
    japanese: str


def sentences(diagnosis: Diagnosis) -> list[Said]:
    """All that is worth saying, the course of the loss first."""
    return [*_course(diagnosis), *_spikes(diagnosis), *_validation(diagnosis), *_records(diagnosis)]


def _course(diagnosis: Diagnosis) -> Iterator[Said]:
    trend = diagnosis.trend
    if trend is None:
        yield Said(
            "The run was too short to judge the course of its loss.", "ステップが少なく、損失の推移は判定できません。"
        )
        return
    test = f"Mann-Kendall tau {trend.test.tau:.2f}, p {_p(trend.test.p)}"
    span = f"{trend.first:.2f} -> {trend.last:.2f}"
    if trend.monotone:
        yield Said(
            f"The smoothed loss falls monotonically within its noise, {span} ({test}).",
            f"平滑化した損失は、ばらつきの範囲内で単調に下がりました（{span}、{test}）。",
        )
    elif trend.falls:
        yield Said(
            f"The loss falls, {span} ({test}), but not monotonically.",
            f"損失は下がりましたが（{span}、{test}）、単調ではありません。",
        )
    else:
        yield Said(
            f"The loss does not fall beyond its noise, {span} ({test}).",
            f"損失の低下は、ばらつきを超えません（{span}、{test}）。",
        )
    if trend.rise is not None:
        rise = trend.rise
        yield Said(
            f"It rises from {rise.from_loss:.2f} at step {rise.from_step} to {rise.to_loss:.2f} at {rise.to_step}; "
            f"one step scatters by {trend.noise:.2f}.",
            f"ステップ{rise.from_step}の{rise.from_loss:.2f}からステップ{rise.to_step}の{rise.to_loss:.2f}へ上がっています"
            f"（1ステップのばらつきは{trend.noise:.2f}）。",
        )
    elif trend.still_falling:
        yield Said(
            "It was still falling at the end: more steps may help.",
            "最後まで下がり続けているので、ステップを増やす余地があります。",
        )


def _spikes(diagnosis: Diagnosis) -> Iterator[Said]:
    found = sorted(diagnosis.spikes, key=lambda spike: -spike.z)
    for spike in sorted(found[:TOLD_SPIKES], key=lambda spike: spike.step):
        yield _spike(spike)
    if len(found) > TOLD_SPIKES:
        more = len(found) - TOLD_SPIKES
        yield Said(f"{more} more steps stand out less.", f"ほかに{more}ステップが目立ちます。")


def _spike(spike: Spike) -> Said:
    named = ", ".join(spike.records[:TOLD_RECORDS]) + (", …" if len(spike.records) > TOLD_RECORDS else "")
    saw, seen = (f"; it saw {named}", f"、対象は{named}") if named else ("", "")
    if not math.isfinite(spike.loss):
        return Said(
            f"The loss of step {spike.step} is not a number{saw}.",
            f"ステップ{spike.step}の損失は数になりません{seen}。",
        )
    return Said(
        f"Step {spike.step} stands out with {spike.loss:.2f} where its neighbours have {spike.expected:.2f} "
        f"(robust z {spike.z:.1f}){saw}.",
        f"ステップ{spike.step}の損失{spike.loss:.2f}は、前後の{spike.expected:.2f}から外れています"
        f"（頑健z値{spike.z:.1f}）{seen}。",
    )


def _validation(diagnosis: Diagnosis) -> Iterator[Said]:
    told = diagnosis.validation
    span = f"{told.before:.3f} -> {told.after:.3f}"
    lowest = told.lowest
    if told.outcome is Outcome.OVERFIT and lowest is not None:
        kept = told.kept_step
        yield Said(
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
    elif told.outcome is Outcome.BETTER:
        yield Said(
            f"The validation loss fell, {span}: no sign of overfitting.",
            f"検証損失は下がり（{span}）、過学習の兆候はありません。",
        )
    elif told.outcome is Outcome.UNCHANGED:
        yield Said(f"The validation loss hardly changed, {span}.", f"検証損失はほとんど変わりません（{span}）。")
    else:
        yield Said(
            f"The validation loss rose, {span}: what was learnt does not carry over.",
            f"検証損失は上がりました（{span}）。学んだ内容が未知の例に通用していません。",
        )


def _records(diagnosis: Diagnosis) -> Iterator[Said]:
    if not diagnosis.records or diagnosis.median_loss is None:
        return
    measured, median = len(diagnosis.records), diagnosis.median_loss
    highest = diagnosis.highest
    doubted = sum(bool(one.reasons) for one in highest)
    yield Said(
        f"Of {measured} records measured after training (of {diagnosis.train_rows}) the median keeps a loss of "
        f"{median:.2f} nats a token; of the {len(highest)} that keep most, the checks doubt {doubted}.",
        f"学習後に測った{measured}件（全{diagnosis.train_rows}件）の損失の中央値は{median:.2f}です。"
        f"損失の大きい{len(highest)}件のうち{doubted}件に検査の指摘があります。",
    )
    if diagnosis.fitted:
        yield Said(
            "The run has fitted its records, so a record that keeps its loss may contradict another: read them.",
            "レコードはよく学習されています。損失の残るレコードは、ほかと矛盾しているかもしれません。読み直してください。",
        )
    else:
        yield Said(
            "The run has not fitted its records closely: a high loss marks the unusual record, and contradictions are "
            "for `bonsai check` to find.",
            "覚え込むほどの学習ではありません。損失の大きさは珍しさを示し、矛盾は `bonsai check` で探します。",
        )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
