"""Which pairs are worth a look: texts that share a band, and whose signatures agree well enough."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bonsai.builder.near_duplicates.folding import Places
from bonsai.builder.near_duplicates.shingles import Hashes
from bonsai.builder.near_duplicates.signatures import Sketches

Pairs = npt.NDArray[np.int64]
"""Shape (P, 2): two numbers, the lower first."""

ESTIMATE_MARGIN = 0.2
"""How far the estimate from 128 bins may lie below the threshold: four standard errors, more in short texts."""
_BLOCK = 65_536


def meeting(band: Hashes, reach: int) -> Pairs:
    """Entries with the same hash in this band: each with the first of its bucket and with the ``reach`` before it.

    A bucket of thousands (a form letter) so costs thousands of pairs, not millions; that its members are near
    duplicates of the first is all that has to be found.
    """
    low = np.uint64(max(len(band) - 1, 1).bit_length())
    packed = np.sort(((band >> low) << low) | np.arange(len(band), dtype=np.uint64))
    buckets = packed >> low
    entries = (packed & ((np.uint64(1) << low) - np.uint64(1))).astype(np.int64)
    opens = np.ones(len(band), bool)
    opens[1:] = buckets[1:] != buckets[:-1]
    first = np.maximum.accumulate(np.where(opens, np.arange(len(band)), 0))
    found = [np.column_stack([entries[first], entries])[~opens]]
    for distance in range(1, reach + 1):
        same = buckets[distance:] == buckets[:-distance]
        if not same.any():
            break
        found.append(np.column_stack([entries[:-distance][same], entries[distance:][same]]))
    return distinct(np.concatenate(found))


def distinct(pairs: Pairs) -> Pairs:
    """Each pair once, in ascending order."""
    packed = sorted_unique((pairs[:, 0].astype(np.uint64) << np.uint64(32)) | pairs[:, 1].astype(np.uint64))
    return np.column_stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)]).astype(np.int64)


def sorted_unique(numbers: Hashes) -> Hashes:
    """Each number once, ascending; sorted in place, because `np.unique` hashes 64-bit numbers ten times as slowly."""
    numbers.sort()
    changes = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=changes[1:])
    return numbers[changes]


def likely(pairs: Pairs, sketches: Sketches, threshold: float) -> Pairs:
    """The pairs whose sketches agree in enough bins for a similarity of ``threshold`` to be possible."""
    kept: Pairs = pairs[agreement(pairs, sketches) >= (threshold - ESTIMATE_MARGIN) * sketches.shape[1]]
    return kept


def agreement(pairs: Pairs, sketches: Sketches) -> Places:
    """In how many bins the sketches of each pair agree, shape (P,)."""
    found = np.zeros(len(pairs), np.int64)
    for start in range(0, len(pairs), _BLOCK):
        first, second = pairs[start : start + _BLOCK].T
        found[start : start + _BLOCK] = (sketches[first] == sketches[second]).sum(axis=1)
    return found


def closest(pairs: Pairs, sketches: Sketches, threshold: float, most: int) -> Pairs:
    """Of the likely pairs, for each second entry the ``most`` with the best agreement; ties go to the earlier first."""
    agreeing = agreement(pairs, sketches)
    kept = agreeing >= (threshold - ESTIMATE_MARGIN) * sketches.shape[1]
    pairs, agreeing = pairs[kept], agreeing[kept]
    pairs = pairs[np.lexsort((pairs[:, 0], -agreeing, pairs[:, 1]))]
    opens = np.ones(len(pairs), bool)
    opens[1:] = pairs[1:, 1] != pairs[:-1, 1]
    places = np.arange(len(pairs))
    rank: Places = places - np.maximum.accumulate(np.where(opens, places, 0))
    best: Pairs = pairs[rank < most]
    return best
