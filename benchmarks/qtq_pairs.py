"""How well the judge of question chains tells a question asked again from a new one; fits its weights and threshold.

    python -m benchmarks.qtq_pairs

Pairs of ``tests/recipes/inference/question_pairs.jsonl`` are split in two by a hash of their first question, chains of
the records by a hash of their id. On one half, with the pairs the records' own rule was made from, a logistic model is
fitted and the threshold chosen that has the greatest F2 (recall counts double: a good question refused costs one of
many candidates, a circle lets the chain fail). All figures told are of the other half. The result is written to
``benchmarks/results/qtq_pairs.json``; the weights go by hand into ``recipes/inference/question_similarity.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from bonsai.builder.checks.base import extract_previous_question
from bonsai.builder.checks.chains import SAME_FROM as REWORDING_FROM
from bonsai.builder.checks.paraphrase import embed, paraphrase_probability
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import TextGroup
from bonsai.recipes.inference.question_similarity import (
    SAME_FROM,
    WEIGHTS,
    by_rule,
    pair_features,
    same_question_probability,
)

ROOT = Path(__file__).parents[1]
PAIRS = ROOT / "tests" / "recipes" / "inference" / "question_pairs.jsonl"
FIRST_PAIRS = ROOT / "tests" / "checks" / "cases" / "tautology.jsonl"
RESULT = Path(__file__).parent / "results" / "qtq_pairs.json"
RIDGE = 0.2
WEIGHT = {"pairs": 1.0, "first pairs": 0.5, "chains": 0.15}


class Pair(NamedTuple):
    """Two questions of one language."""

    origin: str
    language: str
    first: str
    second: str
    tautology: bool
    held_out: bool


def pairs() -> list[Pair]:
    """All pairs; those of the chains are a next question and each question before it, never tautologies."""
    found = []
    for line in PAIRS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.append(
            Pair("pairs", row["language"], row["first"], row["second"], row["tautology"], held_out(row["first"]))
        )
    for line in FIRST_PAIRS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.append(Pair("first pairs", row["language"], row["old"], row["new"], row["fault"], held_out=False))
    return found + [
        Pair("chains", language, first, second, False, held_out(name))
        for (name, language), questions in record_chains().items()
        for first, second in combinations(questions, 2)
    ]


def record_chains() -> dict[tuple[str, str], list[str]]:
    """The questions of each chain of the records, in their order, by chain and language."""
    steps: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for located in read_groups(default_records_dir()):
        group = located.group
        if isinstance(group, TextGroup) and group.chain:
            for language, text in group.texts().items():
                step = (group.chain.step, extract_previous_question(text.input), text.output)
                steps.setdefault((group.chain.id, language.value), []).append(step)
    return {key: [sorted(found)[0][1], *(new for _, _, new in sorted(found))] for key, found in steps.items()}


def held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


def fitted(train: Sequence[Pair]) -> npt.NDArray[np.float64]:
    """Weights of the logistic model, by Newton's method with a ridge on all but the constant."""
    undecided = [pair for pair in train if by_rule(pair.first, pair.second) is None]
    features = np.array([list(pair_features(pair.first, pair.second).values()) for pair in undecided])
    wanted = np.array([pair.tautology for pair in undecided], float)
    counts = np.array([WEIGHT[pair.origin] for pair in undecided])
    ridge = np.diag([0.0] + [RIDGE] * (features.shape[1] - 1))
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (counts * (likely - wanted)) + ridge @ weights
        curve = features.T @ (features * (counts * likely * (1 - likely))[:, None]) + ridge
        weights -= np.linalg.solve(curve, slope)
    return weights


def judge(weights: npt.NDArray[np.float64]) -> Callable[[Pair], float]:
    def likelihood(pair: Pair) -> float:
        known = by_rule(pair.first, pair.second)
        return (
            known
            if known is not None
            else float(1 / (1 + np.exp(-np.dot(weights, list(pair_features(pair.first, pair.second).values())))))
        )

    return likelihood


def cosine(pair: Pair) -> float:
    first, second = embed([pair.first, pair.second])
    return float(first @ second)


def measured(among: Sequence[Pair], likelihood: Callable[[Pair], float], threshold: float) -> dict[str, float]:
    told = [(likelihood(pair) >= threshold, pair.tautology) for pair in among]
    hits = sum(said and true for said, true in told)
    precision = hits / max(1, sum(said for said, _ in told))
    recall = hits / max(1, sum(true for _, true in told))
    return {"pairs": len(told), "precision": round(precision, 3), "recall": round(recall, 3)}


def best_threshold(among: Sequence[Pair], likelihood: Callable[[Pair], float]) -> float:
    def f2(threshold: float) -> float:
        found = measured(among, likelihood, threshold)
        precision, recall = found["precision"], found["recall"]
        return 5 * precision * recall / max(1e-9, 4 * precision + recall)

    return max((round(0.05 * step, 2) for step in range(1, 20)), key=f2)


def main() -> None:
    """Fit, test, print one table, keep the result."""
    everything = pairs()
    train = [pair for pair in everything if not pair.held_out]
    calibration = [pair for pair in train if pair.origin == "pairs"]
    test = [pair for pair in everything if pair.held_out and pair.origin == "pairs"]
    chains = [pair for pair in everything if pair.held_out and pair.origin == "chains"]
    weights = fitted(train)
    threshold = best_threshold(calibration, judge(weights))

    def by_rewording(pair: Pair) -> float:
        return paraphrase_probability(pair.first, pair.second, cosine(pair))

    judges = {
        "cosine alone": (cosine, best_threshold(calibration, cosine)),
        "the records' rule": (by_rewording, REWORDING_FROM),
        "fitted anew": (judge(weights), threshold),
        "as it is in the code": (lambda pair: same_question_probability(pair.first, pair.second), SAME_FROM),
    }
    table = Table("judge", "from", "pairs", "precision", "recall", "good questions of the records refused")
    result: dict[str, object] = {
        "weights": dict(zip(WEIGHTS, weights.round(2).tolist(), strict=True)),
        "threshold": threshold,
        "calibration_pairs": len(calibration),
    }
    for name, (likelihood, start) in judges.items():
        by_language = {
            language: measured([pair for pair in test if pair.language == language], likelihood, start)
            for language in ("en", "ja", "zh")
        }
        whole = measured(test, likelihood, start)
        refused = sum(likelihood(pair) >= start for pair in chains) / len(chains)
        result[name] = {"from": start, "held_out": whole, **by_language, "refused_in_records": round(refused, 3)}
        table.add_row(
            name, f"{start:.2f}", str(whole["pairs"]), f"{whole['precision']:.2f}", f"{whole['recall']:.2f}",
            f"{refused:.1%} of {len(chains)}",
        )  # fmt: skip
    Console().print(table, result["weights"])
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
