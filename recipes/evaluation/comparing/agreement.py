"""How far answers say the same, by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from bonsai.builder.checks.embedding import Vectors, vectors
from bonsai.recipes.evaluation.comparing.record import Comparison
from bonsai.recipes.evaluation.normal_form import same
from bonsai.recipes.inference.conversation import Answer

PIECE = 200
"""characters; the encoder was trained on sentences, and reads no more than the beginning of what is longer"""


def meanings(texts: Sequence[str]) -> Vectors:
    """The meaning of each text from its beginning to its end, shape (N, 512), of unit length.

    The mean of its pieces by their length. A text that says nothing is all zeros, and so like no other.
    """
    pieces = [[text[at : at + PIECE] for at in range(0, len(text), PIECE)] for text in (text.strip() for text in texts)]
    read = iter(vectors([piece for each in pieces for piece in each]))
    found = np.zeros((len(texts), 512), np.float32)
    for row, each in zip(found, pieces, strict=True):
        for piece in each:
            row += len(piece) * next(read)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def word_for_word(answers: Sequence[Answer]) -> float | None:
    """Share of the pairs that are the same but for width, marks and the like; None: there is no pair."""
    pairs = [same(one.answer, other.answer) for one, other in combinations(answers, 2)]
    return sum(pairs) / len(pairs) if pairs else None


class Likeness:
    """How alike models answer, by the cosine of what they mean; an answer is read once."""

    def __init__(self, *comparisons: Comparison) -> None:
        texts = sorted({one.answer.answer for comparison in comparisons for one in comparison.answers})
        self._meanings = dict(zip(texts, meanings(texts), strict=True))

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
