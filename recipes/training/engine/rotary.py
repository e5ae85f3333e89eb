"""Rotary position embedding (https://arxiv.org/abs/2104.09864): three kernels instead of six, and as many backward.

Where only the first part of each head turns (Phi), one more copies the rest. Llama's kind turns a number with the one
half a head away, GLM's and Cohere's with its neighbour; which a modeling file means is learnt from a call it makes
itself: the kind that gives what its own function gives is put in, and a file for which none does keeps its own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_NAME = "apply_rotary_pos_emb"
_TOLERANCE = {torch.float16: 4e-3, torch.float32: 1e-6}

Rotary = Callable[..., tuple[Tensor, Tensor]]


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, neighbours: bool) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.neighbours = neighbours
        return _turned(x, cos, sin, 1, neighbours)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1, ctx.neighbours), None, None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int, neighbours: bool) -> Tensor:
    """``x`` (..., head size) with its first ``cos.shape[-1]`` numbers turned, forth (1) or back (-1)."""
    width = cos.shape[-1]
    out = torch.empty_like(x)
    torch.mul(x[..., :width], cos, out=out[..., :width])
    first, second = _pairs(width, neighbours)
    out[..., first].addcmul_(x[..., second], sin[..., first], value=-direction)
    out[..., second].addcmul_(x[..., first], sin[..., second], value=direction)
    if width < x.shape[-1]:
        out[..., width:].copy_(x[..., width:])
    return out


def _pairs(width: int, neighbours: bool) -> tuple[slice, slice]:
    if neighbours:
        return slice(0, width, 2), slice(1, width, 2)
    return slice(0, width // 2), slice(width // 2, width)


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """As transformers' ``apply_rotary_pos_emb``; where cos is narrower than a head, the rest passes as it is."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotary.apply(q, cos, sin, False), _Rotary.apply(k, cos, sin, False)


def apply_to_neighbours(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Numbers turned with their neighbours, cos and sin given for each number (Cohere)."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotary.apply(q, cos, sin, True), _Rotary.apply(k, cos, sin, True)


def apply_to_neighbours_by_half(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Numbers turned with their neighbours, cos and sin given for each pair, twice over (GLM)."""
    half = cos.shape[-1] // 2
    cos, sin = (part[..., :half].repeat_interleave(2, dim=-1) for part in (cos, sin))
    return apply_to_neighbours(q, k, cos, sin, unsqueeze_dim)


KINDS: tuple[Rotary, ...] = (apply_rotary, apply_to_neighbours, apply_to_neighbours_by_half)


def patch_rotary(model: nn.Module, run: Callable[[], Any], known: dict[str, Rotary | None]) -> Callable[[], None]:
    """Replace the function in the modeling file of every attention below ``model``; returns what takes it out again.

    Args:
        run: a forward pass of the model, in which each file shows what it calls its function with.
        known: file to kind, as learnt before; filled where it is not.

    The function belongs to the file, so other models of the same architecture in this process get it too.
    """
    files = {
        type(module).__module__
        for module in model.modules()
        if type(module).__name__.endswith("Attention") and hasattr(sys.modules[type(module).__module__], _NAME)
    }
    stock = {file: getattr(sys.modules[file], _NAME) for file in files}
    seen: dict[str, dict[str, Any]] = {}

    def undo() -> None:
        for file, function in stock.items():
            setattr(sys.modules[file], _NAME, function)

    if files - known.keys():
        try:
            for file, function in stock.items():
                setattr(sys.modules[file], _NAME, _watching(function, file, seen))
            run()
        finally:
            undo()
        for file in files:
            kinds = (kind for kind in KINDS if file in seen and _same(stock[file], kind, seen[file]))
            known[file] = next(kinds, None)
    for file in files:
        kind = known[file]
        if kind is not None:
            setattr(sys.modules[file], _NAME, _replacing(stock[file], kind))
    return undo


def _watching(stock: Callable[..., Any], file: str, seen: dict[str, dict[str, Any]]) -> Callable[..., Any]:
    signature = inspect.signature(stock)

    def watched(*args: Any, **kwargs: Any) -> Any:
        if file not in seen:
            seen[file] = dict(signature.bind(*args, **kwargs).arguments)
        return stock(*args, **kwargs)

    return watched


def _replacing(stock: Callable[..., Any], kind: Rotary) -> Callable[..., Any]:
    def replaced(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs.keys() - {"unsqueeze_dim"}:  # more than it was seen with
            return stock(q, k, cos, sin, *args, **kwargs)
        return kind(q, k, cos, sin, **kwargs)

    return replaced


def _same(stock: Callable[..., Any], kind: Rotary, call: dict[str, Any]) -> bool:
    """On random heads with the call's own cos and sin, each position's apart from the next one's."""
    given = dict(call)
    if not {"q", "k", "cos", "sin"} <= given.keys() or given.keys() - {"q", "k", "cos", "sin", "unsqueeze_dim"}:
        return False
    if not all(isinstance(given[name], Tensor) for name in ("q", "k", "cos", "sin")):
        return False
    generator = torch.Generator(given["q"].device).manual_seed(0)
    for name in ("q", "k"):
        like = given[name]
        drawn = torch.randn(like.shape, generator=generator, device=like.device)
        given[name] = drawn.to(like.dtype)
    tolerance = _TOLERANCE.get(given["q"].dtype, 0.0)
    try:
        with torch.no_grad():
            ours, theirs = kind(**given), stock(**given)
    except Exception:  # noqa: BLE001 - of another shape than the kind knows
        return False
    return all(
        one.shape == other.shape and bool((one.float() - other.float()).norm() <= tolerance * other.float().norm())
        for one, other in zip(ours, theirs, strict=True)
    )
