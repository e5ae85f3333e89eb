"""Collect blind pairwise votes and rank models by them (Bradley-Terry).

Bradley and Terry 1952 (doi:10.1093/biomet/39.3-4.324): the odds that one is preferred to another are the ratio of their
strengths. A tie counts as half a win for either.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.comparison.record import Comparison, ComparisonQuestion
from bonsai.recipes.evaluation.statistics import LEVEL, SEED, MeanEstimate
from bonsai.recipes.inference.conversation import Answer

VOTES = "votes.jsonl"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Vote(BaseModel):
    """One question judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    """its id"""
    order: tuple[tuple[str, ...], ...]
    """models from the best answer to the worst; those in one place are equally good"""
    answers: str
    """digest of the answers that were read: a vote does not count for others"""


@dataclass(frozen=True, kw_only=True)
class BlindQuestion:
    """A question whose answers bear letters; which is whose differs from question to question."""

    listed: ComparisonQuestion
    models: dict[str, str]
    """by letter"""
    answers: dict[str, Answer]
    """by letter, the first sample of each"""

    @property
    def digest(self) -> str:
        """Of the answers as they stand."""
        told = "\n".join(sorted(f"{self.models[letter]} {one.answer}" for letter, one in self.answers.items()))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def order(self, judged: str) -> tuple[tuple[str, ...], ...]:
        """The models in the order of a person's letters: ``B A=C`` puts B first and the other two level.

        Raises:
            EvaluationError: a letter is missing, is there twice or is none of the answers'.
        """
        places = [
            [letter for letter in re.split(r"\s*=\s*", place) if letter]
            for place in re.sub(r"\s*=\s*", "=", judged.strip().upper().replace(">", " ")).split()
        ]
        letters = [letter for place in places for letter in place]
        if places == [[]] and len(self.models) == 2:  # "=" alone
            places, letters = [list(self.models)], list(self.models)
        if len(self.models) == 2 and len(letters) == 1:
            letters += [letter for letter in self.models if letter not in letters]
            places.append(letters[1:])
        if sorted(letters) != sorted(self.models):
            names = list(self.models)
            raise EvaluationError(
                f"{judged.strip()!r} does not order {', '.join(names)}; give each letter once, the best first, "
                f"with = between equals: {' '.join(reversed(names))}, or {'='.join(names)}"
            )
        return tuple(tuple(self.models[letter] for letter in place) for place in places)


def blind_questions(comparison: Comparison) -> Iterator[BlindQuestion]:
    """The questions that at least two models answered, with letters in place of names; the same at every call.

    Raises:
        EvaluationError: there are more models than letters.
    """
    if len(comparison.models) > len(LETTERS):
        raise EvaluationError(
            f"{len(comparison.models)} models are too many to put in order; compare {len(LETTERS)} at most"
        )
    for listed in comparison.questions:
        found = [side.name for side in comparison.models if comparison.of(side.name, listed.id)]
        if len(found) < 2:
            continue
        digest = hashlib.sha256("\n".join([listed.model_dump_json(), *sorted(found)]).encode()).digest()
        random.Random(digest).shuffle(found)
        letters = dict(zip(LETTERS, found, strict=False))
        yield BlindQuestion(
            listed=listed,
            models=letters,
            answers={letter: comparison.of(model, listed.id)[0] for letter, model in letters.items()},
        )


def read_votes(folder: Path) -> list[Vote]:
    """The votes that are kept; of two on the same answers the later counts.

    Raises:
        EvaluationError: a line is none.
    """
    path = folder / VOTES
    if not path.is_file():
        return []
    found: dict[tuple[str, str], Vote] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            vote = Vote.model_validate_json(line)
        except ValidationError as error:
            raise EvaluationError(f"{path}:{number}: no vote ({line[:60]!r}); delete this line") from error
        found[vote.question, vote.answers] = vote
    return list(found.values())


def append_vote(folder: Path, vote: Vote) -> None:
    """Append a vote: the whole line or nothing, on disk when this returns."""
    descriptor = os.open(folder / VOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (vote.model_dump_json() + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def valid_votes(comparison: Comparison, votes: list[Vote]) -> list[Vote]:
    """The votes on answers that stand in this comparison."""
    standing = {(one.listed.id, one.digest) for one in blind_questions(comparison)}
    return [vote for vote in votes if (vote.question, vote.answers) in standing]


Floats = npt.NDArray[np.float64]

Ballot = Sequence[Sequence[str]]
"""One vote: models from the most liked to the least; those in one place are equally good"""

PRIOR = 0.5
"""wins that every pair is given either way: who was never beaten has a finite strength too (Haldane 1956, Anscombe)"""
RESAMPLES = 1_000


@dataclass(frozen=True, kw_only=True)
class RankedModel:
    """A model's place."""

    model: str
    strength: MeanEstimate
    """natural logarithm; over all models they add up to 0"""
    preferred: MeanEstimate
    """how often it would be preferred to the others, 0 to 1; 0.5 is the middle of the field"""


def ranking(ballots: Sequence[Ballot], models: Sequence[str], *, prior: float = PRIOR) -> list[RankedModel]:
    """The models from the strongest to the weakest, with 95% percentile intervals over ballots.

    Args:
        ballots: at least one; each names at least two of the models.
        prior: wins given to either side of every pair; 0: the bare maximum of the likelihood.
    """
    each = np.stack([_wins(ballot, models) for ballot in ballots])
    strengths = fit_bradley_terry(each.sum(0), prior=prior)
    draw = np.random.default_rng(SEED)
    resampled = np.stack(
        [
            fit_bradley_terry(each[draw.integers(0, len(each), len(each))].sum(0), prior=prior, start=strengths)
            for _ in range(RESAMPLES)
        ]
    )
    preferred, preferred_resampled = _preferred(strengths), np.stack([_preferred(one) for one in resampled])
    found = [
        RankedModel(
            model=model,
            strength=_estimate(strengths[place], resampled[:, place]),
            preferred=_estimate(preferred[place], preferred_resampled[:, place]),
        )
        for place, model in enumerate(models)
    ]
    return sorted(found, key=lambda one: -one.strength.value)


def fit_bradley_terry(wins: Floats, *, prior: float = PRIOR, start: Floats | None = None) -> Floats:
    """The strengths that make the wins likeliest, natural logarithms that add up to 0, shape (N,).

    Args:
        wins: shape (N, N): how often the row was preferred to the column.
    """
    counted = wins + prior * (1 - np.eye(len(wins)))

    def loss(strengths: Floats) -> tuple[float, Floats]:
        ahead = strengths[:, None] - strengths[None, :]
        surprise = counted * expit(-ahead)
        # the mean is free in the model; pinning it softly leaves the differences as they are
        gradient = surprise.sum(0) - surprise.sum(1) + strengths.mean()
        return float(-(counted * log_expit(ahead)).sum() + len(strengths) * strengths.mean() ** 2 / 2), gradient

    first = np.zeros(len(wins)) if start is None else start
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-8})
    strengths: Floats = found.x - found.x.mean()
    return strengths


def _wins(ballot: Ballot, models: Sequence[str]) -> Floats:
    wins = np.zeros((len(models), len(models)))
    places = {model: place for place, names in enumerate(ballot) for model in names}
    for row, ours in enumerate(models):
        for column, theirs in enumerate(models):
            if row != column and ours in places and theirs in places:
                wins[row, column] = 0.5 if places[ours] == places[theirs] else float(places[ours] < places[theirs])
    return wins


def _preferred(strengths: Floats) -> Floats:
    odds = expit(strengths[:, None] - strengths[None, :])
    shares: Floats = (odds.sum(1) - 0.5) / max(1, len(strengths) - 1)
    return shares


def _estimate(value: float, resampled: Floats) -> MeanEstimate:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return MeanEstimate(float(value), float(low), float(high))
