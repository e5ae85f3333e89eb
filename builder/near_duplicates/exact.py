"""The Jaccard similarity itself: candidates are only candidates until the sets of shingles have been compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bonsai.builder.near_duplicates.candidates import Pairs, sorted_unique
from bonsai.builder.near_duplicates.folding import Texts
from bonsai.builder.near_duplicates.shingles import SIZES, shingles, size_for

_PAIR_BITS = 11
_HASH_BITS = 64 - _PAIR_BITS - 1
"""52 bits of each hash are compared: two texts of 1,000 shingles meet by chance once in 10⁹ pairs."""


def jaccard(texts: Texts, pairs: Pairs) -> npt.NDArray[np.float64]:
    """Similarity of each pair of folded texts, shape (P,): shared shingles over all shingles of the two.

    Both texts are cut into runs of the length that fits the shorter one; two empty texts have similarity 0.
    """
    lengths = texts.lengths()
    sizes = size_for(lengths[pairs].min(axis=1))
    found = np.zeros(len(pairs))
    for size in SIZES:
        chosen = np.flatnonzero(sizes == size)
        for start in range(0, len(chosen), 1 << _PAIR_BITS):
            block = chosen[start : start + (1 << _PAIR_BITS)]
            found[block] = _jaccard(texts.take(pairs[block].ravel()), len(block), size)
    return found


def _jaccard(sides: Texts, count: int, size: int) -> npt.NDArray[np.float64]:
    """Texts 2i and 2i + 1 are the sides of pair i: sorted by pair, hash and side, shared shingles are neighbours."""
    hashes, owners = shingles(sides, size)
    keys = (hashes >> np.uint64(_PAIR_BITS + 1)) << np.uint64(1)
    keys |= (owners.astype(np.uint64) >> np.uint64(1)) << np.uint64(_HASH_BITS + 1)
    keys |= owners.astype(np.uint64) & np.uint64(1)
    keys = sorted_unique(keys)
    pair_of = (keys >> np.uint64(_HASH_BITS + 1)).astype(np.int64)
    shared = (keys[1:] ^ keys[:-1]) == 1
    both = np.bincount(pair_of[1:][shared], minlength=count)
    either: npt.NDArray[np.int64] = np.bincount(pair_of, minlength=count) - both
    return np.true_divide(both, np.maximum(either, 1), dtype=np.float64)
