"""Several NF4 matrices with the same number of columns, dequantised by one kernel.

bitsandbytes keeps the scales of double quantisation in eight bits and needs two kernels to make them float32 before
each dequantisation. Here they are made once: 4 bytes for every 64 weights, 0.16 GB for Phi-2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bitsandbytes.functional
import torch
from torch import Tensor


class Nf4Weights:
    """The weights of some ``bitsandbytes.nn.Linear4bit``, packed one behind the other."""

    def __init__(self, linears: Sequence[Any], dtype: torch.dtype) -> None:
        states = [linear.weight.quant_state for linear in linears]
        self._rows = [int(state.shape[0]) for state in states]
        self._shape = [sum(self._rows), int(states[0].shape[1])]
        self._blocksize, self._kind, self._dtype = int(states[0].blocksize), str(states[0].quant_type), dtype
        self._scales = torch.cat([float32_scales(state) for state in states])
        self._kept: Tensor | None = None
        if len(linears) == 1:
            self._packed = linears[0].weight.data
            return
        self._packed = torch.cat([linear.weight.data.view(-1, 1) for linear in linears])
        start = 0
        for linear in linears:  # the layers' own weights become views: nothing lies in memory twice
            size = linear.weight.data.numel()
            linear.weight.data = self._packed[start : start + size].view(linear.weight.data.shape)
            start += size

    @property
    def bytes_dequantised(self) -> int:
        """What they take when they are kept."""
        return self._shape[0] * self._shape[1] * self._dtype.itemsize

    def keep(self) -> None:
        """Hold the matrices dequantised from now on."""
        self._kept = self._dequantised()

    def let_go(self) -> None:
        """Dequantise them at each call again."""
        self._kept = None

    def dequantised(self) -> tuple[Tensor, ...]:
        """One (out_features, in_features) matrix for each linear."""
        whole = self._dequantised() if self._kept is None else self._kept
        parts: tuple[Tensor, ...] = whole.split(self._rows)
        return parts

    def _dequantised(self) -> Tensor:
        whole: Tensor = torch.ops.bitsandbytes.dequantize_4bit.default(
            self._packed, self._scales, self._blocksize, self._kind, self._shape, self._dtype
        )
        return whole


def float32_scales(state: Any) -> Tensor:
    """The scale of each block of weights, as bitsandbytes itself makes it."""
    if not state.nested:
        return state.absmax.float()  # type: ignore[no-any-return]
    scales = bitsandbytes.functional.dequantize_blockwise(state.absmax, state.state2)
    return (scales + state.offset).float()  # type: ignore[no-any-return]
