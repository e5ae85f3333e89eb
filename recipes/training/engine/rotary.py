"""Rotary position embedding (https://arxiv.org/abs/2104.09864): three kernels instead of six, and as many backward.

Where only the first part of each head turns (Phi), one more copies the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_NAME = "apply_rotary_pos_emb"


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    """``x`` (..., head size) with its first ``cos.shape[-1]`` numbers turned, forth (1) or back (-1)."""
    width = cos.shape[-1]
    half = width // 2
    out = torch.empty_like(x)
    torch.mul(x[..., :width], cos, out=out[..., :width])
    out[..., :half].addcmul_(x[..., half:width], sin[..., :half], value=-direction)
    out[..., half:width].addcmul_(x[..., :half], sin[..., half:], value=direction)
    if width < x.shape[-1]:
        out[..., width:].copy_(x[..., width:])
    return out


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """As transformers' ``apply_rotary_pos_emb``; where cos is narrower than a head, the rest passes as it is."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotary.apply(q, cos, sin), _Rotary.apply(k, cos, sin)


def patch_rotary(model: nn.Module) -> Callable[[], None]:
    """Replace the function in the modelling file of every attention below ``model``; returns what takes it out again.

    The function belongs to the file, so other models of the same architecture in this process get it too.
    """
    files = {
        type(module).__module__
        for module in model.modules()
        if type(module).__name__.endswith("Attention") and hasattr(sys.modules[type(module).__module__], _NAME)
    }
    stock = {file: getattr(sys.modules[file], _NAME) for file in files}
    for file in files:
        setattr(sys.modules[file], _NAME, apply_rotary)

    def undo() -> None:
        for file, function in stock.items():
            setattr(sys.modules[file], _NAME, function)

    return undo
