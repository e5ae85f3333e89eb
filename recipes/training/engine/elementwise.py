"""Norms and activations as one kernel each, in the compute dtype, sums in float32 inside the kernel.

Under autocast a norm returns float32 and `gelu_new` runs its power in float32: each drags casts of whole activations
behind it. A replacement is put in only where it gives what the module itself gives on random numbers, so an RMSNorm
with another formula (Gemma's 1 + weight) stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bonsai.recipes.training.engine.recompute import marked

_TOLERANCE = {torch.float16: 4e-3, torch.float32: 1e-5}
_TANH_GELUS = ("NewGELUActivation", "GELUTanh", "PytorchGELUTanh", "FastGELUActivation")


def patch_elementwise(model: nn.Module, *, mark: bool) -> Callable[[], None]:
    """Replace what can be replaced below ``model``; returns what takes it out again.

    Args:
        mark: mark outputs as cheap to compute again (`bonsai.recipes.training.engine.recompute`).
    """
    patched: list[Any] = []
    for module in list(model.modules()):
        replacement = _replacement(module)
        if replacement is None or not _same(module, replacement):
            continue
        module.forward = of_one_tensor(module.forward, _marking(replacement) if mark else replacement)
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


def _marking(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return marked(compute(x), compute, x)

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


def _same(module: nn.Module, replacement: Callable[[Tensor], Tensor]) -> bool:
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
