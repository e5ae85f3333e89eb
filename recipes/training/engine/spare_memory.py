"""Weights kept dequantised in the memory that training leaves over.

Each matrix is dequantised twice in a step, which is a tenth of the step. While it trains, the GPU's memory beyond the
peak serves nobody else: it holds as many dequantised matrices as go in, and gives them back when something needs room.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bonsai.recipes.training.engine.nf4_weights import Nf4Weights

MARGIN = 2**29
"""bytes that stay free: fragments, and libraries' own workspaces"""


class SpareMemory:
    """The weights of a model's groups, some of them kept dequantised."""

    def __init__(self, weights: Sequence[Nf4Weights]) -> None:
        self.weights = list(weights)
        self._kept: list[Nf4Weights] = []

    @property
    def kept_bytes(self) -> int:
        """Of all that are kept."""
        return sum(one.bytes_dequantised for one in self._kept)

    def told(self) -> str:
        """In a few words, for the run's record."""
        return f"{len(self._kept)} of {len(self.weights)} weights kept dequantised, {self.kept_bytes / 2**30:.1f} GiB"

    def fill(self, room: int) -> bool:
        """Keep what goes into ``room`` bytes, the model's first layers first; whether anything did."""
        for one in self.weights:
            if one.bytes_dequantised <= room:
                one.keep()
                self._kept.append(one)
                room -= one.bytes_dequantised
        return bool(self._kept)

    def let_go(self) -> None:
        """Give all of it back."""
        while self._kept:
            self._kept.pop().let_go()


def room_on_gpu(in_use: int, needed_later: int) -> int:
    """Bytes of the current GPU that stay free.

    Args:
        in_use: what this process takes at its peak so far.
        needed_later: what it will take besides, and has not yet.
    """
    free, total = torch.cuda.mem_get_info()
    allowed = min(free + torch.cuda.memory_reserved(), int(torch.cuda.get_per_process_memory_fraction() * total))
    return allowed - in_use - needed_later - MARGIN
