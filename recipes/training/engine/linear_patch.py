"""Putting QLoRA groups under a model, and taking them out again.

Which linears share an input is not written down for each architecture: it is seen in one forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit
from torch import Tensor, nn

from bonsai.recipes.training.engine.adapter_store import AdapterStore
from bonsai.recipes.training.engine.errors import EngineError
from bonsai.recipes.training.engine.qlora_linear import QLoRAGroup

NO_PLAIN_LORA = (
    "no LoRA layer over bitsandbytes' NF4 without dropout was found; load the base with load_in_4bit, attach a "
    "plain LoRA with lora_dropout 0, or leave the engine's linear off"
)


class Patched(NamedTuple):
    """What is put under the model."""

    groups: list[QLoRAGroup]
    """none: the model has no layer that can be replaced"""
    store: AdapterStore
    left_alone: list[str]
    """names of LoRA layers that stay peft's: dropout, DoRA, a bias, or more than one adapter"""


def patch_linears(model: nn.Module, compute_dtype: torch.dtype, *, share_inputs: bool = True) -> Patched:
    """Replace the forward of every plain LoRA layer over NF4 below ``model``; see `grouped_linears`.

    Raises:
        EngineError: there is no such layer.
    """
    patched = grouped_linears(model, compute_dtype, share_inputs=share_inputs)
    if not patched.groups:
        raise EngineError(NO_PLAIN_LORA)
    put_under(patched)
    return patched


def grouped_linears(model: nn.Module, compute_dtype: torch.dtype, *, share_inputs: bool = True) -> Patched:
    """The plain LoRA layers over NF4 below ``model`` in groups, their forward still peft's; all weights in the store.

    Args:
        model: with an adapter attached, on its device.
        share_inputs: compute linears with the same input together.

    Raises:
        EngineError: nothing is trained.
    """
    named = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear4bit)}
    plain = {name: module for name, module in named.items() if _is_plain(module)}
    layers: list[Any] = list(plain.values())
    for module in layers:
        module.base_layer.support_avx512bf16_for_cpu = False  # it would repack the weights under us
    together = _by_input(model, layers) if share_inputs and layers else [[layer] for layer in layers]
    groups = [QLoRAGroup(part, compute_dtype) for part in together]
    in_groups = [parameter for group in groups for parameter in (*group.down, *group.up)]
    known = {id(parameter) for parameter in in_groups}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    store = AdapterStore([*in_groups, *others], compute_dtype)
    for group in groups:
        group.bind(store)
    return Patched(groups, store, sorted(set(named) - set(plain)))


def apart(patched: Patched, compute_dtype: torch.dtype) -> Patched:
    """The same layers over the same store, each a group of its own."""
    groups = [QLoRAGroup([layer], compute_dtype) for group in patched.groups for layer in group.layers]
    for group in groups:
        group.bind(patched.store)
    return patched._replace(groups=groups)


def put_under(patched: Patched) -> None:
    """Let the groups compute."""
    for group in patched.groups:
        for index, layer in enumerate(group.layers):
            layer.forward = _forward(layer, group, index)
        if len(group.layers) == 1:
            group.layers[0].halves = _halves(group.layers[0], group)


def unpatch_linears(patched: Patched) -> None:
    """Give the layers back peft's forward; weights stay where they are, trained."""
    for group in patched.groups:
        for layer in group.layers:
            del layer.forward
        if len(group.layers) == 1:
            del group.layers[0].halves


def _forward(layer: Any, group: QLoRAGroup, index: int) -> Callable[..., Tensor]:
    stock = type(layer).forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or layer.disable_adapters or layer.merged:
            return stock(layer, x, *args, **kwargs)  # type: ignore[no-any-return]
        return group.output(index, x)

    return forward


def _halves(layer: Any, group: QLoRAGroup) -> Callable[[Tensor], tuple[Tensor, ...]]:
    def halves(x: Tensor) -> tuple[Tensor, ...]:
        if layer.disable_adapters or layer.merged:
            return layer(x).chunk(2, dim=-1)  # type: ignore[no-any-return]
        return group.halves(x)

    return halves


def _is_plain(layer: Any) -> bool:
    base = layer.base_layer
    if not isinstance(base, Linear4bit) or len(layer.active_adapters) != 1:
        return False
    name = layer.active_adapters[0]
    return (
        name not in layer.lora_variant
        and not layer.lora_bias[name]
        and getattr(layer.lora_dropout[name], "p", 0.0) == 0.0
        and base.weight.data.dtype == torch.uint8
        and layer.base_layer.weight.quant_state is not None
    )


def _by_input(model: nn.Module, layers: list[Any]) -> list[list[Any]]:
    """Layers that got the very same tensor in a forward pass over three tokens, in the order of their calls.

    A layer that runs more than once in a pass (shared between blocks) is a group of its own.
    """
    seen: list[tuple[Any, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, args: seen.append((module, args[0])), prepend=True)
        for layer in layers
    ]
    try:
        run_three_tokens(model)
    finally:
        for hook in hooks:
            hook.remove()
    calls = Counter(id(layer) for layer, _ in seen)
    groups: list[tuple[Tensor, list[Any]]] = []
    for layer, x in seen:
        if calls[id(layer)] > 1:
            continue
        fitting = [part for shared, part in groups if shared is x and _same_kind(part[0], layer)]
        if fitting:
            fitting[0].append(layer)
        else:
            groups.append((x, [layer]))
    return [part for _, part in groups] + [[layer] for layer in layers if calls[id(layer)] != 1]


def run_three_tokens(model: nn.Module) -> Any:
    """A forward pass without gradient, after which the random state is what it was."""
    device = next(model.parameters()).device
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return model(input_ids=torch.tensor([[1, 2, 3]], device=device), use_cache=False)


def _same_kind(one: Any, other: Any) -> bool:
    first, second = one.base_layer.weight.quant_state, other.base_layer.weight.quant_state
    scalings = [layer.scaling[layer.active_adapters[0]] for layer in (one, other)]
    return scalings[0] == scalings[1] and (first.blocksize, first.quant_type) == (second.blocksize, second.quant_type)
