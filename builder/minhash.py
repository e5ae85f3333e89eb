"""Find near duplicates in Japanese, English and Chinese texts with MinHash and banded LSH.

The method is MinHash (Broder, "On the resemblance and containment of documents", 1997) with banding (Leskovec,
Rajaraman & Ullman, "Mining of Massive Datasets", chapter 3). Signatures come from one permutation hashing (Li, Owen &
Zhang, 2012) with optimal densification (Shrivastava, 2017), so a shingle costs one table access instead of 128
multiplications, and NumPy is fast enough without a compiler. The stages:

1. Fold: NFKC, lower case, without punctuation and spaces (`nfkc_batch`, `fold_for_dedup`).
2. Shingle: cut each text into runs of characters and hash them (`shingles`).
3. Sign: the smallest hash in each of 128 bins (`signatures`), and a hash of each band of bins (`band_hashes`).
4. Match: texts that share a band are candidates (`candidate_pairs`).
5. Verify: the exact Jaccard similarity of the shingles decides (`jaccard`). Without this step precision is lost.

Texts are processed in batches, laid end to end in one array, because a million rows leave some ten microseconds a row.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

THRESHOLD = 0.55
"""Similarity of character shingles from which two texts count as near duplicates."""
ROWS_IN_BAND = 3
"""42 bands of 3: a pair at 0.55 meets with a chance of 99.9%; right for records by the thousand."""
_REACH = 64
_BATCH = 512

SIZES = (1, 2, 3, 5)
"""Run lengths. Five characters tell texts apart in all three languages; in a text of a dozen characters one edit would
spoil most runs of five, so shorter texts are cut into shorter runs."""
_SHORTEST = (1, 2, 12, 32)
"""From how many folded characters on a text is cut into runs of the size above."""
_LENGTH_RATIO = 0.5
"""Two texts of which one is shorter than this share of the other are not worth a second cut."""

BINS = 128
_BIN_BITS = 7
_EMPTY = np.uint32(0xFFFFFFFF)
_ATTEMPTS = 512
"""How often an empty bin looks for another one to borrow from. A bin of a text of one shingle is still empty after that
with a chance of 2%; this costs a band, and is the same in the same text."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)

ESTIMATE_MARGIN = 0.2
"""How far the estimate from 128 bins may be below the threshold: four standard errors, more in short texts."""
_BLOCK = 65_536
_PAIR_BITS = 11
_HASH_BITS = 64 - _PAIR_BITS - 1
"""52 bits of each hash are compared: two texts of 1,000 shingles meet by chance once in 10⁹ pairs."""

_TABLE_END = 0x30000
"""Nothing at or above this code point changes under NFKC (planes 3 to 16; Unicode 16)."""
_DROPPED = 0
_NEEDS_CONTEXT = 0xFFFFFFFF

Codes = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]
Sketches = npt.NDArray[np.uint8]
Pairs = npt.NDArray[np.int64]
"""Shape (P, 2): two numbers, the lower first."""


class CodepointTexts(NamedTuple):
    """N texts laid end to end: ``codes[starts[i]:starts[i + 1]]`` is text i; ``starts`` has N + 1 entries."""

    codes: Codes
    starts: Indices

    def lengths(self) -> Indices:
        """Count the characters of each text, shape (N,)."""
        return np.diff(self.starts)

    def take(self, which: Indices) -> CodepointTexts:
        """Return the texts with these numbers, in this order."""
        lengths = self.lengths()[which]
        starts = _starts(lengths)
        indices = np.arange(starts[-1]) + np.repeat(self.starts[which] - starts[:-1], lengths)
        return CodepointTexts(self.codes[indices], starts)

    @classmethod
    def concatenate(cls, parts: Sequence[CodepointTexts]) -> CodepointTexts:
        """Join batches of texts into one."""
        codes = np.concatenate([np.zeros(0, np.uint32), *(part.codes for part in parts)])
        return cls(codes, _starts(np.concatenate([np.zeros(0, np.int64), *(part.lengths() for part in parts)])))


class Shingles(NamedTuple):
    """Hashes of all runs, shape (S,), and the number of the text each came from, shape (S,), ascending."""

    hashes: Hashes
    owners: Indices


class MinHashIndex(NamedTuple):
    """E entries of a search: one for each text, or two where two run lengths are tried."""

    which: Indices
    """Number of the text, shape (E,)."""
    sketches: Sketches
    """The low byte of each minimum, shape (E, BINS): the share of equal bytes estimates the Jaccard similarity."""
    bands: Hashes
    """One hash for each band, shape (E, number of bands)."""


class NearPair(NamedTuple):
    """Two texts by their index in the sequence, ``first`` < ``second``, and their similarity (0 to 1)."""

    first: int
    second: int
    jaccard: float


def find_near_duplicates(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[NearPair]:
    """Find the pairs whose character 5-gram shingles (shorter for short texts) overlap by ``threshold`` or more.

    Punctuation, spaces, case and full-width forms don't count, so texts that differ only there have similarity 1.
    Everything is held in memory; `bonsai.builder.importing.check_rows` is for millions of rows.

    Raises:
        ValueError: if the threshold isn't between 0.3 (below, bands miss too much) and 1.
    """
    if not 0.3 <= threshold <= 1:
        raise ValueError(f"the threshold is {threshold}; give a similarity from 0.3 to 1, for example {THRESHOLD}")
    batches = [fold_for_dedup(nfkc_batch(texts[start : start + _BATCH])) for start in range(0, len(texts), _BATCH)]
    if not batches:
        return []
    indexes = [build_index(batch, ROWS_IN_BAND) for batch in batches]
    which = np.concatenate([index.which + _BATCH * number for number, index in enumerate(indexes)])
    sketches = np.concatenate([index.sketches for index in indexes])
    bands = np.concatenate([index.bands for index in indexes])
    candidates = unique_pairs(np.concatenate([candidate_pairs(band, _REACH) for band in bands.T]))
    pairs = unique_pairs(which[filter_by_sketch(candidates, sketches, threshold)])
    return [
        NearPair(int(first), int(second), float(similarity))
        for (first, second), similarity in zip(pairs, jaccard(CodepointTexts.concatenate(batches), pairs), strict=True)
        if similarity >= threshold
    ]


def nfkc_batch(texts: Sequence[str]) -> CodepointTexts:
    """Normalize each text to NFKC.

    Characters are mapped through a table. A text with a character whose NFKC depends on its neighbours, or is several
    characters, goes through `unicodedata.normalize` instead, so the result is exact.
    """
    codes, starts = _lay_out(texts)
    mapped = np.take(_nfkc_table(), codes, mode="clip")
    hard = np.flatnonzero(mapped == _NEEDS_CONTEXT)
    if len(hard):
        rewritten = list(texts)
        for i in np.unique(np.searchsorted(starts, hard, side="right") - 1).tolist():
            rewritten[i] = unicodedata.normalize("NFKC", texts[i])
        # What still has no entry is normal already, and stays.
        codes, starts = _lay_out(rewritten)
        mapped = np.take(_nfkc_table(), codes, mode="clip")
        mapped = np.where(mapped == _NEEDS_CONTEXT, codes, mapped)
    return CodepointTexts(mapped, starts)


def fold_for_dedup(texts: CodepointTexts) -> CodepointTexts:
    """Keep letters, digits and symbols of NFKC texts, in lower case; drop punctuation, spaces and controls."""
    codes = np.take(_fold_table(), texts.codes, mode="clip")
    kept = codes != _DROPPED
    before = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(kept, out=before[1:])
    return CodepointTexts(codes[kept], before[texts.starts])


def _lay_out(texts: Sequence[str]) -> CodepointTexts:
    starts = _starts(np.fromiter(map(len, texts), np.int64, len(texts)))
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    return CodepointTexts(np.frombuffer(joined, np.dtype("<u4")).astype(np.uint32, copy=False), starts)


def _starts(lengths: Indices) -> Indices:
    """Return where each text starts and where the last one ends, shape (N + 1,)."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


@functools.cache
def _nfkc_table() -> Codes:
    """Map each code point to its NFKC, or to `_NEEDS_CONTEXT`."""
    # What may melt into the character before it: Hangul vowels and finals, and the second of a canonical decomposition.
    joining = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in range(_TABLE_END):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            joining.add(chr(int(parts[1], 16)))
    table = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    for code in range(_TABLE_END):
        normal = unicodedata.normalize("NFKC", chr(code))
        alone = len(normal) == 1 and normal not in joining and not unicodedata.combining(normal)
        table[code] = ord(normal) if alone else _NEEDS_CONTEXT
    return table


@functools.cache
def _fold_table() -> Codes:
    """Map each code point to its lower case, or to `_DROPPED`."""
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


def size_for(lengths: Indices) -> Indices:
    """Return the run length for texts of so many folded characters; 0 for an empty text."""
    return np.asarray((0, *SIZES))[np.searchsorted(_SHORTEST, lengths, side="right")]


def sizes_to_index(lengths: Indices) -> tuple[Indices, Indices]:
    """Return the number of the text and the run length of each entry of a search, ordered by text.

    A text a little longer than one of the limits gets a second entry, because its near duplicate may be shorter.
    """
    own = size_for(lengths)
    smaller = size_for((lengths * _LENGTH_RATIO).astype(np.int64))
    smaller[(smaller == own) | (smaller == 0)] = 0
    numbers = np.arange(len(lengths))
    which = np.concatenate([numbers[own > 0], numbers[smaller > 0]])
    sizes = np.concatenate([own[own > 0], smaller[smaller > 0]])
    order = np.argsort(which, kind="stable")
    return which[order], sizes[order]


def shingles(texts: CodepointTexts, size: int) -> Shingles:
    """Hash all runs of ``size`` characters; no run reaches into the next text."""
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
    # Mix the bits as a finalizer does: the high ones choose the bin, and all of them have to depend on every character.
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(29)
    hashes *= _FACTOR
    hashes ^= hashes >> np.uint64(32)
    ends = np.cumsum(counts)
    indices = np.arange(len(owners)) + np.repeat(texts.starts[:-1] - (ends - counts), counts)
    return Shingles(hashes[indices], owners)


def build_index(texts: CodepointTexts, rows_in_band: int) -> MinHashIndex:
    """Compute the sketches and bands of folded texts."""
    which, sizes = sizes_to_index(texts.lengths())
    minima = np.empty((len(which), BINS), np.uint32)
    for size in SIZES:
        entries = np.flatnonzero(sizes == size)
        if len(entries):
            chosen = texts if len(entries) == len(texts.starts) - 1 else texts.take(which[entries])
            minima[entries] = signatures(chosen, size)
    return MinHashIndex(which, minima.astype(np.uint8), band_hashes(minima, sizes, rows_in_band))


def signatures(texts: CodepointTexts, size: int) -> Signatures:
    """Compute the minimum of each bin, shape (texts, BINS); every text has ``size`` characters or more."""
    hashes, owners = shingles(texts, size)
    count = len(texts.starts) - 1
    minima = np.full(count * BINS, _EMPTY, np.uint32)
    bins = (hashes >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
    bins += owners * BINS
    np.minimum.at(minima, bins, hashes.astype(np.uint32))

    # Densify: fill each empty bin from another bin of the same text, in every text from the same one if that is filled.
    empty = np.flatnonzero(minima == _EMPTY)
    filled = minima.copy()
    for attempt in range(_ATTEMPTS):
        if not len(empty):
            break
        source = _borrowed_bins()[attempt, empty & (BINS - 1)]
        values = minima[(empty & ~(BINS - 1)) | source]
        filled[empty] = values
        empty = empty[values == _EMPTY]
    return filled.reshape(count, BINS)


@functools.cache
def _borrowed_bins() -> Indices:
    """Choose by hash where each empty bin looks at its n-th attempt, shape (_ATTEMPTS, BINS)."""
    steps = np.arange(_ATTEMPTS * BINS, dtype=np.uint64) + np.uint64(1)
    steps *= _FACTOR
    steps ^= steps >> np.uint64(31)
    steps *= _MIX
    return (steps >> np.uint64(64 - _BIN_BITS)).astype(np.int64).reshape(_ATTEMPTS, BINS)


def band_hashes(minima: Signatures, sizes: Indices, rows_in_band: int) -> Hashes:
    """Hash each run of ``rows_in_band`` minima to 64 bits, shape (E, BINS // rows_in_band)."""
    bands = BINS // rows_in_band
    parts = minima[:, : bands * rows_in_band].reshape(len(minima), bands, rows_in_band)
    hashes = np.repeat(sizes.astype(np.uint64)[:, None], bands, axis=1)
    for row in range(rows_in_band):
        hashes *= _FACTOR
        hashes += parts[:, :, row]
        hashes ^= hashes >> np.uint64(29)
    hashes *= _MIX
    return hashes


def candidate_pairs(band: Hashes, reach: int) -> Pairs:
    """Pair entries with the same hash in this band: each with the first of its bucket and the ``reach`` before it.

    So a bucket of thousands (a form letter) costs thousands of pairs, not millions; that its members are near
    duplicates of the first is all that has to be found.
    """
    # Hash and number are sorted as one integer. The hash gives up its low bits for the number.
    low = np.uint64(max(len(band) - 1, 1).bit_length())
    packed = np.sort(((band >> low) << low) | np.arange(len(band), dtype=np.uint64))
    buckets = packed >> low
    entries = (packed & ((np.uint64(1) << low) - np.uint64(1))).astype(np.int64)
    first = first_of_run(buckets)
    found = [np.column_stack([entries[first], entries])[first != np.arange(len(band))]]
    for distance in range(1, reach + 1):
        same = buckets[distance:] == buckets[:-distance]
        if not same.any():
            break
        found.append(np.column_stack([entries[:-distance][same], entries[distance:][same]]))
    return unique_pairs(np.concatenate(found))


def first_of_run(numbers: npt.NDArray[Any]) -> Indices:
    """Return for each element of a sorted array the index of the first one that equals it."""
    indices = np.arange(len(numbers))
    opens = np.ones(len(numbers), bool)
    opens[1:] = numbers[1:] != numbers[:-1]
    first: Indices = np.maximum.accumulate(np.where(opens, indices, 0))
    return first


def unique_pairs(pairs: Pairs) -> Pairs:
    """Return each pair once, in ascending order."""
    packed = sorted_unique((pairs[:, 0].astype(np.uint64) << np.uint64(32)) | pairs[:, 1].astype(np.uint64))
    return np.column_stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)]).astype(np.int64)


def sorted_unique(numbers: Hashes) -> Hashes:
    """Sort in place and return each number once; `np.unique` hashes 64-bit numbers, which is ten times as slow."""
    numbers.sort()
    changes = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=changes[1:])
    return numbers[changes]


def filter_by_sketch(pairs: Pairs, sketches: Sketches, threshold: float) -> Pairs:
    """Keep the pairs whose sketches agree in enough bins for a similarity of ``threshold`` to be possible."""
    kept: Pairs = pairs[agreement(pairs, sketches) >= (threshold - ESTIMATE_MARGIN) * sketches.shape[1]]
    return kept


def agreement(pairs: Pairs, sketches: Sketches) -> Indices:
    """Count the bins in which the sketches of each pair agree, shape (P,)."""
    found = np.zeros(len(pairs), np.int64)
    for start in range(0, len(pairs), _BLOCK):
        first, second = pairs[start : start + _BLOCK].T
        found[start : start + _BLOCK] = (sketches[first] == sketches[second]).sum(axis=1)
    return found


def closest(pairs: Pairs, sketches: Sketches, threshold: float, most: int) -> Pairs:
    """Keep for each second entry the ``most`` likely pairs with the best agreement; ties go to the earlier first."""
    agreeing = agreement(pairs, sketches)
    likely = agreeing >= (threshold - ESTIMATE_MARGIN) * sketches.shape[1]
    pairs, agreeing = pairs[likely], agreeing[likely]
    pairs = pairs[np.lexsort((pairs[:, 0], -agreeing, pairs[:, 1]))]
    rank = np.arange(len(pairs)) - first_of_run(pairs[:, 1])
    best: Pairs = pairs[rank < most]
    return best


def jaccard(texts: CodepointTexts, pairs: Pairs) -> npt.NDArray[np.float64]:
    """Compute the similarity of each pair of folded texts, shape (P,): shared shingles over all shingles of the two.

    Both texts are cut into runs of the length that fits the shorter one; two empty texts have similarity 0.
    """
    sizes = size_for(texts.lengths()[pairs].min(axis=1))
    found = np.zeros(len(pairs))
    for size in SIZES:
        chosen = np.flatnonzero(sizes == size)
        for start in range(0, len(chosen), 1 << _PAIR_BITS):
            block = chosen[start : start + (1 << _PAIR_BITS)]
            # Texts 2i and 2i + 1 are the sides of pair i. A key holds pair, hash and side, from the highest bit to the
            # lowest, so in sorted keys a shared shingle is two neighbours that differ in the last bit.
            hashes, owners = shingles(texts.take(pairs[block].ravel()), size)
            sides = owners.astype(np.uint64)
            keys = (hashes >> np.uint64(_PAIR_BITS + 1)) << np.uint64(1)
            keys |= (sides >> np.uint64(1)) << np.uint64(_HASH_BITS + 1)
            keys |= sides & np.uint64(1)
            keys = sorted_unique(keys)
            pair_of = (keys >> np.uint64(_HASH_BITS + 1)).astype(np.int64)
            shared = (keys[1:] ^ keys[:-1]) == 1
            both = np.bincount(pair_of[1:][shared], minlength=len(block))
            either: npt.NDArray[np.int64] = np.bincount(pair_of, minlength=len(block)) - both
            found[block] = np.true_divide(both, np.maximum(either, 1), dtype=np.float64)
    return found
