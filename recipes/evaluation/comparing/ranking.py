"""From a person's votes to a ranking: the Bradley-Terry model with bootstrap intervals.

Bradley and Terry 1952 (doi:10.1093/biomet/39.3-4.324): the odds that one is preferred to another are the ratio of their
strengths. A tie counts as half a win for either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from bonsai.recipes.evaluation.intervals import LEVEL, SEED, Estimate

Floats = npt.NDArray[np.float64]

Ballot = Sequence[Sequence[str]]
"""One vote: models from the most liked to the least; those in one place are equally good"""

PRIOR = 0.5
"""wins that every pair is given either way: who was never beaten has a finite strength too (Haldane 1956, Anscombe)"""
RESAMPLES = 1_000


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A model's place."""

    model: str
    strength: Estimate
    """natural logarithm; over all models they add up to 0"""
    preferred: Estimate
    """how often it would be preferred to the others, 0 to 1; 0.5 is the middle of the field"""


def ranking(ballots: Sequence[Ballot], models: Sequence[str], *, prior: float = PRIOR) -> list[Ranked]:
    """The models from the strongest to the weakest, with 95% percentile intervals over ballots.

    Args:
        ballots: at least one; each names at least two of the models.
        prior: wins given to either side of every pair; 0: the bare maximum of the likelihood.
    """
    each = np.stack([_wins(ballot, models) for ballot in ballots])
    strengths = fit(each.sum(0), prior=prior)
    draw = np.random.default_rng(SEED)
    resampled = np.stack(
        [
            fit(each[draw.integers(0, len(each), len(each))].sum(0), prior=prior, start=strengths)
            for _ in range(RESAMPLES)
        ]
    )
    preferred, preferred_resampled = _preferred(strengths), np.stack([_preferred(one) for one in resampled])
    found = [
        Ranked(
            model=model,
            strength=_estimate(strengths[place], resampled[:, place]),
            preferred=_estimate(preferred[place], preferred_resampled[:, place]),
        )
        for place, model in enumerate(models)
    ]
    return sorted(found, key=lambda one: -one.strength.value)


def fit(wins: Floats, *, prior: float = PRIOR, start: Floats | None = None) -> Floats:
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


def _estimate(value: float, resampled: Floats) -> Estimate:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))
