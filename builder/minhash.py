"""Find near duplicates in Japanese, English and Chinese texts with MinHash.

Many texts are folded at once, through tables, because a million rows leave some ten microseconds a row. A character
whose NFKC depends on its neighbours or has several characters sends its whole text through ``unicodedata`` instead, so
the result is NFKC exactly.

Five characters tell texts apart in Japanese, English and Chinese alike; in a text of a dozen characters one edit would
spoil most runs of five, so shorter texts are cut into shorter runs. A text a little above such a limit is cut both
ways, since its near duplicate may lie below.

One permutation hashing (Li, Owen & Zhang 2012): each hash falls into one of 128 bins and the smallest of a bin counts.
Empty bins, many in a short text, borrow from a bin chosen by hash (optimal densification, Shrivastava 2017). So a
shingle costs one table access instead of 128 multiplications, and NumPy is fast enough without a compiler.

MinHash finds candidates (Broder 1997; bands after Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", ch. 3)
and the exact Jaccard similarity of the shingles decides: without that step precision is lost.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]

_TABLE_END = 0x30000
"""Nothing at or above this code point changes under NFKC (planes 3 to 16; Unicode 16)."""
_DROPPED = 0
_ALONE_IMPOSSIBLE = 0xFFFFFFFF


class CodepointTexts(NamedTuple):
    """N texts laid end to end: ``codes[starts[i]:starts[i + 1]]`` is text i; ``starts`` has N + 1 entries."""

    codes: Codes
    starts: Places

    def lengths(self) -> Places:
        """Characters of each text, shape (N,)."""
        return np.diff(self.starts)

    def take(self, which: Places) -> CodepointTexts:
        """The texts at these numbers, in this order, laid end to end anew."""
        lengths = self.lengths()[which]
        starts = _starts(lengths)
        places = np.arange(starts[-1]) + np.repeat(self.starts[which] - starts[:-1], lengths)
        return CodepointTexts(self.codes[places], starts)


def nfkc_batch(texts: Sequence[str]) -> CodepointTexts:
    """Each text in NFKC."""
    codes, starts = _laid_out(texts)
    mapped = np.take(_nfkc_table(), codes, mode="clip")
    hard = np.flatnonzero(mapped == _ALONE_IMPOSSIBLE)
    if len(hard):
        rewritten = list(texts)
        for i in np.unique(np.searchsorted(starts, hard, side="right") - 1).tolist():
            rewritten[i] = unicodedata.normalize("NFKC", texts[i])
        # Already normal, so the table, which would send them round again, is left out for them.
        codes, starts = _laid_out(rewritten)
        mapped = np.take(_nfkc_table(), codes, mode="clip")
        mapped = np.where(mapped == _ALONE_IMPOSSIBLE, codes, mapped)
    return CodepointTexts(mapped, starts)


def fold_for_dedup(texts: CodepointTexts) -> CodepointTexts:
    """Letters, digits and symbols of NFKC texts in lower case; punctuation, spaces and controls are gone."""
    codes = np.take(_fold_table(), texts.codes, mode="clip")
    kept = codes != _DROPPED
    before = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(kept, out=before[1:])
    return CodepointTexts(codes[kept], before[texts.starts])


def _laid_out(texts: Sequence[str]) -> CodepointTexts:
    starts = _starts(np.fromiter(map(len, texts), np.int64, len(texts)))
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    return CodepointTexts(np.frombuffer(joined, np.dtype("<u4")).astype(np.uint32, copy=False), starts)


def _starts(lengths: Places) -> Places:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


@functools.cache
def _nfkc_table() -> Codes:
    """Code point to its NFKC, or the mark for "not by itself"."""
    table = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    joining = _second_halves()
    for code in range(_TABLE_END):
        normal = unicodedata.normalize("NFKC", chr(code))
        if len(normal) != 1 or normal in joining or unicodedata.combining(normal):
            table[code] = _ALONE_IMPOSSIBLE
        else:
            table[code] = ord(normal)
    return table


def _second_halves() -> frozenset[str]:
    """What may melt into the character before it: second in a canonical decomposition, Hangul vowels and finals."""
    found = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in range(_TABLE_END):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


@functools.cache
def _fold_table() -> Codes:
    table = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    table[_TABLE_END:] = _DROPPED  # unassigned or private, but for these
    for code in (*range(_TABLE_END), *range(0x30000, 0x34000), *range(0xE0000, 0xE0200)):
        character = chr(code)
        if unicodedata.category(character)[0] in "PZC":
            table[code] = _DROPPED
        else:
            lower = character.lower()
            table[code] = ord(lower) if len(lower) == 1 else code
    return table


Hashes = npt.NDArray[np.uint64]

SIZES = (1, 2, 3, 5)
_SHORTEST = (1, 2, 12, 32)
"""From how many folded characters on a text is cut into runs of the size above."""
_LENGTH_RATIO = 0.5
"""Two texts of which one is shorter than this share of the other are never near duplicates worth a second cut."""
_SHINGLE_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHINGLE_MIX = np.uint64(0xD6E8FEB86659FD93)


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


def shingles(texts: CodepointTexts, size: int) -> Shingles:
    """All runs of ``size`` characters; a run never reaches into the next text."""
    counts = np.maximum(texts.lengths() - size + 1, 0)
    owners = np.repeat(np.arange(len(counts)), counts)
    if not len(owners):
        return Shingles(np.zeros(0, np.uint64), owners)
    windows = len(texts.codes) - size + 1
    codes = texts.codes.astype(np.uint64)
    hashes = codes[:windows] + np.uint64(size)
    for offset in range(1, size):
        hashes *= _SHINGLE_FACTOR
        hashes += codes[offset : offset + windows]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _SHINGLE_MIX
    hashes ^= hashes >> np.uint64(29)
    hashes *= _SHINGLE_FACTOR
    hashes ^= hashes >> np.uint64(32)
    ends = np.cumsum(counts)
    places = np.arange(len(owners)) + np.repeat(texts.starts[:-1] - (ends - counts), counts)
    return Shingles(hashes[places], owners)


BINS = 128
_BIN_BITS = 7
_EMPTY = np.uint32(0xFFFFFFFF)
_ATTEMPTS = 512
_SKETCH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SKETCH_MIX = np.uint64(0xD6E8FEB86659FD93)

Signatures = npt.NDArray[np.uint32]
Sketches = npt.NDArray[np.uint8]


def _choose_bins() -> npt.NDArray[np.int64]:
    steps = np.arange(_ATTEMPTS * BINS, dtype=np.uint64) + np.uint64(1)
    steps *= _SKETCH_FACTOR
    steps ^= steps >> np.uint64(31)
    steps *= _SKETCH_MIX
    return (steps >> np.uint64(64 - _BIN_BITS)).astype(np.int64).reshape(_ATTEMPTS, BINS)


_BORROWED = _choose_bins()
"""Shape (_ATTEMPTS, BINS): where an empty bin looks at its n-th attempt. After 512 a text of one shingle has a gap with
2% a bin; a gap costs a band, and is the same in the same text."""


class MinHashIndex(NamedTuple):
    """E entries of a search: a text has one, or two where two run lengths are tried."""

    which: Places
    """number of the text, shape (E,)"""
    sketches: Sketches
    """the low byte of each minimum, shape (E, BINS): equal bytes estimate the Jaccard similarity"""
    bands: Hashes
    """one hash a band, shape (E, number of bands)"""


def build_index(texts: CodepointTexts, rows_in_band: int) -> MinHashIndex:
    """Signature and bands of folded texts."""
    which, sizes = sizes_to_index(texts.lengths())
    minima = np.empty((len(which), BINS), np.uint32)
    for size in SIZES:
        entries = np.flatnonzero(sizes == size)
        if len(entries):
            chosen = texts if len(entries) == len(texts.starts) - 1 else texts.take(which[entries])
            minima[entries] = signatures(chosen, size)
    return MinHashIndex(which, minima.astype(np.uint8), band_hashes(minima, sizes, rows_in_band))


def signatures(texts: CodepointTexts, size: int) -> Signatures:
    """The minimum of each bin, shape (texts, BINS); every text has ``size`` characters or more."""
    hashes, owners = shingles(texts, size)
    count = len(texts.starts) - 1
    minima = np.full(count * BINS, _EMPTY, np.uint32)
    bins = (hashes >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
    bins += owners * BINS
    np.minimum.at(minima, bins, hashes.astype(np.uint32))
    return _densify(minima.reshape(count, BINS))


def _densify(minima: Signatures) -> Signatures:
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
        hashes *= _SKETCH_FACTOR
        hashes += parts[:, :, row]
        hashes ^= hashes >> np.uint64(29)
    hashes *= _SKETCH_MIX
    return hashes


Pairs = npt.NDArray[np.int64]
"""Shape (P, 2): two numbers, the lower first."""

ESTIMATE_MARGIN = 0.2
"""How far the estimate from 128 bins may lie below the threshold: four standard errors, more in short texts."""
_BLOCK = 65_536


def candidate_pairs(band: Hashes, reach: int) -> Pairs:
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
    return unique_pairs(np.concatenate(found))


def unique_pairs(pairs: Pairs) -> Pairs:
    """Each pair once, in ascending order."""
    packed = sorted_unique((pairs[:, 0].astype(np.uint64) << np.uint64(32)) | pairs[:, 1].astype(np.uint64))
    return np.column_stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)]).astype(np.int64)


def sorted_unique(numbers: Hashes) -> Hashes:
    """Each number once, ascending; sorted in place, because `np.unique` hashes 64-bit numbers ten times as slowly."""
    numbers.sort()
    changes = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=changes[1:])
    return numbers[changes]


def filter_by_sketch(pairs: Pairs, sketches: Sketches, threshold: float) -> Pairs:
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


_PAIR_BITS = 11
_HASH_BITS = 64 - _PAIR_BITS - 1
"""52 bits of each hash are compared: two texts of 1,000 shingles meet by chance once in 10⁹ pairs."""


def jaccard(texts: CodepointTexts, pairs: Pairs) -> npt.NDArray[np.float64]:
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


def _jaccard(sides: CodepointTexts, count: int, size: int) -> npt.NDArray[np.float64]:
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


def find_near_duplicates(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[NearPair]:
    """Pairs whose character 5-gram shingles (fewer for short texts) overlap by ``threshold`` or more.

    Punctuation, spaces, case and full-width forms don't count, so texts that differ only there have similarity 1.
    Everything is held in memory; `bonsai.builder.importing.check_rows` is for millions of rows.

    Raises:
        ValueError: if the threshold isn't between 0.3 (below, bands miss too much) and 1.
    """
    if not 0.3 <= threshold <= 1:
        raise ValueError(f"the threshold is {threshold}; give a similarity from 0.3 to 1, for example {THRESHOLD}")
    parts = [fold_for_dedup(nfkc_batch(texts[start : start + _BATCH])) for start in range(0, len(texts), _BATCH)]
    if not parts:
        return []
    lengths = np.concatenate([part.lengths() for part in parts])
    whole = CodepointTexts(np.concatenate([part.codes for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))
    indexed = [build_index(part, ROWS_IN_BAND) for part in parts]
    entries = MinHashIndex(
        np.concatenate([part.which + _BATCH * number for number, part in enumerate(indexed)]),
        np.concatenate([part.sketches for part in indexed]),
        np.concatenate([part.bands for part in indexed]),
    )
    met = unique_pairs(
        np.concatenate([candidate_pairs(entries.bands[:, band], _REACH) for band in range(BINS // ROWS_IN_BAND)])
    )
    pairs = unique_pairs(entries.which[filter_by_sketch(met, entries.sketches, threshold)])
    return [
        NearPair(int(first), int(second), float(similarity))
        for (first, second), similarity in zip(pairs, jaccard(whole, pairs), strict=True)
        if similarity >= threshold
    ]
