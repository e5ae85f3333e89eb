"""Rotary position embedding (https://arxiv.org/abs/2104.09864): three kernels instead of six, and as many backward."""

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
        half = x.shape[-1] // 2
        out = x * cos
        out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), (cos, sin) = grads, ctx.saved_tensors
        half = grad.shape[-1] // 2
        out = grad * cos
        out[..., :half].addcmul_(grad[..., half:], sin[..., half:])
        out[..., half:].addcmul_(grad[..., :half], sin[..., :half], value=-1)
        return out, None, None


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """As transformers' ``apply_rotary_pos_emb``; where cos is narrower than a head, the rest passes as it is."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _turned(q, cos, sin), _turned(k, cos, sin)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    width = cos.shape[-1]
    if width == x.shape[-1]:
        return _Rotary.apply(x, cos, sin)  # type: ignore[no-any-return]
    return torch.cat((_Rotary.apply(x[..., :width], cos, sin), x[..., width:]), dim=-1)


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
