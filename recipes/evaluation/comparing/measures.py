"""What is measured of every model: names, which way is better, and the figures with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bonsai.recipes.evaluation.comparing.agreement import Likeness, word_for_word
from bonsai.recipes.evaluation.comparing.questions import Listed
from bonsai.recipes.evaluation.comparing.record import Comparison, Side
from bonsai.recipes.evaluation.form import foreign_share, is_garbled, loops, repeated_ngrams, right_language
from bonsai.recipes.evaluation.intervals import Estimate, mean_interval
from bonsai.recipes.evaluation.metrics import METRICS, Metric
from bonsai.recipes.evaluation.single_answer import accepted
from bonsai.recipes.inference.conversation import Answer

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
class Measured:
    """A model's figures."""

    model: str
    answers: int
    estimates: dict[str, Estimate]
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
    likeness: Estimate
    by_chance: float | None
    """likeness of their answers to different questions; None: there is one question"""


def answer_scores(listed: Listed, answer: Answer) -> dict[str, float]:
    """What one answer shows by itself."""
    question = listed.question
    told = f"{answer.reasoning}\n{answer.answer}".strip()
    found = {
        "accepted": accepted(answer.answer, listed.accepted) if listed.accepted else None,
        "reasoning": float(bool(answer.reasoning and answer.answer)),
        "two_passes": float(answer.passes == 2),
        "language": right_language(answer.answer, answer.language, ""),
        "foreign": foreign_share(answer.answer, answer.language, question.instruction + question.input),
        "mojibake": is_garbled(told),
        "repetition": repeated_ngrams(told),
        "loop": loops(answer.answer, refrain=False),
        "eos": float(answer.stopped_by == "eos"),
        "length": float(len(answer.answer)),
    }
    return {name: score for name, score in found.items() if score is not None}


def scores(comparison: Comparison, model: str, likeness: Likeness) -> Row:
    """Each measure's figure for each question: the mean of its samples, for they are no further questions."""
    found: Row = {}
    for listed, answers in comparison.answered(model):
        each = [answer_scores(listed, answer) for answer in answers]
        figures = {
            "stability": likeness.among(answers),
            "verbatim": word_for_word(answers),
            **{name: _mean([one[name] for one in each if name in one]) for name in MEASURES if name in METRICS},
            "two_passes": _mean([one["two_passes"] for one in each]),
        }
        for name, figure in figures.items():
            if figure is not None:
                found.setdefault(name, {})[listed.id] = figure
    return found


def measured(comparison: Comparison, side: Side, row: Row) -> Measured:
    """A model's figures over all questions."""
    tokens, seconds = (sum(getattr(done, name) for done in side.rounds) for name in ("tokens", "seconds"))
    answers = sum(done.answers for done in side.rounds)
    priced = side.usd_per_hour is not None and answers
    return Measured(
        model=side.name,
        answers=sum(one.model == side.name for one in comparison.answers),
        estimates={name: mean_interval(list(row[name].values())) for name in MEASURES if name in row},
        tokens_per_second=tokens / seconds if seconds else None,
        usd_per_1000=1000 * (side.usd_per_hour or 0) * seconds / 3600 / answers if priced else None,
    )


def matrix(comparison: Comparison, likeness: Likeness) -> list[Pair]:
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
