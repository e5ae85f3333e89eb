"""silu(gate) · up as one autograd function that keeps gate and up only, for Llama's and Phi-3's kind of MLP.

A replacement is put in only where it gives what the module itself gives on random numbers: experts, whose weights are
no modules and who are handed their routes too, and an MLP that scales, norms or drops on the way keep their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bonsai.recipes.training.engine.elementwise import of_one_tensor
from bonsai.recipes.training.engine.recompute import marked

_TOLERANCE = {torch.float16: 5e-3, torch.float32: 1e-5}


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, again: _Again) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.again = again
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up = ctx.saved_tensors
        activated = ctx.again.take(gate)
        return torch.ops.aten.silu_backward(grads[0] * up, gate), activated.mul_(grads[0]), None


class _Again:
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
            ours, first = _joint(module, mark), module.gate_up_proj
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
    return found.shape == stock.shape and bool((found - stock).norm() <= _TOLERANCE[dtype] * stock.norm())


def _joint(mlp: Any, mark: bool) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        halves = getattr(mlp.gate_up_proj, "halves", None)
        gate, up = mlp.gate_up_proj(x).chunk(2, dim=-1) if halves is None else halves(x)
        return mlp.down_proj(_product(gate, up, mark))  # type: ignore[no-any-return]

    return forward


def _separate(mlp: Any, mark: bool) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return mlp.down_proj(_product(mlp.gate_proj(x), mlp.up_proj(x), mark))  # type: ignore[no-any-return]

    return forward


def _product(gate: Tensor, up: Tensor, mark: bool) -> Tensor:
    again = _Again()
    made = _Gated.apply(gate, up, again)
    return marked(made, again, gate, up) if mark else made
