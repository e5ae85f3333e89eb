"""An adapter inside its base's own weights while it answers: one matrix product a linear instead of three.

Done in float32 only. In fewer bits a young adapter's part is smaller than half a step of the base's weight and would be
rounded away, and NF4 would be quantised anew.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftType
from peft.tuners.tuners_utils import BaseTunerLayer

from bonsai.recipes.inference.generation.engine import GenerationError

LARGEST = 2**30
"""bytes of the base's adapted weights up to which an adapter is merged: they are kept beside, to be given back"""


class Merging:
    """Merges one adapter at a time; each base's weight is given back bit by bit."""

    def __init__(self, adapted: Any) -> None:
        self._adapted = adapted
        self._name: str | None = None
        self._own: list[tuple[Any, torch.Tensor, torch.Tensor | None]] = []

    @property
    def merged(self) -> str | None:
        """The adapter in the base's weights."""
        return self._name

    def answer_with(self, name: str) -> None:
        """Activate an adapter that is loaded, and merge it where that loses nothing.

        PEFT takes a merged adapter out by subtraction when another is activated, so it is out before.

        Raises:
            GenerationError: its weights are not finite.
        """
        if self._name == name:
            return
        self.take_out()
        self._adapted.set_adapter(name)
        layers = [module for module in self._adapted.modules() if isinstance(module, BaseTunerLayer)]
        bases: list[Any] = [layer.get_base_layer() for layer in layers]
        if self._adapted.peft_config[name].peft_type != PeftType.LORA or not _may_be([base.weight for base in bases]):
            return
        self._own = [(layer, base.weight.data, _bias(base)) for layer, base in zip(layers, bases, strict=True)]
        try:
            self._adapted.merge_adapter([name], safe_merge=True)
        except ValueError as error:
            self.take_out()
            raise GenerationError(f"{name}: {error}; take another revision of it, or train it again") from error
        self._name = name

    def take_out(self) -> None:
        """Give the base its own weights back."""
        while self._own:
            layer, weight, bias = self._own.pop()
            base = layer.get_base_layer()
            base.weight.data = weight
            if bias is not None:
                base.bias.data = bias
            layer.merged_adapters.clear()
        self._name = None


def _may_be(weights: list[torch.Tensor]) -> bool:
    plain = all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in weights)
    return plain and sum(weight.numel() * weight.element_size() for weight in weights) <= LARGEST


def _bias(base: Any) -> torch.Tensor | None:
    bias = getattr(base, "bias", None)
    return bias.data if isinstance(bias, torch.Tensor) else None
