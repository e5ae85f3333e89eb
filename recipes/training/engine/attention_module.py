"""Attention modules that slice their heads, without what slicing costs in the backward pass.

Phi-3 slices q, k and v out of one projection, Phi slices each head into a part that turns and one that does not. The
gradient of a slice is a tensor of zeros with one part filled in, and the parts are then added up: a tenth of a step.
Cut in one operation, the gradient is one concatenation; a rotary embedding that copies what it does not turn needs no
cut at all. A replacement is put in only where it gives what the module itself gives on random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bonsai.recipes.training.engine.rotary import apply_rotary

_TRIED_TOKENS = 5
_TOLERANCE = {torch.float16: 5e-3, torch.float32: 1e-5}

Heads = Callable[[Tensor], tuple[Tensor, ...]]
"""hidden states to q, k and v, each (1, tokens, heads · head size)"""


def patch_attention_modules(model: nn.Module) -> Callable[[], None]:
    """Replace the forward of what slices below ``model``; returns what takes it out again."""
    patched: list[Any] = []
    for module in list(model.modules()):
        heads = _heads(module)
        if heads is None:
            continue
        try:
            stock, ours = module.forward, _forward(module, heads)
            same = _same(module, stock, ours)
        except Exception:  # noqa: BLE001 - another module with these names: whatever it wants, it keeps its own forward
            continue
        if same:
            module.forward = ours
            patched.append(module)

    def undo() -> None:
        for module in patched:
            del module.forward

    return undo


def _heads(module: Any) -> Heads | None:
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


def _same(module: Any, stock: Callable[..., Any], ours: Callable[..., Any]) -> bool:
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
