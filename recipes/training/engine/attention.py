"""Attend within packed records, rotate queries and keys, and fuse the attention modules that slice projections.

1. Packed attention. PyTorch's memory-efficient kernel (https://arxiv.org/abs/2112.05682) takes the bounds of the
   records and is compiled for sm50 and up. SDPA does not pass bounds on, so the aten operator is called directly. It is
   private: `is_supported` tries it once, and where it fails `block_diagonal_attention` (SDPA with a mask, the twin for
   tests) takes its place, and on a CPU causal SDPA for each record. Example: records of 3 and 2 tokens in one row have
   bounds [0, 3, 5].
2. Rotary embedding (RoPE, https://arxiv.org/abs/2104.09864). Llama pairs a number with the one half a head away, GLM
   and Cohere pair neighbours; Phi rotates only the first part of each head. Which one a modeling file means is learned
   from a call it makes itself: the first kind that reproduces the file's own function is used, or none.
3. Attention modules. Phi-3 slices q, k and v out of one projection, Phi slices each head into a rotated part and the
   rest. The gradient of a slice is a tensor of zeros with one part filled in, and these are then added up: a tenth of
   a step. Splitting in one operation makes the gradient one concatenation.

A replacement is installed only if it reproduces the module's own output on random numbers.
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
"""under which transformers finds `attention_forward` (`config._attn_implementation`)"""
_CAUSAL_FROM_TOP_LEFT = 1
"""the aten operator's custom_mask_type"""
_SHORT = 1024
"""up to this length one split of the keys is enough to fill the GPU in the backward pass, and the fastest"""
_ROTARY_FUNCTION = "apply_rotary_pos_emb"
_ROTARY_TOLERANCE = {torch.float16: 4e-3, torch.float32: 1e-6}
_MODULE_TOLERANCE = {torch.float16: 5e-3, torch.float32: 1e-5}
"""norm of the difference to the original's output, relative to the norm of that output"""
_TRIED_TOKENS = 5

Rotary = Callable[..., tuple[Tensor, Tensor]]
Heads = Callable[[Tensor], tuple[Tensor, ...]]
"""hidden states to q, k and v, each (1, tokens, heads · head size)"""


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
        # k and v are saved before they are repeated: with 8 query heads a key head, an eighth of the bytes
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
        return dq, _sum_repeats(dk, ctx.repeats), _sum_repeats(dv, ctx.repeats), None, None, None


def _repeated(heads: Tensor, repeats: int) -> Tensor:
    """(1, tokens, kv heads, size) -> (1, tokens, heads, size): each key head serves ``repeats`` query heads."""
    return heads if repeats == 1 else heads.repeat_interleave(repeats, dim=2)


def _sum_repeats(grad: Tensor, repeats: int) -> Tensor:
    """(1, tokens, heads, size) -> (1, tokens, kv heads, size): the gradient of `_repeated`."""
    return grad if repeats == 1 else grad.unflatten(2, (-1, repeats)).sum(3)


def packed_attention(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float) -> Tensor:
    """Compute causal attention within each record.

    Args:
        q: (1, tokens, heads, head size); k and v may have fewer heads (grouped queries).
        bounds: int32, the start of each record and the end of the last, on q's device.
        longest: tokens of the longest record.

    Returns:
        (1, tokens, heads, head size).
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
    """Compute the same through SDPA and a (tokens, tokens) mask.

    Args:
        window: keys a query sees, itself included; None: all before it.
        softcap: scores s become softcap · tanh(s / softcap) (Gemma 2), which no kernel here supports.
    """
    tokens, repeats = q.shape[1], q.shape[2] // k.shape[2]
    position = torch.arange(tokens, device=q.device)
    record = torch.searchsorted(bounds[1:].to(position.dtype), position, right=True)
    allowed = (record[:, None] == record[None]) & (position[:, None] >= position[None])
    if window is not None:
        allowed &= position[:, None] - position[None] < window
    query, key, value = (h.transpose(1, 2) for h in (q, _repeated(k, repeats), _repeated(v, repeats)))
    if softcap is not None:
        return _soft_capped(query, key, value, allowed[None, None], scale, softcap).transpose(1, 2)
    out = scaled_dot_product_attention(query, key, value, attn_mask=allowed[None, None], scale=scale)
    return out.transpose(1, 2)


def record_by_record_attention(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, scale: float) -> Tensor:
    """Compute the same with a causal SDPA for each record: fastest where a call costs next to nothing, on a CPU."""
    repeats = q.shape[2] // k.shape[2]
    sizes = bounds.diff().tolist()
    heads = [h.transpose(1, 2).split(sizes, dim=2) for h in (q, _repeated(k, repeats), _repeated(v, repeats))]
    found = [
        scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        for query, key, value in zip(*heads, strict=True)
    ]
    return torch.cat(found, dim=2).transpose(1, 2)


def _soft_capped(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float, softcap: float) -> Tensor:
    """Attend with capped scores; (batch, heads, tokens, head size), as many key heads as query heads."""
    # the product is in the dtype of q, everything up to the softmax in float32
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
    """Attend as transformers' attention interface asks for it.

    Rows that are not packed go through transformers' own SDPA, with their mask.

    Args:
        query: (1, heads, tokens, head size), as key and value, which may have fewer heads.
        cu_seq_lens_q: the bounds of packed records; None: the rows are not packed.
        max_length_q: tokens of the longest record.

    Returns:
        (1, tokens, heads, head size), and None for the attention weights.
    """
    # 1. Not packed: SDPA, or with capped scores (which SDPA lacks) by plain products
    if cu_seq_lens_q is None and softcap is not None:
        if attention_mask is None:
            attention_mask = query.new_ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()[None, None]
        repeats = query.shape[1] // key.shape[1]
        key, value = (_repeated(heads.transpose(1, 2), repeats).transpose(1, 2) for heads in (key, value))
        return _soft_capped(query, key, value, attention_mask, scaling, softcap).transpose(1, 2), None
    if cu_seq_lens_q is None:
        kwargs = {**kwargs, "sliding_window": sliding_window, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    # 2. Packed: the kernel, or on a CPU record after record (a mask over the whole row would have the scores between
    #    records computed too); a window matters only if some record is longer than it
    q, k, v = (heads.transpose(1, 2) for heads in (query, key, value))
    window = sliding_window if sliding_window is not None and max_length_q > sliding_window else None
    if window is None and softcap is None:
        if is_supported(q):
            return packed_attention(q, k, v, cu_seq_lens_q, max_length_q, scaling), None
        if not q.is_cuda:
            return record_by_record_attention(q, k, v, cu_seq_lens_q, scaling), None
    # 3. What the kernel does not support
    return block_diagonal_attention(q, k, v, cu_seq_lens_q, scaling, window, softcap), None


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)

_SUPPORTED: dict[tuple[str, torch.dtype, int], bool] = {}


def is_supported(like: Tensor) -> bool:
    """Return whether the kernel runs on this device, dtype and head size and agrees with SDPA; tried once for each.

    Args:
        like: any tensor of that device and dtype, its last dimension the head size.
    """
    key = (like.device.type, like.dtype, like.shape[-1])
    if key not in _SUPPORTED:
        _SUPPORTED[key] = like.is_cuda and _matches_sdpa(like)
    return _SUPPORTED[key]


def _matches_sdpa(like: Tensor) -> bool:
    """Compare outputs and gradients on random records of 5, 65 and 26 tokens, two query heads a key head."""
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
    """Make the mask of a packed call: of four dimensions, so that transformers builds none of its own."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


class _Rotary(torch.autograd.Function):
    """A rotation; its gradient is the rotation back, so that only cos and sin are saved."""

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
    """Rotate the first ``cos.shape[-1]`` numbers of ``x`` (..., head size), forth (1) or back (-1)."""
    width = cos.shape[-1]
    if neighbours:
        first, second = slice(0, width, 2), slice(1, width, 2)
    else:
        first, second = slice(0, width // 2), slice(width // 2, width)
    # (a, b) -> (a cos - b sin, b cos + a sin), three kernels and no temporary; the rest of a head (Phi) is a fourth
    out = torch.empty_like(x)
    torch.mul(x[..., :width], cos, out=out[..., :width])
    out[..., first].addcmul_(x[..., second], sin[..., first], value=-direction)
    out[..., second].addcmul_(x[..., first], sin[..., second], value=direction)
    if width < x.shape[-1]:
        out[..., width:].copy_(x[..., width:])
    return out


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Rotate as transformers' ``apply_rotary_pos_emb``; where cos is narrower than a head, the rest is copied."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotary.apply(q, cos, sin, False), _Rotary.apply(k, cos, sin, False)


def apply_to_neighbours(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Rotate neighbours, with cos and sin given for each number (Cohere)."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotary.apply(q, cos, sin, True), _Rotary.apply(k, cos, sin, True)


def apply_to_neighbours_by_half(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Rotate neighbours, with cos and sin given for each pair, twice over (GLM)."""
    half = cos.shape[-1] // 2
    cos, sin = (part[..., :half].repeat_interleave(2, dim=-1) for part in (cos, sin))
    return apply_to_neighbours(q, k, cos, sin, unsqueeze_dim)


KINDS: tuple[Rotary, ...] = (apply_rotary, apply_to_neighbours, apply_to_neighbours_by_half)


def patch_rotary(model: nn.Module, run: Callable[[], Any], known: dict[str, Rotary | None]) -> Callable[[], None]:
    """Replace the rotary function in the modeling file of every attention below ``model``.

    The function belongs to the file, so other models of the same architecture in this process get it too.

    Args:
        run: a forward pass of the model, in which each file shows what it calls its function with.
        known: file to kind, as found before; filled where it is not.

    Returns:
        A function that restores the originals.
    """
    files = {
        type(module).__module__
        for module in model.modules()
        if type(module).__name__.endswith("Attention")
        and hasattr(sys.modules[type(module).__module__], _ROTARY_FUNCTION)
    }
    stock = {file: getattr(sys.modules[file], _ROTARY_FUNCTION) for file in files}
    calls: dict[str, dict[str, Any]] = {}

    def undo() -> None:
        for file, function in stock.items():
            setattr(sys.modules[file], _ROTARY_FUNCTION, function)

    def record_first_call(file: str) -> Callable[..., Any]:
        signature = inspect.signature(stock[file])

        def recorder(*args: Any, **kwargs: Any) -> Any:
            if file not in calls:
                calls[file] = dict(signature.bind(*args, **kwargs).arguments)
            return stock[file](*args, **kwargs)

        return recorder

    def replace_by(kind: Rotary, original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> Any:
            if args or kwargs.keys() - {"unsqueeze_dim"}:  # more than it was compared with
                return original(q, k, cos, sin, *args, **kwargs)
            return kind(q, k, cos, sin, **kwargs)

        return replacement

    # 1. Record what each file calls its function with, in one forward pass
    if files - known.keys():
        try:
            for file in files:
                setattr(sys.modules[file], _ROTARY_FUNCTION, record_first_call(file))
            run()
        finally:
            undo()
        # 2. The first kind that reproduces the file's own function on that call
        for file in files:
            kinds = (kind for kind in KINDS if file in calls and _matches_rotary(stock[file], kind, calls[file]))
            known[file] = next(kinds, None)
    # 3. Install it
    for file in files:
        kind = known[file]
        if kind is not None:
            setattr(sys.modules[file], _ROTARY_FUNCTION, replace_by(kind, stock[file]))
    return undo


def _matches_rotary(stock: Callable[..., Any], kind: Rotary, call: dict[str, Any]) -> bool:
    """Compare on random heads with the call's own cos and sin, in which each position differs from the next."""
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
    except Exception:  # noqa: BLE001 - of another shape than the kind supports
        return False
    return all(
        one.shape == other.shape and bool((one.float() - other.float()).norm() <= tolerance * other.float().norm())
        for one, other in zip(ours, theirs, strict=True)
    )


def patch_attention_modules(model: nn.Module) -> Callable[[], None]:
    """Replace the forward of every attention below ``model`` that slices; returns a function that restores them."""
    patched: list[Any] = []
    for module in list(model.modules()):
        heads = _qkv_projection(module)
        if heads is None:
            continue
        try:
            stock, ours = module.forward, _fused_forward(module, heads)
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
    """Return how Phi-3's kind (one projection) or Phi's (three) makes q, k and v; None: another kind."""
    if hasattr(module, "qkv_proj") and hasattr(module, "num_key_value_heads"):
        key_value = module.num_key_value_heads * module.head_dim
        sizes = [module.config.num_attention_heads * module.head_dim, key_value, key_value]
        return lambda x: module.qkv_proj(x).split(sizes, dim=-1)
    if hasattr(module, "rotary_ndims") and hasattr(module, "q_proj") and not getattr(module, "qk_layernorm", False):
        return lambda x: (module.q_proj(x), module.k_proj(x), module.v_proj(x))
    return None


def _fused_forward(module: Any, heads: Heads) -> Callable[..., tuple[Tensor, Tensor | None]]:
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
    """Compare on a few random tokens, without dropout."""
    weight = next(p for name, p in module.named_parameters() if "lora" in name)
    generator = torch.Generator(weight.device).manual_seed(0)
    dtype = torch.float16 if weight.is_cuda else torch.float32
    width, rotated = module.config.hidden_size, getattr(module, "rotary_ndims", module.head_dim)
    x, cos, sin = (
        torch.randn(1, _TRIED_TOKENS, size, generator=generator, device=weight.device).to(dtype)
        for size in (width, rotated, rotated)
    )
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            results = [forward(x, (cos, sin), attention_mask=None)[0].float() for forward in (stock, ours)]
    finally:
        for part, training in modes:
            part.training = training
    return bool((results[1] - results[0]).norm() <= _MODULE_TOLERANCE[dtype] * results[0].norm())
