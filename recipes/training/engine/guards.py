"""What must never pass unseen in float16: numbers that are none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bonsai.recipes.training.engine.errors import EngineError


def first_overflow(model: nn.Module, inputs: dict[str, Any]) -> str | None:
    """Name of the first module whose output is not finite in a forward pass, or None.

    Dropout is left as it is and the random state put back, so that a training run goes on as if nothing had been asked.
    """
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            numbers = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
            if not found and not all(bool(tensor.isfinite().all()) for tensor in numbers):
                found.append(name)

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            output = model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not found and not all(bool(leaf.isfinite().all()) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)):
        found.append("the output head")
    return found[0] if found else None


def refuse_overflow(model: nn.Module, inputs: dict[str, Any], when: str) -> None:
    """Stop with the layer's name.

    Raises:
        EngineError: some layer's output is infinite or not a number.
    """
    name = first_overflow(model, inputs)
    if name is not None:
        raise EngineError(
            f"{when}: the output of {name} is not finite in {_dtype(model)}; this base overflows here. Use SDPA "
            "instead of eager attention, shorten the record, or take a GPU with bfloat16"
        )


def _dtype(model: nn.Module) -> str:
    dtypes = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()}
    return " and ".join(sorted(dtypes))
