"""Measure a comparison: metrics by model, agreement between models, and changes since an earlier comparison."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from bonsai.builder.checks.paraphrase import Vectors, embed
from bonsai.builder.errors import EvaluationError
from bonsai.builder.files import atomic_write_text
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
from bonsai.recipes.evaluation.results import describe_different_settings
from bonsai.recipes.evaluation.statistics import (
    WORST_FIRST,
    Change,
    MeanDifference,
    MeanEstimate,
    mean_interval,
    paired_change,
)
from bonsai.recipes.inference.conversation import Answer, Question

PIECE = 200
"""characters; the sentence encoder reads no more than the beginning of what is longer"""
MEASURED = "measures.json"
CSV = "answers.csv"
COLUMNS = (
    *("question", "group", "language", "instruction", "input", "model", "sample", "reasoning", "answer"),
    *("tokens", "seconds", "stopped_by", "passes", "second_pass_because", "retried_because"),
)
CSV_SCORES = ("accepted", "reasoning", "language", "foreign", "mojibake", "repetition", "loop", "length")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""what makes a spreadsheet run a cell (owasp.org/www-community/attacks/CSV_Injection)"""

MEASURES: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="stability", direction="higher", english="stable: samples alike", japanese="安定性：標本どうしの類似"
        ),
        Metric(
            name="verbatim",
            direction="neither",
            english="samples word for word the same",
            japanese="標本どうしの完全一致",
        ),
        METRICS["accepted"],
        METRICS["reasoning"],
        Metric(
            name="two_passes",
            direction="lower",
            english="Reasoning needed a second pass",
            japanese="Reasoningに2回目が必要",
        ),
        *(METRICS[name] for name in ("language", "foreign", "mojibake", "repetition", "loop", "eos", "length")),
    )
}
"""in the order in which a reader sees them"""

Row = dict[str, dict[str, float]]
"""a model's scores by measure and question"""


@dataclass(frozen=True, kw_only=True)
class ModelMetrics:
    """One model's figures."""

    model: str
    answers: int
    estimates: dict[str, MeanEstimate]
    """by the names of `MEASURES`: the mean over questions; absent where the measure does not apply"""
    tokens_per_second: float | None
    """of all answers asked together; `None`: no round was finished"""
    usd_per_1000: float | None
    """for a thousand answers at the device's list price; `None`: no price is known"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """How similarly two models answer; for a model and itself, how similar its samples are."""

    first: str
    second: str
    likeness: MeanEstimate
    by_chance: float | None
    """similarity of their answers to different questions; `None`: there is one question"""


@dataclass(frozen=True, kw_only=True)
class Results:
    """A comparison with its figures."""

    comparison: Comparison
    scores: dict[str, Row]
    """by model"""
    measured: Sequence[ModelMetrics]
    matrix: Sequence[Pair]


@dataclass(frozen=True, kw_only=True)
class MeasureChange(Change):
    """The change of one measure of one model."""

    model: str
    measure: str


@dataclass(frozen=True, kw_only=True)
class AnswerDrift:
    """How similar a model's answers are to its earlier ones, sample by sample: the same seed gives the same answer."""

    model: str
    likeness: MeanEstimate
    question: str
    """the id of the question whose answers changed most"""
    least: float
    """similarity of the answers to it"""


@dataclass(frozen=True, kw_only=True)
class ComparisonDiff:
    """The differences from an earlier comparison."""

    earlier: str
    """where it is"""
    changes: tuple[MeasureChange, ...]
    """worst first"""
    drifts: tuple[AnswerDrift, ...]

    @property
    def worse(self) -> tuple[MeasureChange, ...]:
        """Regressions beyond chance."""
        return tuple(change for change in self.changes if change.verdict == "worse")


class AnswerSimilarity:
    """Compare answers by the cosine of their sentence vectors; each text is embedded once."""

    def __init__(self, *comparisons: Comparison) -> None:
        texts = sorted({one.answer.answer for comparison in comparisons for one in comparison.answers})
        self._vectors = dict(zip(texts, embed_long_texts(texts), strict=True))

    def within(self, answers: Sequence[Answer]) -> float | None:
        """Average over all pairs of one model's samples; `None` if there is no pair."""
        rows = self._rows(answers)
        return _mean((rows @ rows.T)[np.triu_indices(len(rows), 1)])

    def between(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> float | None:
        """Average over all pairs of one model's samples with another's; `None` if one has none."""
        return _mean(self._rows(ours) @ self._rows(theirs).T)

    def one_by_one(self, then: Sequence[Answer], now: Sequence[Answer]) -> float | None:
        """Average over the first with the first, the second with the second, and so on; `None` if there are none."""
        both = min(len(then), len(now))
        return _mean((self._rows(then[:both]) * self._rows(now[:both])).sum(1))

    def by_chance(self, comparison: Comparison, first: str, second: str) -> float | None:
        """Average over two models' first answers to different questions in one language; `None` if there is one.

        This is where the scale begins: what is above it is agreement on the question, not a similar tone.
        """
        ours, theirs = list(comparison.answered(first)), list(comparison.answered(second))
        cosines = self._rows([answers[0] for _, answers in ours]) @ self._rows([answers[0] for _, answers in theirs]).T
        different = [
            float(cosines[row, column])
            for row, (here, (one, *_)) in enumerate(ours)
            for column, (there, (other, *_)) in enumerate(theirs)
            if here.id != there.id and one.language == other.language
        ]
        return _mean(different)

    def _rows(self, answers: Sequence[Answer]) -> Vectors:
        if not answers:
            return np.zeros((0, 512), np.float32)
        return np.stack([self._vectors[one.answer] for one in answers])


def embed_long_texts(texts: Sequence[str]) -> Vectors:
    """Embed each text as the mean of its pieces weighted by their length, shape (N, 512), of unit length.

    A blank text is all zeros, and so similar to no other.
    """
    pieces = [[text[at : at + PIECE] for at in range(0, len(text), PIECE)] for text in (text.strip() for text in texts)]
    vectors = iter(embed([piece for each in pieces for piece in each]))
    found = np.zeros((len(texts), 512), np.float32)
    for row, each in zip(found, pieces, strict=True):
        for piece in each:
            row += len(piece) * next(vectors)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def exact_agreement(answers: Sequence[Answer]) -> float | None:
    """Return the share of pairs that are equal after normalization; `None` if there is no pair."""
    return _mean([equivalent(one.answer, other.answer) for one, other in combinations(answers, 2)])


def results(comparison: Comparison) -> Results:
    """Work out all figures of a comparison."""
    similarity = AnswerSimilarity(comparison)
    rows = {run.name: scores(comparison, run.name, similarity) for run in comparison.models}
    return Results(
        comparison=comparison,
        scores=rows,
        measured=[model_metrics(comparison, run, rows[run.name]) for run in comparison.models],
        matrix=similarity_matrix(comparison, similarity),
    )


def answer_scores(listed: ComparisonQuestion, answer: Answer) -> dict[str, float]:
    """Score one answer by itself; a score that does not apply is absent."""
    question = listed.question
    text = f"{answer.reasoning}\n{answer.answer}".strip()
    found = {
        "accepted": contains_accepted(answer.answer, listed.accepted) if listed.accepted else None,
        "reasoning": float(bool(answer.reasoning and answer.answer)),
        "two_passes": float(answer.passes == 2),
        "language": language_match(answer.answer, answer.language, ""),
        "foreign": foreign_letter_share(answer.answer, answer.language, question.instruction + question.input),
        "mojibake": is_garbled(text),
        "repetition": seq_rep_4(text),
        "loop": has_loop(answer.answer, refrain=False),
        "eos": float(answer.stopped_by == "eos"),
        "length": float(len(answer.answer)),
    }
    return {name: score for name, score in found.items() if score is not None}


def scores(comparison: Comparison, model: str, similarity: AnswerSimilarity) -> Row:
    """Score a model on each question: the mean over its samples, which are not questions of their own."""
    found: Row = {}
    for listed, answers in comparison.answered(model):
        each = [answer_scores(listed, answer) for answer in answers]
        figures = {
            "stability": similarity.within(answers),
            "verbatim": exact_agreement(answers),
            **{name: _mean([one[name] for one in each if name in one]) for name in MEASURES if name in METRICS},
            "two_passes": _mean([one["two_passes"] for one in each]),
        }
        for name, figure in figures.items():
            if figure is not None:
                found.setdefault(name, {})[listed.id] = figure
    return found


def model_metrics(comparison: Comparison, run: ModelRun, row: Row) -> ModelMetrics:
    """Average a model's scores over all questions, and work out its speed and price."""
    tokens, seconds, answers = (
        sum(getattr(one, name) for one in run.rounds) for name in ("tokens", "seconds", "answers")
    )
    has_price = run.usd_per_hour is not None and answers
    return ModelMetrics(
        model=run.name,
        answers=sum(one.model == run.name for one in comparison.answers),
        estimates={name: mean_interval(list(row[name].values())) for name in MEASURES if name in row},
        tokens_per_second=tokens / seconds if seconds else None,
        usd_per_1000=1000 * (run.usd_per_hour or 0) * seconds / 3600 / answers if has_price else None,
    )


def similarity_matrix(comparison: Comparison, similarity: AnswerSimilarity) -> list[Pair]:
    """Compare every two models, and each model with itself where it was asked more than once."""
    names = [run.name for run in comparison.models]
    pairs: list[Pair] = []
    for index, first in enumerate(names):
        for second in names[index:]:
            found = [
                similarity.within(answers)
                if first == second
                else similarity.between(answers, comparison.of(second, one.id))
                for one, answers in comparison.answered(first)
            ]
            if cosines := [cosine for cosine in found if cosine is not None]:
                by_chance = similarity.by_chance(comparison, first, second)
                pairs.append(Pair(first=first, second=second, likeness=mean_interval(cosines), by_chance=by_chance))
    return pairs


def diff_comparisons(earlier: Comparison, now: Comparison, *, location: str) -> ComparisonDiff:
    """Compare each directed measure of each model that both comparisons have, over the questions they share.

    Args:
        location: where the earlier comparison is, for the reader.

    Raises:
        EvaluationError: the generation settings differ, or the two share no model or no question.
    """
    # 1. Find what the two share; a question is the same by its wording, not by its id.
    if different := describe_different_settings(earlier.decoder, now.decoder):
        raise EvaluationError(
            f"{location} was decoded differently ({different}); compare again with the settings of the earlier one"
        )
    models = [run.name for run in now.models if any(earlier.answered(run.name)) and any(now.answered(run.name))]
    earlier_ids: dict[Question, str] = {one.question: one.id for one in earlier.questions}
    ids = {one.id: earlier_ids[one.question] for one in now.questions if one.question in earlier_ids}
    if not models or not ids:
        raise EvaluationError(
            f"{location} has no {'question' if models else 'model'} in common with this comparison; "
            "name one with the same models and questions"
        )

    # 2. Compare the scores of each model, then its answers sample by sample.
    similarity = AnswerSimilarity(earlier, now)
    changes: list[MeasureChange] = []
    drifts: list[AnswerDrift] = []
    for model in models:
        then, after = scores(earlier, model, similarity), scores(now, model, similarity)
        for name, metric in MEASURES.items():
            old, new = then.get(name, {}), after.get(name, {})
            pairs = [(old[before], new[id_]) for id_, before in ids.items() if before in old and id_ in new]
            if pairs and metric.direction != "neither":
                change = paired_change(pairs, metric.direction)
                changes.append(MeasureChange(model=model, measure=name, **vars(change)))
        cosines = {
            id_: cosine
            for id_, before in ids.items()
            if (cosine := similarity.one_by_one(earlier.of(model, before), now.of(model, id_))) is not None
        }
        if cosines:
            least = min(cosines, key=lambda id_: cosines[id_])
            likeness = mean_interval(list(cosines.values()))
            drifts.append(AnswerDrift(model=model, likeness=likeness, question=least, least=cosines[least]))
    changes.sort(key=lambda change: WORST_FIRST[change.verdict])
    return ComparisonDiff(earlier=location, changes=tuple(changes), drifts=tuple(drifts))


def write_results(
    found: Results, folder: Path, *, changes: ComparisonDiff | None = None, ranked: Sequence[RankedModel] = ()
) -> None:
    """Write the answers as CSV and the figures as JSON, each atomically."""

    def to_json(value: object) -> object:
        if isinstance(value, MeanEstimate | MeanDifference):
            return value._asdict()
        if isinstance(value, dict):
            return {name: to_json(part) for name, part in value.items()}
        return value

    def fields(one: object) -> dict[str, object]:
        return {name: to_json(value) for name, value in vars(one).items()}

    data = {
        "measures": [fields(one) for one in found.measured],
        "likeness": [fields(pair) for pair in found.matrix],
        "by_question": found.scores,
        "changes": None
        if changes is None
        else {
            "earlier": changes.earlier,
            # model and measure come first, though an inherited dataclass has them last
            "measures": [{"model": one.model, "measure": one.measure, **fields(one)} for one in changes.changes],
            "answers": [fields(one) for one in changes.drifts],
        },
        "ranking": [fields(one) for one in ranked],
    }
    atomic_write_text(folder / MEASURED, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
    # without a byte order mark spreadsheets misread Japanese
    atomic_write_text(folder / CSV, "\ufeff" + answers_csv(found.comparison))


def answers_csv(comparison: Comparison) -> str:
    """Format all answers as CSV, one line each; no cell runs as a formula in a spreadsheet."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*COLUMNS, *(f"score_{name}" for name in CSV_SCORES)])
    by_id = {one.id: one for one in comparison.questions}
    for one in comparison.answers:
        listed, answer = by_id[one.question], one.answer
        question = listed.question
        cells = (
            *(listed.id, listed.group, answer.language, question.instruction, question.input, one.model, one.sample),
            *(answer.reasoning, answer.answer, answer.tokens, f"{answer.seconds:.3f}", answer.stopped_by),
            *(answer.passes, *(text and text.en for text in (answer.second_pass_because, answer.retried_because))),
        )
        shown = (f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell for cell in cells)
        figures = answer_scores(listed, answer)
        lines.writerow([*shown, *(figures.get(name, "") for name in CSV_SCORES)])
    return file.getvalue()


def _mean(values: Sequence[float] | Vectors) -> float | None:
    return float(np.mean(values)) if np.size(values) else None
