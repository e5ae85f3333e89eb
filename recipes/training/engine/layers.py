"""Norms, activations and gated MLPs as single kernels, recomputed in the backward pass where that is cheap.

A norm or an activation marks its output with how to make it again from a tensor that is kept anyway. A QLoRA linear,
whose input that output is, then keeps the recipe instead of the tensor. No matrix product is ever repeated.
For Phi-2 this drops the norm's output and the activation's output: 5 of 14 hidden sizes a token and layer.

Under autocast a norm returns float32 and `gelu_new` runs its power in float32: each drags casts of whole activations
behind it. A replacement is put in only where it gives what the module itself gives on random numbers, so an RMSNorm
with another formula (Gemma's 1 + weight) stays as it is.

A replacement is put in only where it gives what the module itself gives on random numbers: experts, whose weights are
no modules and who are handed their routes too, and an MLP that scales, norms or drops on the way keep their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_MARK = "_bonsai_recipe"


class RecomputeRule(NamedTuple):
    """How to make a tensor again, bit for bit."""

    compute: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def recompute_in_backward(output: Tensor, compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``output`` itself, marked as ``compute(*inputs)``."""
    setattr(output, _MARK, RecomputeRule(compute, tuple(tensor.detach() for tensor in inputs)))
    return output


def rule_of(tensor: Tensor) -> RecomputeRule:
    """The tensor's recipe; without a mark, the one that keeps the tensor."""
    found: RecomputeRule | None = getattr(tensor, _MARK, None)
    return found or RecomputeRule(_itself, (tensor.detach(),))


def _itself(tensor: Tensor) -> Tensor:
    return tensor


_TOLERANCE = {torch.float16: 4e-3, torch.float32: 1e-5}
_TANH_GELUS = ("NewGELUActivation", "GELUTanh", "PytorchGELUTanh", "FastGELUActivation")


def patch_elementwise(model: nn.Module, *, mark: bool) -> Callable[[], None]:
    """Replace what can be replaced below ``model``; returns what takes it out again.

    Args:
        mark: mark outputs as cheap to compute again (`bonsai.recipes.training.engine.layers`).
    """
    patched: list[Any] = []
    for module in list(model.modules()):
        replacement = _replacement(module)
        if replacement is None or not _matches_original(module, replacement):
            continue
        module.forward = of_one_tensor(module.forward, _with_recompute(replacement) if mark else replacement)
        patched.append(module)

    def undo() -> None:
        for module in patched:
            del module.forward

    return undo


def of_one_tensor(stock: Callable[..., Any], ours: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Ours for the call that was compared; a gate or a residual beside the tensor is the module's own business."""

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return stock(x, *args, **kwargs) if args or kwargs else ours(x)

    return forward


def _with_recompute(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return recompute_in_backward(compute(x), compute, x)

    return forward


def _replacement(module: Any) -> Callable[[Tensor], Tensor] | None:
    if type(module) is nn.LayerNorm:
        return partial(_layer_norm, module)
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return partial(_rms_norm, module)
    if type(module).__name__ in _TANH_GELUS:
        return partial(functional.gelu, approximate="tanh")
    return None


def _layer_norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    return functional.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


def _rms_norm(module: Any, x: Tensor) -> Tensor:
    return functional.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def _matches_original(module: nn.Module, replacement: Callable[[Tensor], Tensor]) -> bool:
    weight = getattr(module, "weight", None)
    device, dtype = ("cpu", torch.float32) if weight is None else (weight.device, weight.dtype)
    shape = (64,) if weight is None else tuple(weight.shape)
    generator = torch.Generator(device).manual_seed(0)
    x = (torch.randn(4, *shape, device=device, generator=generator) * 3).to(dtype)
    try:
        with torch.no_grad():
            ours, stock = replacement(x).float(), module(x).float()
    except Exception:  # noqa: BLE001 - another module under a known name: whatever it wants, it keeps its own forward
        return False
    return bool((ours - stock).norm() <= _TOLERANCE.get(dtype, 0.0) * stock.norm())


_GATED_MLP_TOLERANCE = {torch.float16: 5e-3, torch.float32: 1e-5}


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, again: _RecomputedSwiGLU) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.again = again
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up = ctx.saved_tensors
        activated = ctx.again.take(gate)
        return torch.ops.aten.silu_backward(grads[0] * up, gate), activated.mul_(grads[0]), None


class _RecomputedSwiGLU:
    """silu(gate) · up computed again; the backward pass, which comes right after, takes silu(gate) from it."""

    def __init__(self) -> None:
        self._activated: Tensor | None = None

    def __call__(self, gate: Tensor, up: Tensor) -> Tensor:
        self._activated = functional.silu(gate)
        return self._activated * up

    def take(self, gate: Tensor) -> Tensor:
        found, self._activated = self._activated, None
        return functional.silu(gate) if found is None else found


def patch_gated_mlps(model: nn.Module, *, mark: bool) -> Callable[[], None]:
    """Replace the forward of every gated SiLU MLP below ``model``; returns what takes it out again."""
    patched: list[Any] = []
    for module in list(model.modules()):
        if not (_is_silu(module) and _has_linears(module, "down_proj")):
            continue
        if _has_linears(module, "gate_up_proj"):
            ours, first = _fused_gate_up(module, mark), module.gate_up_proj
        elif _has_linears(module, "gate_proj", "up_proj"):
            ours, first = _separate(module, mark), module.gate_proj
        else:
            continue
        if _same(module, ours, first):
            module.forward = of_one_tensor(module.forward, ours)
            patched.append(module)

    def undo() -> None:
        for module in patched:
            del module.forward

    return undo


def _is_silu(module: Any) -> bool:
    activation = getattr(module, "act_fn", None) or getattr(module, "activation_fn", None)
    return type(activation).__name__ in ("SiLUActivation", "SiLU")


def _has_linears(module: nn.Module, *names: str) -> bool:
    return all(isinstance(getattr(module, name, None), nn.Module) for name in names)


def _same(mlp: Any, ours: Callable[[Tensor], Tensor], first: Any) -> bool:
    """On a few random tokens, without dropout."""
    base = getattr(first, "base_layer", first)
    weight = next(first.parameters())
    dtype = torch.float16 if weight.is_cuda else torch.float32
    generator = torch.Generator(weight.device).manual_seed(0)
    x = torch.randn(1, 5, base.in_features, device=weight.device, generator=generator).to(dtype)
    modes = [(module, module.training) for module in mlp.modules()]
    mlp.eval()
    try:
        with torch.no_grad():
            found, stock = ours(x).float(), mlp(x).float()
    except Exception:  # noqa: BLE001 - another module with these names: whatever it wants, it keeps its own forward
        return False
    finally:
        for module, training in modes:
            module.training = training
    return found.shape == stock.shape and bool((found - stock).norm() <= _GATED_MLP_TOLERANCE[dtype] * stock.norm())


def _fused_gate_up(mlp: Any, mark: bool) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        halves = getattr(mlp.gate_up_proj, "halves", None)
        gate, up = mlp.gate_up_proj(x).chunk(2, dim=-1) if halves is None else halves(x)
        return mlp.down_proj(_swiglu(gate, up, mark))  # type: ignore[no-any-return]

    return forward


def _separate(mlp: Any, mark: bool) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return mlp.down_proj(_swiglu(mlp.gate_proj(x), mlp.up_proj(x), mark))  # type: ignore[no-any-return]

    return forward


def _swiglu(gate: Tensor, up: Tensor, mark: bool) -> Tensor:
    again = _RecomputedSwiGLU()
    made = _Gated.apply(gate, up, again)
    return recompute_in_backward(made, again, gate, up) if mark else made
