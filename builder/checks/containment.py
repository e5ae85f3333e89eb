"""How much of some short texts stands in a long one, by character n-grams; many short texts at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bonsai.builder.checks.rewording import folded

GRAM = 5
"""Characters of an n-gram; fewer where the short text is short, at least 2."""


class Containment:
    """Knows a list of texts and tells, for any other text, which share of each one's n-grams it has."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._index: dict[int, dict[str, list[int]]] = {}
        self._totals: list[int] = []
        for number, part in enumerate(parts):
            letters = folded(part)
            size = min(GRAM, max(2, len(letters) // 3))
            grams = _grams(letters, size)
            self._totals.append(len(grams))
            for gram in grams:
                self._index.setdefault(size, {}).setdefault(gram, []).append(number)

    def shares(self, whole: str) -> dict[int, float]:
        """Share of the n-grams (0 to 1) by the place of each text that has any in ``whole``."""
        letters = folded(whole)
        found: Counter[int] = Counter()
        for size, known in self._index.items():
            for gram in _grams(letters, size) & known.keys():
                found.update(known[gram])
        return {number: count / self._totals[number] for number, count in found.items()}


def _grams(letters: str, size: int) -> set[str]:
    return {letters[start : start + size] for start in range(len(letters) - size + 1)}
