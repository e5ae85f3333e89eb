"""MinHash signatures from one hash a shingle, and the bands by which similar texts meet.

One permutation hashing (Li, Owen & Zhang 2012): each hash falls into one of 128 bins and the smallest of a bin counts.
Empty bins, many in a short text, borrow from a bin chosen by hash (optimal densification, Shrivastava 2017). So a
shingle costs one table access instead of 128 multiplications, and NumPy is fast enough without a compiler.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bonsai.builder.near_duplicates.folding import Places, Texts
from bonsai.builder.near_duplicates.shingles import SIZES, Hashes, shingles, sizes_to_index

BINS = 128
_BIN_BITS = 7
_EMPTY = np.uint32(0xFFFFFFFF)
_ATTEMPTS = 512
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)

Signatures = npt.NDArray[np.uint32]
Sketches = npt.NDArray[np.uint8]


def _choose_bins() -> npt.NDArray[np.int64]:
    steps = np.arange(_ATTEMPTS * BINS, dtype=np.uint64) + np.uint64(1)
    steps *= _FACTOR
    steps ^= steps >> np.uint64(31)
    steps *= _MIX
    return (steps >> np.uint64(64 - _BIN_BITS)).astype(np.int64).reshape(_ATTEMPTS, BINS)


_BORROWED = _choose_bins()
"""Shape (_ATTEMPTS, BINS): where an empty bin looks at its n-th attempt. After 512 a text of one shingle has a gap with
2% a bin; a gap costs a band, and is the same in the same text."""


class Indexed(NamedTuple):
    """E entries of a search: a text has one, or two where two run lengths are tried."""

    which: Places
    """number of the text, shape (E,)"""
    sketches: Sketches
    """the low byte of each minimum, shape (E, BINS): equal bytes estimate the Jaccard similarity"""
    bands: Hashes
    """one hash a band, shape (E, number of bands)"""


def index(texts: Texts, rows_in_band: int) -> Indexed:
    """Signature and bands of folded texts."""
    which, sizes = sizes_to_index(texts.lengths())
    minima = np.empty((len(which), BINS), np.uint32)
    for size in SIZES:
        entries = np.flatnonzero(sizes == size)
        if len(entries):
            chosen = texts if len(entries) == len(texts.starts) - 1 else texts.take(which[entries])
            minima[entries] = signatures(chosen, size)
    return Indexed(which, minima.astype(np.uint8), band_hashes(minima, sizes, rows_in_band))


def signatures(texts: Texts, size: int) -> Signatures:
    """The minimum of each bin, shape (texts, BINS); every text has ``size`` characters or more."""
    hashes, owners = shingles(texts, size)
    count = len(texts.starts) - 1
    minima = np.full(count * BINS, _EMPTY, np.uint32)
    bins = (hashes >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
    bins += owners * BINS
    np.minimum.at(minima, bins, hashes.astype(np.uint32))
    return _densified(minima.reshape(count, BINS))


def _densified(minima: Signatures) -> Signatures:
    """Fill each empty bin from another bin of the same text, the same one in every text where it is filled."""
    flat = minima.ravel()
    empty = np.flatnonzero(flat == _EMPTY)
    filled = flat.copy()
    for attempt in range(_ATTEMPTS):
        if not len(empty):
            break
        source = _BORROWED[attempt, empty & (BINS - 1)]
        values = flat[(empty & ~(BINS - 1)) | source]
        filled[empty] = values
        empty = empty[values == _EMPTY]
    return filled.reshape(minima.shape)


def band_hashes(minima: Signatures, sizes: Places, rows_in_band: int) -> Hashes:
    """One 64-bit hash of each run of ``rows_in_band`` minima, shape (E, BINS // rows_in_band)."""
    bands = BINS // rows_in_band
    parts = minima[:, : bands * rows_in_band].reshape(len(minima), bands, rows_in_band)
    hashes = np.repeat(sizes.astype(np.uint64)[:, None], bands, axis=1)
    for row in range(rows_in_band):
        hashes *= _FACTOR
        hashes += parts[:, :, row]
        hashes ^= hashes >> np.uint64(29)
    hashes *= _MIX
    return hashes
