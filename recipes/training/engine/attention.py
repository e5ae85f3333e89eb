"""Attention over packed rows, rotary embedding, and the attention modules that use them.

PyTorch's memory-efficient kernel takes the records' bounds and compiles for sm50 and up; SDPA does not pass bounds
on, so the aten operator is called directly. It is private: `works_here` tries it once, and where it fails
`block_masked` (SDPA with a mask, the twin it is tested against) takes its place.

Where only the first part of each head turns (Phi), one more copies the rest. Llama's kind turns a number with the one
half a head away, GLM's and Cohere's with its neighbour; which a modeling file means is learnt from a call it makes
itself: the kind that gives what its own function gives is put in, and a file for which none does keeps its own.

Phi-3 slices q, k and v out of one projection, Phi slices each head into a part that turns and one that does not. The
gradient of a slice is a tensor of zeros with one part filled in, and the parts are then added up: a tenth of a step.
Cut in one operation, the gradient is one concatenation; a rotary embedding that copies what it does not turn needs no
cut at all. A replacement is put in only where it gives what the module itself gives on random numbers.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

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


def packed_attention(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float) -> Tensor:
    """Causal attention within each record.

    Args:
        q: (1, tokens, heads, head size); k and v may have fewer heads (grouped queries).
        bounds: int32, the records' starts and the end of the last, on q's device.
        longest: tokens of the longest record.
    """
    return _Packed.apply(q, k, v, bounds, longest, scale)  # type: ignore[no-any-return]


def block_diagonal_attention(
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
    if window is None and softcap is None and is_supported(q):
        return packed_attention(q, k, v, cu_seq_lens_q, max_length_q, scaling), None
    return block_diagonal_attention(q, k, v, cu_seq_lens_q, scaling, window, softcap), None


def is_supported(like: Tensor) -> bool:
    """Whether the kernel runs on this device, dtype and head size and agrees with SDPA; tried once for each."""
    found = (like.device.type, like.dtype, like.shape[-1])
    if found not in _TRIED:
        _TRIED[found] = like.is_cuda and _matches_sdpa(like)
    return _TRIED[found]


_TRIED: dict[tuple[str, torch.dtype, int], bool] = {}


def _matches_sdpa(like: Tensor) -> bool:
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
                out = (
                    packed_attention(q, k, v, bounds, 65, 0.1)
                    if kernel
                    else block_diagonal_attention(q, k, v, bounds, 0.1)
                )
                grads = torch.autograd.grad(out, (q, k, v), made[3].to(like.dtype))
            except (RuntimeError, TypeError, AttributeError):  # the operator is private: anything may have changed
                return False
        results.append([out, *grads])
    return all((one - other).float().norm() <= 1e-2 * other.float().norm() for one, other in zip(*results, strict=True))


def dummy_mask(device: torch.device) -> Tensor:
    """What a packed call gives as its mask: of four dimensions, so that transformers builds none of its own."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)


_NAME = "apply_rotary_pos_emb"
_ROTARY_TOLERANCE = {torch.float16: 4e-3, torch.float32: 1e-6}

Rotary = Callable[..., tuple[Tensor, Tensor]]


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, neighbours: bool) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.neighbours = neighbours
        return _rotate(x, cos, sin, 1, neighbours)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return _rotate(grads[0], cos, sin, -1, ctx.neighbours), None, None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, direction: int, neighbours: bool) -> Tensor:
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
    tolerance = _ROTARY_TOLERANCE.get(given["q"].dtype, 0.0)
    try:
        with torch.no_grad():
            ours, theirs = kind(**given), stock(**given)
    except Exception:  # noqa: BLE001 - of another shape than the kind knows
        return False
    return all(
        one.shape == other.shape and bool((one.float() - other.float()).norm() <= tolerance * other.float().norm())
        for one, other in zip(ours, theirs, strict=True)
    )


_TRIED_TOKENS = 5
_TOLERANCE = {torch.float16: 5e-3, torch.float32: 1e-5}

Heads = Callable[[Tensor], tuple[Tensor, ...]]
"""hidden states to q, k and v, each (1, tokens, heads · head size)"""


def patch_attention_modules(model: nn.Module) -> Callable[[], None]:
    """Replace the forward of what slices below ``model``; returns what takes it out again."""
    patched: list[Any] = []
    for module in list(model.modules()):
        heads = _qkv_projection(module)
        if heads is None:
            continue
        try:
            stock, ours = module.forward, _forward(module, heads)
            same = _matches_original(module, stock, ours)
        except Exception:  # noqa: BLE001 - another module with these names: whatever it wants, it keeps its own forward
            continue
        if same:
            module.forward = ours
            patched.append(module)

    def undo() -> None:
        for module in patched:
            del module.forward

    return undo


def _qkv_projection(module: Any) -> Heads | None:
    if hasattr(module, "qkv_proj") and hasattr(module, "num_key_value_heads"):
        key_value = module.num_key_value_heads * module.head_dim
        sizes = [module.config.num_attention_heads * module.head_dim, key_value, key_value]
        return lambda x: module.qkv_proj(x).split(sizes, dim=-1)
    if hasattr(module, "rotary_ndims") and hasattr(module, "q_proj") and not getattr(module, "qk_layernorm", False):
        return lambda x: (module.q_proj(x), module.k_proj(x), module.v_proj(x))
    return None


def _forward(module: Any, heads: Heads) -> Callable[..., tuple[Tensor, Tensor | None]]:
    stock: Callable[..., tuple[Tensor, Tensor | None]] = module.forward
    output = module.o_proj if hasattr(module, "o_proj") else module.dense

    def forward(
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        implementation = module.config._attn_implementation
        if past_key_values is not None or implementation not in ALL_ATTENTION_FUNCTIONS:
            return stock(hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs)
        shape = hidden_states.shape[:-1]
        q, k, v = (part.view(*shape, -1, module.head_dim).transpose(1, 2) for part in heads(hidden_states))
        q, k = apply_rotary(q, k, *position_embeddings)
        attended, weights = ALL_ATTENTION_FUNCTIONS[implementation](
            module,
            q,
            k,
            v,
            attention_mask,
            dropout=module.attention_dropout if module.training else 0.0,
            scaling=module.scaling,
            sliding_window=getattr(module.config, "sliding_window", None),
            **kwargs,
        )
        return output(attended.reshape(*shape, -1)), weights

    return forward


def _matches_original(module: Any, stock: Callable[..., Any], ours: Callable[..., Any]) -> bool:
    """On a few random tokens, without dropout."""
    weight = next(p for name, p in module.named_parameters() if "lora" in name)
    generator = torch.Generator(weight.device).manual_seed(0)
    dtype = torch.float16 if weight.is_cuda else torch.float32
    width, turned = module.config.hidden_size, getattr(module, "rotary_ndims", module.head_dim)

    def made(size: int) -> Tensor:
        return torch.randn(1, _TRIED_TOKENS, size, generator=generator, device=weight.device).to(dtype)

    x, cos, sin = made(width), made(turned), made(turned)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            results = [forward(x, (cos, sin), attention_mask=None)[0].float() for forward in (stock, ours)]
    finally:
        for part, training in modes:
            part.training = training
    return bool((results[1] - results[0]).norm() <= _TOLERANCE[dtype] * results[0].norm())
