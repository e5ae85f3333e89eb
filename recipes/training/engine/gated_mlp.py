"""silu(gate) · up as one autograd function that keeps gate and up only, for Llama's and Phi-3's kind of MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bonsai.recipes.training.engine.recompute import marked


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
    for module in model.modules():
        if _is_silu(module) and hasattr(module, "down_proj"):
            if hasattr(module, "gate_up_proj"):
                module.forward = _joint(module, mark)
            elif hasattr(module, "gate_proj") and hasattr(module, "up_proj"):
                module.forward = _separate(module, mark)
            else:
                continue
            patched.append(module)

    def undo() -> None:
        for module in patched:
            del module.forward

    return undo


def _is_silu(module: Any) -> bool:
    activation = getattr(module, "act_fn", None) or getattr(module, "activation_fn", None)
    return type(activation).__name__ in ("SiLUActivation", "SiLU")


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
