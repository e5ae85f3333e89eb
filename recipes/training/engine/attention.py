"""Attention over packed rows whose cost grows with the records, not with the square of the row.

PyTorch's memory-efficient kernel takes the records' bounds and compiles for sm50 and up; SDPA does not pass bounds
on, so the aten operator is called directly. It is private: `works_here` tries it once, and where it fails
`block_masked` (SDPA with a mask, the twin it is tested against) takes its place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "bonsai_packed"
_CAUSAL_FROM_TOP_LEFT = 1
_SHORT = 1024
"""up to this length one split of the keys is enough to fill the GPU in the backward pass, and the fastest"""


class _Packed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float) -> Tensor:
        repeats = q.shape[2] // k.shape[2]
        out, logsumexp, seed, offset, _, _ = torch.ops.aten._efficient_attention_forward(
            q,
            _repeated(k, repeats),
            _repeated(v, repeats),
            None,
            bounds,
            bounds,
            longest,
            longest,
            0.0,
            _CAUSAL_FROM_TOP_LEFT,
            True,
            scale=scale,
        )
        ctx.longest, ctx.scale, ctx.repeats = longest, scale, repeats
        ctx.save_for_backward(q, k, v, bounds, out, logsumexp, seed, offset)
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, bounds, out, logsumexp, seed, offset = ctx.saved_tensors
        dq, dk, dv, _ = torch.ops.aten._efficient_attention_backward(
            grads[0],
            q,
            _repeated(k, ctx.repeats),
            _repeated(v, ctx.repeats),
            None,
            out,
            bounds,
            bounds,
            ctx.longest,
            ctx.longest,
            logsumexp,
            0.0,
            seed,
            offset,
            _CAUSAL_FROM_TOP_LEFT,
            False,
            scale=ctx.scale,
            num_splits_key=1 if ctx.longest <= _SHORT else None,
        )
        return dq, _summed(dk, ctx.repeats), _summed(dv, ctx.repeats), None, None, None


def _repeated(heads: Tensor, repeats: int) -> Tensor:
    """(1, tokens, kv heads, size) -> (1, tokens, heads, size): each key head serves ``repeats`` query heads."""
    return heads if repeats == 1 else heads.repeat_interleave(repeats, dim=2)


def _summed(grad: Tensor, repeats: int) -> Tensor:
    return grad if repeats == 1 else grad.unflatten(2, (-1, repeats)).sum(3)


def packed(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float) -> Tensor:
    """Causal attention within each record.

    Args:
        q: (1, tokens, heads, head size); k and v may have fewer heads (grouped queries).
        bounds: int32, the records' starts and the end of the last, on q's device.
        longest: tokens of the longest record.
    """
    return _Packed.apply(q, k, v, bounds, longest, scale)  # type: ignore[no-any-return]


def block_masked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The same through SDPA and a (tokens, tokens) mask.

    Args:
        softcap: scores s become softcap · tanh(s / softcap) (Gemma 2), which no kernel here knows.
    """
    tokens, repeats = q.shape[1], q.shape[2] // k.shape[2]
    place = torch.arange(tokens, device=q.device)
    record = torch.searchsorted(bounds[1:].to(place.dtype), place, right=True)
    allowed = (record[:, None] == record[None]) & (place[:, None] >= place[None])
    if window is not None:
        allowed &= place[:, None] - place[None] < window
    query, key, value = (h.transpose(1, 2) for h in (q, _repeated(k, repeats), _repeated(v, repeats)))
    if softcap is not None:
        return _soft_capped(query, key, value, allowed[None, None], scale, softcap).transpose(1, 2)
    out = scaled_dot_product_attention(query, key, value, attn_mask=allowed[None, None], scale=scale)
    return out.transpose(1, 2)


def _soft_capped(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float, softcap: float) -> Tensor:
    """(batch, heads, tokens, head size), as many key heads as query heads."""
    scores = softcap * torch.tanh((q @ k.transpose(-1, -2)).float() * scale / softcap)
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1).to(v.dtype) @ v


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it; query, key and value are (1, heads, tokens, head size), the result is transposed.

    Rows that are not packed go through transformers' own SDPA, with their mask.
    """
    if cu_seq_lens_q is None and softcap is not None:
        if attention_mask is None:
            attention_mask = query.new_ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()[None, None]
        repeats = query.shape[1] // key.shape[1]
        key, value = (_repeated(heads.transpose(1, 2), repeats).transpose(1, 2) for heads in (key, value))
        return _soft_capped(query, key, value, attention_mask, scaling, softcap).transpose(1, 2), None
    if cu_seq_lens_q is None:
        kwargs = {**kwargs, "sliding_window": sliding_window, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    q, k, v = (heads.transpose(1, 2) for heads in (query, key, value))
    window = sliding_window if sliding_window is not None and max_length_q > sliding_window else None
    if window is None and softcap is None and works_here(q):
        return packed(q, k, v, cu_seq_lens_q, max_length_q, scaling), None
    return block_masked(q, k, v, cu_seq_lens_q, scaling, window, softcap), None


def works_here(like: Tensor) -> bool:
    """Whether the kernel runs on this device, dtype and head size and agrees with SDPA; tried once for each."""
    found = (like.device.type, like.dtype, like.shape[-1])
    if found not in _TRIED:
        _TRIED[found] = like.is_cuda and _agrees(like)
    return _TRIED[found]


_TRIED: dict[tuple[str, torch.dtype, int], bool] = {}


def _agrees(like: Tensor) -> bool:
    generator = torch.Generator(like.device).manual_seed(0)
    bounds = torch.tensor([0, 5, 70, 96], dtype=torch.int32, device=like.device)
    made = [
        torch.randn(1, 96, heads, like.shape[-1], device=like.device, dtype=torch.float32, generator=generator)
        for heads in (4, 2, 2, 4)
    ]
    results = []
    for kernel in (True, False):
        q, k, v = (tensor.to(like.dtype).requires_grad_() for tensor in made[:3])
        with torch.enable_grad():
            try:
                out = packed(q, k, v, bounds, 65, 0.1) if kernel else block_masked(q, k, v, bounds, 0.1)
                grads = torch.autograd.grad(out, (q, k, v), made[3].to(like.dtype))
            except (RuntimeError, TypeError, AttributeError):  # the operator is private: anything may have changed
                return False
        results.append([out, *grads])
    return all((one - other).float().norm() <= 1e-2 * other.float().norm() for one, other in zip(*results, strict=True))


def no_mask(device: torch.device) -> Tensor:
    """What a packed call gives as its mask: of four dimensions, so that transformers builds none of its own."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
