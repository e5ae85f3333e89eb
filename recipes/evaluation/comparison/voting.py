"""Collect blind pairwise votes and rank models by them (Bradley-Terry).

Bradley and Terry 1952 (doi:10.1093/biomet/39.3-4.324): the odds that one model is preferred to another are the ratio of
their strengths. A tie counts as half a win for either:

    >>> ranking([(("phi2",), ("gpt2",)), (("phi2", "gpt2"),)], ["gpt2", "phi2"])[0].model
    'phi2'

"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.comparison.record import Comparison, ComparisonQuestion
from bonsai.recipes.evaluation.statistics import SEED, Floats, MeanEstimate, percentile_interval
from bonsai.recipes.inference.conversation import Answer, StoredModel

VOTES = "votes.jsonl"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PRIOR = 0.5
"""wins given to either side of every pair, so that an unbeaten model has a finite strength (Haldane 1956, Anscombe)"""
RESAMPLES = 1_000

Ballot = Sequence[Sequence[str]]
"""One vote: models from the best to the worst; those in one place are equally good"""


class Vote(StoredModel):
    """A person's order of the answers to one question."""

    question: str
    """its id"""
    order: tuple[tuple[str, ...], ...]
    """models from the best answer to the worst; those in one place are equally good"""
    answers: str
    """digest of the answers that were read: a vote does not count for others"""


@dataclass(frozen=True, kw_only=True)
class BlindQuestion:
    """A question whose answers have letters; which model is which differs from question to question."""

    listed: ComparisonQuestion
    models: dict[str, str]
    """by letter"""
    answers: dict[str, Answer]
    """by letter, the first sample of each"""

    @property
    def digest(self) -> str:
        """A digest of the models and their answers."""
        text = "\n".join(sorted(f"{self.models[letter]} {one.answer}" for letter, one in self.answers.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def order(self, text: str) -> tuple[tuple[str, ...], ...]:
        """Parse a person's order of letters: ``B A=C`` puts B first, and A and C level behind it.

        Raises:
            EvaluationError: a letter is missing, repeated, or not one of the answers'.
        """
        places = [
            [letter for letter in re.split(r"\s*=\s*", place) if letter]
            for place in re.sub(r"\s*=\s*", "=", text.strip().upper().replace(">", " ")).split()
        ]
        letters = [letter for place in places for letter in place]
        # of two answers, "=" alone is a tie, and one letter alone is the better answer
        if places == [[]] and len(self.models) == 2:
            places, letters = [list(self.models)], list(self.models)
        if len(self.models) == 2 and len(letters) == 1:
            letters += [letter for letter in self.models if letter not in letters]
            places.append(letters[1:])
        if sorted(letters) != sorted(self.models):
            names = list(self.models)
            raise EvaluationError(
                f"{text.strip()!r} does not order {', '.join(names)}; give each letter once, the best first, "
                f"with = between equals: {' '.join(reversed(names))}, or {'='.join(names)}"
            )
        return tuple(tuple(self.models[letter] for letter in place) for place in places)


@dataclass(frozen=True, kw_only=True)
class RankedModel:
    """A model's place."""

    model: str
    strength: MeanEstimate
    """natural logarithm; over all models they add up to 0"""
    preferred: MeanEstimate
    """how often it would be preferred to the others, 0 to 1; 0.5 is the middle of the field"""


def blind_questions(comparison: Comparison) -> Iterator[BlindQuestion]:
    """Yield the questions that at least two models answered, with letters for names; the same ones at every call.

    Raises:
        EvaluationError: there are more models than letters.
    """
    if len(comparison.models) > len(LETTERS):
        raise EvaluationError(
            f"{len(comparison.models)} models are too many to put in order; compare at most {len(LETTERS)}"
        )
    for listed in comparison.questions:
        models = [run.name for run in comparison.models if comparison.of(run.name, listed.id)]
        if len(models) < 2:
            continue
        # the question and its models seed the shuffle, so letters stay put while a person votes
        digest = hashlib.sha256("\n".join([listed.model_dump_json(), *sorted(models)]).encode()).digest()
        random.Random(digest).shuffle(models)
        letters = dict(zip(LETTERS, models, strict=False))
        yield BlindQuestion(
            listed=listed,
            models=letters,
            answers={letter: comparison.of(model, listed.id)[0] for letter, model in letters.items()},
        )


def read_votes(folder: Path) -> list[Vote]:
    """Read the stored votes; of two on the same answers the later counts.

    Raises:
        EvaluationError: a line is not a vote.
    """
    path = folder / VOTES
    if not path.is_file():
        return []
    found: dict[tuple[str, str], Vote] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            vote = Vote.model_validate_json(line)
        except ValidationError as error:
            raise EvaluationError(f"{path}:{number}: not a vote ({line[:60]!r}); delete this line") from error
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
    """Select the votes on answers that this comparison still has."""
    current = {(one.listed.id, one.digest) for one in blind_questions(comparison)}
    return [vote for vote in votes if (vote.question, vote.answers) in current]


def ranking(ballots: Sequence[Ballot], models: Sequence[str], *, prior: float = PRIOR) -> list[RankedModel]:
    """Rank the models from the strongest to the weakest, with 95% percentile intervals over ballots.

    Args:
        ballots: at least one; each names at least two of the models.
        prior: wins given to either side of every pair; 0: plain maximum likelihood.
    """
    # 1. Turn each ballot into wins of the row over the column, shape (ballots, N, N); a tie is half a win.
    wins = np.zeros((len(ballots), len(models), len(models)))
    for ballot, table in zip(ballots, wins, strict=True):
        places = {model: place for place, names in enumerate(ballot) for model in names}
        for (row, ours), (column, theirs) in permutations(enumerate(models), 2):
            if ours in places and theirs in places:
                tie = places[ours] == places[theirs]
                table[row, column] = 0.5 if tie else float(places[ours] < places[theirs])

    # 2. Fit the strengths to all ballots, then to resamples of them.
    strengths = fit_bradley_terry(wins.sum(0), prior=prior)
    generator = np.random.default_rng(SEED)
    resampled = np.stack(
        [
            fit_bradley_terry(wins[generator.integers(0, len(wins), len(wins))].sum(0), prior=prior, start=strengths)
            for _ in range(RESAMPLES)
        ]
    )

    # 3. Work out how often each model would be preferred to the others; against itself it is even.
    def preferred(strengths: Floats) -> Floats:
        odds = expit(strengths[..., :, None] - strengths[..., None, :])
        shares: Floats = (odds.sum(-1) - 0.5) / max(1, len(models) - 1)
        return shares

    shares, resampled_shares = preferred(strengths), preferred(resampled)
    found = [
        RankedModel(
            model=model,
            strength=MeanEstimate(float(strengths[index]), *percentile_interval(resampled[:, index])),
            preferred=MeanEstimate(float(shares[index]), *percentile_interval(resampled_shares[:, index])),
        )
        for index, model in enumerate(models)
    ]
    return sorted(found, key=lambda one: -one.strength.value)


def fit_bradley_terry(wins: Floats, *, prior: float = PRIOR, start: Floats | None = None) -> Floats:
    """Fit the most likely strengths, natural logarithms that add up to 0, shape (N,).

    Args:
        wins: shape (N, N): how often the row was preferred to the column.
        start: strengths to begin at; by default 0.
    """
    counts = wins + prior * (1 - np.eye(len(wins)))

    def loss(strengths: Floats) -> tuple[float, Floats]:
        ahead = strengths[:, None] - strengths[None, :]
        surprise = counts * expit(-ahead)
        # the mean is free in the model; pinning it softly leaves the differences as they are
        gradient = surprise.sum(0) - surprise.sum(1) + strengths.mean()
        return float(-(counts * log_expit(ahead)).sum() + len(strengths) * strengths.mean() ** 2 / 2), gradient

    first = np.zeros(len(wins)) if start is None else start
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-8})
    strengths: Floats = found.x - found.x.mean()
    return strengths
