"""Shingles: the runs of n characters a text is made of, hashed to 64 bits.

Five characters tell texts apart in Japanese, English and Chinese alike; in a text of a dozen characters one edit would
spoil most runs of five, so shorter texts are cut into shorter runs. A text a little above such a limit is cut both
ways, since its near duplicate may lie below.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bonsai.builder.near_duplicates.folding import Places, Texts

Hashes = npt.NDArray[np.uint64]

SIZES = (1, 2, 3, 5)
_SHORTEST = (1, 2, 12, 32)
"""From how many folded characters on a text is cut into runs of the size above."""
_LENGTH_RATIO = 0.5
"""Two texts of which one is shorter than this share of the other are never near duplicates worth a second cut."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)


class Shingles(NamedTuple):
    """Hashes of all runs, shape (S,), and the number of the text each came from, shape (S,), ascending."""

    hashes: Hashes
    owners: Places


def size_for(lengths: Places) -> Places:
    """The run length for texts of so many folded characters; 0 for an empty text."""
    return np.asarray((0, *SIZES))[np.searchsorted(_SHORTEST, lengths, side="right")]


def sizes_to_index(lengths: Places) -> tuple[Places, Places]:
    """The entries a search needs: numbers of the texts and the run length of each entry, ordered by text."""
    own = size_for(lengths)
    smaller = size_for((lengths * _LENGTH_RATIO).astype(np.int64))
    smaller[(smaller == own) | (smaller == 0)] = 0
    numbers = np.arange(len(lengths))
    which = np.concatenate([numbers[own > 0], numbers[smaller > 0]])
    sizes = np.concatenate([own[own > 0], smaller[smaller > 0]])
    order = np.argsort(which, kind="stable")
    return which[order], sizes[order]


def shingles(texts: Texts, size: int) -> Shingles:
    """All runs of ``size`` characters; a run never reaches into the next text."""
    counts = np.maximum(texts.lengths() - size + 1, 0)
    owners = np.repeat(np.arange(len(counts)), counts)
    if not len(owners):
        return Shingles(np.zeros(0, np.uint64), owners)
    windows = len(texts.codes) - size + 1
    codes = texts.codes.astype(np.uint64)
    hashes = codes[:windows] + np.uint64(size)
    for offset in range(1, size):
        hashes *= _FACTOR
        hashes += codes[offset : offset + windows]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(29)
    hashes *= _FACTOR
    hashes ^= hashes >> np.uint64(32)
    ends = np.cumsum(counts)
    places = np.arange(len(owners)) + np.repeat(texts.starts[:-1] - (ends - counts), counts)
    return Shingles(hashes[places], owners)
