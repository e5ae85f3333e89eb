"""Scores of an answer where one answer is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bonsai.recipes.evaluation.normal_form import same, tokens


def exact_match(answer: str, reference: str) -> float:
    """1 where the two are the same after normalisation, else 0."""
    return float(same(answer, reference))


def f1(answer: str, reference: str) -> float:
    """F1 (0 to 1) over characters where the script has no spaces, over words elsewhere.

    SQuAD's measure with the mixed segmentation of MLQA (Lewis et al. 2020, arXiv:1910.07475). English is not compared
    letter by letter: any two English sentences share most of theirs.
    """
    ours, theirs = Counter(tokens(answer)), Counter(tokens(reference))
    common = sum((ours & theirs).values())
    if not common:
        return 0.0
    precision, recall = common / ours.total(), common / theirs.total()
    return 2 * precision * recall / (precision + recall)


def accepted(answer: str, variants: Sequence[str]) -> float:
    """1 where one of the variants stands in the answer, whole words and whole numbers, else 0."""
    ours = tokens(answer)
    return float(any(_stands_in(tokens(variant), ours) for variant in variants))


def _stands_in(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return bool(part) and any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))
