"""Measure a comparison: metrics by model, agreement, and changes since an earlier comparison."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from bonsai.builder.checks.paraphrase import Vectors, embed
from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.comparison.record import Comparison, ComparisonQuestion, ModelRun
from bonsai.recipes.evaluation.comparison.voting import RankedModel
from bonsai.recipes.evaluation.metrics import (
    METRICS,
    Metric,
    contains_accepted,
    foreign_letter_share,
    has_loop,
    is_garbled,
    language_match,
    seq_rep_4,
)
from bonsai.recipes.evaluation.normalization import equivalent
from bonsai.recipes.evaluation.results import WORST_FIRST, Verdict, atomic_write_text, verdict
from bonsai.recipes.evaluation.statistics import MeanDifference, MeanEstimate, mean_interval, paired_difference
from bonsai.recipes.inference.conversation import Answer

PIECE = 200
"""characters; the encoder was trained on sentences, and reads no more than the beginning of what is longer"""


def embed_long_texts(texts: Sequence[str]) -> Vectors:
    """The meaning of each text from its beginning to its end, shape (N, 512), of unit length.

    The mean of its pieces by their length. A text that says nothing is all zeros, and so like no other.
    """
    pieces = [[text[at : at + PIECE] for at in range(0, len(text), PIECE)] for text in (text.strip() for text in texts)]
    read = iter(embed([piece for each in pieces for piece in each]))
    found = np.zeros((len(texts), 512), np.float32)
    for row, each in zip(found, pieces, strict=True):
        for piece in each:
            row += len(piece) * next(read)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def exact_agreement(answers: Sequence[Answer]) -> float | None:
    """Share of the pairs that are the same but for width, marks and the like; None: there is no pair."""
    pairs = [equivalent(one.answer, other.answer) for one, other in combinations(answers, 2)]
    return sum(pairs) / len(pairs) if pairs else None


class AnswerSimilarity:
    """How alike models answer, by the cosine of what they mean; an answer is read once."""

    def __init__(self, *comparisons: Comparison) -> None:
        texts = sorted({one.answer.answer for comparison in comparisons for one in comparison.answers})
        self._meanings = dict(zip(texts, embed_long_texts(texts), strict=True))

    def among(self, answers: Sequence[Answer]) -> float | None:
        """The mean over all pairs of one model's samples; None: there is no pair."""
        rows = self._rows(answers)
        cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
        return float(cosines.mean()) if cosines.size else None

    def between(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> float | None:
        """The mean over all pairs of one's samples with the other's; None: one has none."""
        cosines = self._rows(ours) @ self._rows(theirs).T
        return float(cosines.mean()) if cosines.size else None

    def one_by_one(self, then: Sequence[Answer], now: Sequence[Answer]) -> float | None:
        """The mean of the first with the first, the second with the second; None: there are none."""
        both = min(len(then), len(now))
        cosines = (self._rows(then[:both]) * self._rows(now[:both])).sum(1)
        return float(cosines.mean()) if cosines.size else None

    def by_chance(self, comparison: Comparison, first: str, second: str) -> float | None:
        """The mean between their first answers to different questions in one language; None: there is one question.

        Where the scale begins: what lies above is agreement on what was asked, and not on how a model sounds.
        """
        ours, theirs = list(comparison.answered(first)), list(comparison.answered(second))
        cosines = self._rows([said[0] for _, said in ours]) @ self._rows([said[0] for _, said in theirs]).T
        found = [
            float(cosines[row, column])
            for row, (here, (one, *_)) in enumerate(ours)
            for column, (there, (other, *_)) in enumerate(theirs)
            if here.id != there.id and one.language == other.language
        ]
        return float(np.mean(found)) if found else None

    def _rows(self, answers: Sequence[Answer]) -> Vectors:
        if not answers:
            return np.zeros((0, 512), np.float32)
        return np.stack([self._meanings[one.answer] for one in answers])


MEASURES: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="stability", better="higher", english="stable: samples alike", japanese="安定性：標本どうしの類似"),
        Metric(
            name="verbatim", better="neither", english="samples word for word the same", japanese="標本どうしの完全一致"
        ),
        METRICS["accepted"],
        METRICS["reasoning"],
        Metric(
            name="two_passes",
            better="lower",
            english="Reasoning needed a second pass",
            japanese="Reasoningに2回目が必要",
        ),
        METRICS["language"],
        METRICS["foreign"],
        METRICS["mojibake"],
        METRICS["repetition"],
        METRICS["loop"],
        METRICS["eos"],
        METRICS["length"],
    )
}
"""in the order a reader sees them"""

Row = dict[str, dict[str, float]]
"""by measure and question"""


@dataclass(frozen=True, kw_only=True)
class ModelMetrics:
    """A model's figures."""

    model: str
    answers: int
    estimates: dict[str, MeanEstimate]
    """by the names of `MEASURES`: mean over questions with its interval; absent where it does not apply"""
    tokens_per_second: float | None
    """of all answers asked together; None: no round came to its end"""
    usd_per_1000: float | None
    """for a thousand answers at the device's list price; None: no price is known"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """How alike two models answer; of a model with itself, how alike its samples are."""

    first: str
    second: str
    likeness: MeanEstimate
    by_chance: float | None
    """likeness of their answers to different questions; None: there is one question"""


def answer_scores(listed: ComparisonQuestion, answer: Answer) -> dict[str, float]:
    """What one answer shows by itself."""
    question = listed.question
    told = f"{answer.reasoning}\n{answer.answer}".strip()
    found = {
        "accepted": contains_accepted(answer.answer, listed.accepted) if listed.accepted else None,
        "reasoning": float(bool(answer.reasoning and answer.answer)),
        "two_passes": float(answer.passes == 2),
        "language": language_match(answer.answer, answer.language, ""),
        "foreign": foreign_letter_share(answer.answer, answer.language, question.instruction + question.input),
        "mojibake": is_garbled(told),
        "repetition": seq_rep_4(told),
        "loop": has_loop(answer.answer, refrain=False),
        "eos": float(answer.stopped_by == "eos"),
        "length": float(len(answer.answer)),
    }
    return {name: score for name, score in found.items() if score is not None}


def scores(comparison: Comparison, model: str, likeness: AnswerSimilarity) -> Row:
    """Each measure's figure for each question: the mean of its samples, for they are no further questions."""
    found: Row = {}
    for listed, answers in comparison.answered(model):
        each = [answer_scores(listed, answer) for answer in answers]
        figures = {
            "stability": likeness.among(answers),
            "verbatim": exact_agreement(answers),
            **{name: _mean([one[name] for one in each if name in one]) for name in MEASURES if name in METRICS},
            "two_passes": _mean([one["two_passes"] for one in each]),
        }
        for name, figure in figures.items():
            if figure is not None:
                found.setdefault(name, {})[listed.id] = figure
    return found


def model_metrics(comparison: Comparison, side: ModelRun, row: Row) -> ModelMetrics:
    """A model's figures over all questions."""
    tokens, seconds = (sum(getattr(done, name) for done in side.rounds) for name in ("tokens", "seconds"))
    answers = sum(done.answers for done in side.rounds)
    priced = side.usd_per_hour is not None and answers
    return ModelMetrics(
        model=side.name,
        answers=sum(one.model == side.name for one in comparison.answers),
        estimates={name: mean_interval(list(row[name].values())) for name in MEASURES if name in row},
        tokens_per_second=tokens / seconds if seconds else None,
        usd_per_1000=1000 * (side.usd_per_hour or 0) * seconds / 3600 / answers if priced else None,
    )


def similarity_matrix(comparison: Comparison, likeness: AnswerSimilarity) -> list[Pair]:
    """Every two models, and each with itself where it was asked more than once."""
    names = [side.name for side in comparison.models]
    pairs: list[Pair] = []
    for place, first in enumerate(names):
        for second in names[place:]:
            found = [
                likeness.among(answers) if first == second else likeness.between(answers, comparison.of(second, one.id))
                for one, answers in comparison.answered(first)
            ]
            if cosines := [cosine for cosine in found if cosine is not None]:
                by_chance = likeness.by_chance(comparison, first, second)
                pairs.append(Pair(first=first, second=second, likeness=mean_interval(cosines), by_chance=by_chance))
    return pairs


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measure of one model, then and now, over the questions that were asked both times."""

    model: str
    measure: str
    questions: int
    then: float
    now: float
    difference: MeanDifference

    @property
    def verdict(self) -> Verdict:
        """Whether it got better or worse, beyond chance."""
        return verdict(self.difference, MEASURES[self.measure])


@dataclass(frozen=True, kw_only=True)
class AnswerDrift:
    """How alike a model answers then and now, sample by sample: with the same seed the same model says the same."""

    model: str
    likeness: MeanEstimate
    question: str
    """the id of the one whose answers changed most"""
    least: float
    """likeness of the answers to it"""


@dataclass(frozen=True, kw_only=True)
class ComparisonDiff:
    """What is different from an earlier comparison."""

    earlier: str
    """where it lies"""
    changes: tuple[Change, ...]
    """the worst first"""
    drifts: tuple[AnswerDrift, ...]

    @property
    def worse(self) -> tuple[Change, ...]:
        """Regressions beyond chance."""
        return tuple(change for change in self.changes if change.verdict == "worse")


def diff_comparisons(earlier: Comparison, now: Comparison, *, place: str) -> ComparisonDiff:
    """Each measure that has a better and a worse, of each model that was compared both times.

    Args:
        place: where the earlier one lies, for the reader.

    Raises:
        EvaluationError: the two were decoded differently, or share no model or no question.
    """
    theirs, ours = asdict(earlier.decoder), asdict(now.decoder)
    if different := [key for key in ours if ours[key] != theirs[key]]:
        told = ", ".join(f"{key} {theirs[key]} and {ours[key]}" for key in different)
        raise EvaluationError(f"{place} was decoded differently ({told}); compare again in the same way")
    models = [side.name for side in now.models if any(earlier.answered(side.name)) and any(now.answered(side.name))]
    asked = {one.question for one in earlier.questions}
    shared = [one for one in now.questions if one.question in asked]
    if not models or not shared:
        what = "model" if not models else "question"
        raise EvaluationError(f"{place} has no {what} in common with this comparison; name one that was made like it")
    likeness = AnswerSimilarity(earlier, now)
    found: list[Change] = []
    drifts: list[AnswerDrift] = []
    for model in models:
        found += _changes(earlier, now, model, shared, likeness)
        drifts += _drift(earlier, now, model, shared, likeness)
    worst_first = sorted(found, key=lambda change: WORST_FIRST[change.verdict])
    return ComparisonDiff(earlier=place, changes=tuple(worst_first), drifts=tuple(drifts))


def _changes(
    earlier: Comparison, now: Comparison, model: str, shared: list[ComparisonQuestion], likeness: AnswerSimilarity
) -> list[Change]:
    ids = _earlier_ids(earlier)
    theirs, ours = scores(earlier, model, likeness), scores(now, model, likeness)
    found = []
    for name, metric in MEASURES.items():
        then, after = theirs.get(name, {}), ours.get(name, {})
        pairs = [(then[old], after[one.id]) for one in shared if (old := ids[one.question]) in then and one.id in after]
        if metric.better == "neither" or not pairs:
            continue
        before, current = [old for old, _ in pairs], [new for _, new in pairs]
        found.append(
            Change(
                model=model,
                measure=name,
                questions=len(pairs),
                then=sum(before) / len(before),
                now=sum(current) / len(current),
                difference=paired_difference(before, current),
            )
        )
    return found


def _drift(
    earlier: Comparison, now: Comparison, model: str, shared: list[ComparisonQuestion], likeness: AnswerSimilarity
) -> list[AnswerDrift]:
    ids = _earlier_ids(earlier)
    found = {
        one.id: cosine
        for one in shared
        if (cosine := likeness.one_by_one(earlier.of(model, ids[one.question]), now.of(model, one.id))) is not None
    }
    if not found:
        return []
    most = min(found, key=lambda name: found[name])
    return [AnswerDrift(model=model, likeness=mean_interval(list(found.values())), question=most, least=found[most])]


def _earlier_ids(earlier: Comparison) -> dict[object, str]:
    return {one.question: one.id for one in earlier.questions}


MEASURED = "measures.json"
CSV = "answers.csv"
_COLUMNS = (
    *("question", "group", "language", "instruction", "input", "model", "sample", "reasoning", "answer"),
    *("tokens", "seconds", "stopped_by", "passes", "second_pass_because", "retried_because"),
)
_SCORES = ("accepted", "reasoning", "language", "foreign", "mojibake", "repetition", "loop", "length")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class Results:
    """A comparison with its figures."""

    comparison: Comparison
    scores: dict[str, Row]
    """by model"""
    measured: Sequence[ModelMetrics]
    matrix: Sequence[Pair]


def results(comparison: Comparison) -> Results:
    """Work it all out."""
    likeness = AnswerSimilarity(comparison)
    rows = {side.name: scores(comparison, side.name, likeness) for side in comparison.models}
    return Results(
        comparison=comparison,
        scores=rows,
        measured=[model_metrics(comparison, side, rows[side.name]) for side in comparison.models],
        matrix=similarity_matrix(comparison, likeness),
    )


def write_results(
    found: Results, folder: Path, *, changes: ComparisonDiff | None = None, ranked: Sequence[RankedModel] = ()
) -> None:
    """Write the answers as CSV and the figures as JSON, each whole or not at all."""
    told = {
        "measures": [_named(one) for one in found.measured],
        "likeness": [_named(pair) for pair in found.matrix],
        "by_question": found.scores,
        "changes": None
        if changes is None
        else {
            "earlier": changes.earlier,
            "measures": [{**_named(one), "verdict": one.verdict} for one in changes.changes],
            "answers": [_named(one) for one in changes.drifts],
        },
        "ranking": [_named(one) for one in ranked],
    }
    atomic_write_text(folder / MEASURED, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    # a byte order mark, without which spreadsheets take Japanese for something else
    atomic_write_text(folder / CSV, "\ufeff" + answers_csv(found.comparison))


def answers_csv(comparison: Comparison) -> str:
    """A line an answer."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*_COLUMNS, *(f"score_{name}" for name in _SCORES)])
    listed = {one.id: one for one in comparison.questions}
    for one in comparison.answers:
        asked, answer = listed[one.question], one.answer
        question = asked.question
        cells = (
            *(asked.id, asked.group, answer.language, question.instruction, question.input, one.model, one.sample),
            *(answer.reasoning, answer.answer, answer.tokens, f"{answer.seconds:.3f}", answer.stopped_by),
            *(answer.passes, *(why and why.en for why in (answer.second_pass_because, answer.retried_because))),
        )
        figures = answer_scores(asked, answer)
        lines.writerow([*map(_cell, cells), *(figures.get(name, "") for name in _SCORES)])
    return file.getvalue()


def _cell(value: object) -> object:
    """What a spreadsheet shows and does not run (owasp.org/www-community/attacks/CSV_Injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _named(one: object) -> dict[str, object]:
    """A dataclass whose estimates tell their parts by name."""
    return {name: _plain(value) for name, value in vars(one).items()}


def _plain(value: object) -> object:
    if isinstance(value, MeanEstimate | MeanDifference):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value
