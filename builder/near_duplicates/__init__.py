"""Near duplicates: texts that differ by small edits, in Japanese, English or Chinese.

MinHash finds candidates (Broder 1997; bands after Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", ch. 3)
and the exact Jaccard similarity of the shingles decides: without that step precision is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bonsai.builder.near_duplicates.candidates import distinct, likely, meeting
from bonsai.builder.near_duplicates.exact import jaccard
from bonsai.builder.near_duplicates.folding import Texts, folded, normalised
from bonsai.builder.near_duplicates.signatures import BINS, Indexed, index

THRESHOLD = 0.55
"""Similarity of character shingles from which two texts count as near duplicates."""
ROWS_IN_BAND = 3
"""42 bands of 3: a pair at 0.55 meets with a chance of 99.9%; right for records by the thousand."""
_REACH = 64
_BATCH = 512


class NearPair(NamedTuple):
    """Two texts by their place in the sequence, ``first`` < ``second``, and how alike they are (0 to 1)."""

    first: int
    second: int
    jaccard: float


def near_duplicates(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[NearPair]:
    """Pairs whose character 5-gram shingles (fewer for short texts) overlap by ``threshold`` or more.

    Punctuation, spaces, case and full-width forms don't count, so texts that differ only there have similarity 1.
    Everything is held in memory; `bonsai.builder.importing.check_rows` is for millions of rows.

    Raises:
        ValueError: if the threshold isn't between 0.3 (below, bands miss too much) and 1.
    """
    if not 0.3 <= threshold <= 1:
        raise ValueError(f"the threshold is {threshold}; give a similarity from 0.3 to 1, for example {THRESHOLD}")
    parts = [folded(normalised(texts[start : start + _BATCH])) for start in range(0, len(texts), _BATCH)]
    if not parts:
        return []
    lengths = np.concatenate([part.lengths() for part in parts])
    whole = Texts(np.concatenate([part.codes for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))
    indexed = [index(part, ROWS_IN_BAND) for part in parts]
    entries = Indexed(
        np.concatenate([part.which + _BATCH * number for number, part in enumerate(indexed)]),
        np.concatenate([part.sketches for part in indexed]),
        np.concatenate([part.bands for part in indexed]),
    )
    met = distinct(np.concatenate([meeting(entries.bands[:, band], _REACH) for band in range(BINS // ROWS_IN_BAND)]))
    pairs = distinct(entries.which[likely(met, entries.sketches, threshold)])
    return [
        NearPair(int(first), int(second), float(similarity))
        for (first, second), similarity in zip(pairs, jaccard(whole, pairs), strict=True)
        if similarity >= threshold
    ]
