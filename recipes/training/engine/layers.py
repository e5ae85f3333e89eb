"""Run norms, activations and gated MLPs as single kernels, and recompute their outputs in the backward pass.

A norm or an activation marks its output with how to compute it again from a tensor that is kept anyway. A QLoRA linear
that reads the output then saves that rule instead of the tensor. No matrix product is ever repeated. For Phi-2 this
drops the norm's and the activation's outputs: 5 of 14 hidden sizes a token and layer.

Under autocast a norm returns float32 and `gelu_new` computes its power in float32: each drags casts of whole
activations behind it. Inside the engine autocast is off, and the replacements stay in the compute dtype.

A replacement is installed only if it reproduces the module's own output on random numbers: an RMSNorm with another
formula (Gemma's 1 + weight), experts, whose weights are no modules and who are handed their routes too, and an MLP that
scales, normalizes or drops on the way keep their own forward.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_MARK = "_bonsai_recipe"
_TOLERANCE = {torch.float16: 4e-3, torch.float32: 1e-5}
_GATED_MLP_TOLERANCE = {torch.float16: 5e-3, torch.float32: 1e-5}
"""norm of the difference to the original's output, relative to the norm of that output"""
_TANH_GELUS = ("NewGELUActivation", "GELUTanh", "PytorchGELUTanh", "FastGELUActivation")


class RecomputeRule(NamedTuple):
    """How to compute a tensor again, bit for bit."""

    compute: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def recompute_in_backward(output: Tensor, compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Mark ``output`` as ``compute(*inputs)`` and return it."""
    setattr(output, _MARK, RecomputeRule(compute, tuple(tensor.detach() for tensor in inputs)))
    return output


def rule_of(tensor: Tensor) -> RecomputeRule:
    """Return the tensor's rule; without a mark, the one that keeps the tensor."""
    found: RecomputeRule | None = getattr(tensor, _MARK, None)
    return found or RecomputeRule(_identity, (tensor.detach(),))


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def use_for_one_tensor(stock: Callable[..., Any], ours: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Call ``ours`` as it was compared; a gate or a residual beside the tensor is the module's own business."""

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return stock(x, *args, **kwargs) if args or kwargs else ours(x)

    return forward


def patch_elementwise(model: nn.Module, *, mark: bool) -> Callable[[], None]:
    """Replace the forward of every known norm and activation below ``model``.

    Args:
        mark: mark outputs as cheap to compute again (`recompute_in_backward`).

    Returns:
        A function that restores the originals.
    """

    def with_mark(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            return recompute_in_backward(compute(x), compute, x)

        return forward

    modules: list[Any] = list(model.modules())
    patched: list[Any] = []
    for module in modules:
        kind = type(module)
        replacement: Callable[[Tensor], Tensor] | None = None
        if kind is nn.LayerNorm:
            replacement = partial(_layer_norm, module)
        elif kind.__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            replacement = partial(_rms_norm, module)
        elif kind.__name__ in _TANH_GELUS:
            replacement = partial(functional.gelu, approximate="tanh")
        if replacement is None or not _matches_original(module, replacement):
            continue
        module.forward = use_for_one_tensor(module.forward, with_mark(replacement) if mark else replacement)
        patched.append(module)

    def undo() -> None:
        for module in patched:
            del module.forward

    return undo


def _layer_norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    return functional.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


def _rms_norm(module: Any, x: Tensor) -> Tensor:
    return functional.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def _matches_original(module: nn.Module, replacement: Callable[[Tensor], Tensor]) -> bool:
    """Compare on four random tokens of standard deviation 3, so that an activation's tails count too."""
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


class _SwiGLU(torch.autograd.Function):
    """silu(gate) · up (https://arxiv.org/abs/2002.05202), saving gate and up and neither silu(gate) nor the product."""

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
    """Compute silu(gate) · up again; the backward pass, which comes right after, takes silu(gate) from it."""

    def __init__(self) -> None:
        self._activated: Tensor | None = None

    def __call__(self, gate: Tensor, up: Tensor) -> Tensor:
        self._activated = functional.silu(gate)
        return self._activated * up

    def take(self, gate: Tensor) -> Tensor:
        """Return silu(gate), computed now if the product was not computed again."""
        found, self._activated = self._activated, None
        return functional.silu(gate) if found is None else found


def patch_gated_mlps(model: nn.Module, *, mark: bool) -> Callable[[], None]:
    """Replace the forward of every gated SiLU MLP below ``model``; returns a function that restores them.

    Args:
        mark: mark the product that enters ``down_proj`` as cheap to compute again.
    """
    patched: list[Any] = []
    for module in list(model.modules()):
        activation = getattr(module, "act_fn", None) or getattr(module, "activation_fn", None)
        if type(activation).__name__ not in ("SiLUActivation", "SiLU") or not _has_modules(module, "down_proj"):
            continue
        fused = _has_modules(module, "gate_up_proj")
        if not fused and not _has_modules(module, "gate_proj", "up_proj"):
            continue
        ours = _gated_forward(module, fused=fused, mark=mark)
        if _matches_gated_mlp(module, ours, module.gate_up_proj if fused else module.gate_proj):
            module.forward = use_for_one_tensor(module.forward, ours)
            patched.append(module)

    def undo() -> None:
        for module in patched:
            del module.forward

    return undo


def _has_modules(module: nn.Module, *names: str) -> bool:
    return all(isinstance(getattr(module, name, None), nn.Module) for name in names)


def _gated_forward(mlp: Any, *, fused: bool, mark: bool) -> Callable[[Tensor], Tensor]:
    """Return down_proj(silu(gate) · up), gate and up out of one linear (Phi-3) or of two (Llama)."""

    def swiglu(gate: Tensor, up: Tensor) -> Tensor:
        again = _RecomputedSwiGLU()
        made = _SwiGLU.apply(gate, up, again)
        return recompute_in_backward(made, again, gate, up) if mark else made

    def of_one(x: Tensor) -> Tensor:
        halves = getattr(mlp.gate_up_proj, "halves", None)
        gate, up = mlp.gate_up_proj(x).chunk(2, dim=-1) if halves is None else halves(x)
        return mlp.down_proj(swiglu(gate, up))  # type: ignore[no-any-return]

    def of_two(x: Tensor) -> Tensor:
        return mlp.down_proj(swiglu(mlp.gate_proj(x), mlp.up_proj(x)))  # type: ignore[no-any-return]

    return of_one if fused else of_two


def _matches_gated_mlp(mlp: Any, ours: Callable[[Tensor], Tensor], first: Any) -> bool:
    """Compare on a few random tokens, without dropout."""
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
