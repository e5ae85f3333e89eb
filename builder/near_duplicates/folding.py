"""Texts as arrays of code points: NFKC, and a folding under which punctuation, spaces and case don't count.

Many texts are folded at once, through tables, because a million rows leave some ten microseconds a row. A character
whose NFKC depends on its neighbours or has several characters sends its whole text through ``unicodedata`` instead, so
the result is NFKC exactly.
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


class Texts(NamedTuple):
    """N texts laid end to end: ``codes[starts[i]:starts[i + 1]]`` is text i; ``starts`` has N + 1 entries."""

    codes: Codes
    starts: Places

    def lengths(self) -> Places:
        """Characters of each text, shape (N,)."""
        return np.diff(self.starts)

    def take(self, which: Places) -> Texts:
        """The texts at these numbers, in this order, laid end to end anew."""
        lengths = self.lengths()[which]
        starts = _starts(lengths)
        places = np.arange(starts[-1]) + np.repeat(self.starts[which] - starts[:-1], lengths)
        return Texts(self.codes[places], starts)


def normalised(texts: Sequence[str]) -> Texts:
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
    return Texts(mapped, starts)


def folded(texts: Texts) -> Texts:
    """Letters, digits and symbols of NFKC texts in lower case; punctuation, spaces and controls are gone."""
    codes = np.take(_fold_table(), texts.codes, mode="clip")
    kept = codes != _DROPPED
    before = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(kept, out=before[1:])
    return Texts(codes[kept], before[texts.starts])


def _laid_out(texts: Sequence[str]) -> Texts:
    starts = _starts(np.fromiter(map(len, texts), np.int64, len(texts)))
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    return Texts(np.frombuffer(joined, np.dtype("<u4")).astype(np.uint32, copy=False), starts)


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
