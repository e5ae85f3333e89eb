"""QLoRA linears: NF4 weights with a low-rank adapter, one autograd function for all that share an input.

bitsandbytes keeps the scales of double quantisation in eight bits and needs two kernels to make them float32 before
each dequantisation. Here they are made once: 4 bytes for every 64 weights, 0.16 GB for Phi-2.

y_i = x W_i^T + b_i + s (x A_i^T) B_i^T   (QLoRA, https://arxiv.org/abs/2305.14314)

peft computes the same with some twenty casts and copies around it. Here the weights of a group (q, k, v; gate, up; in
Phi fc1 too) are dequantised at once, everything runs in the compute dtype, and what is summed over many terms is summed
in float32: the adapter's gradients, and the input's gradient where several linears add to it. The adapter's part comes
first and the base's product is added to it: the other way round, float16 would round a young adapter's small part away.

Which linears share an input is not written down for each architecture: it is seen in one forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import bitsandbytes.functional
import torch
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit
from torch import Tensor, nn

from bonsai.builder.errors import EngineError
from bonsai.recipes.training.engine.layers import RecomputeRule, rule_of
from bonsai.recipes.training.engine.optimizer import FlatAdapterParameters


class Nf4Weights:
    """The weights of some ``bitsandbytes.nn.Linear4bit``, packed one behind the other."""

    def __init__(self, linears: Sequence[Any], dtype: torch.dtype) -> None:
        states = [linear.weight.quant_state for linear in linears]
        self._rows = [int(state.shape[0]) for state in states]
        self._shape = [sum(self._rows), int(states[0].shape[1])]
        self._blocksize, self._kind, self._dtype = int(states[0].blocksize), str(states[0].quant_type), dtype
        self._scales = torch.cat([float32_scales(state) for state in states])
        self._kept: Tensor | None = None
        if len(linears) == 1:
            self._packed = linears[0].weight.data
            return
        self._packed = torch.cat([linear.weight.data.view(-1, 1) for linear in linears])
        start = 0
        for linear in linears:  # the layers' own weights become views: nothing lies in memory twice
            size = linear.weight.data.numel()
            linear.weight.data = self._packed[start : start + size].view(linear.weight.data.shape)
            start += size

    @property
    def bytes_dequantised(self) -> int:
        """What they take when they are kept."""
        return self._shape[0] * self._shape[1] * self._dtype.itemsize

    def keep(self) -> None:
        """Hold the matrices dequantised from now on."""
        self._kept = self._dequantised()

    def let_go(self) -> None:
        """Dequantise them at each call again."""
        self._kept = None

    def dequantised(self) -> tuple[Tensor, ...]:
        """One (out_features, in_features) matrix for each linear."""
        whole = self._dequantised() if self._kept is None else self._kept
        parts: tuple[Tensor, ...] = whole.split(self._rows)
        return parts

    def _dequantised(self) -> Tensor:
        whole: Tensor = torch.ops.bitsandbytes.dequantize_4bit.default(
            self._packed, self._scales, self._blocksize, self._kind, self._shape, self._dtype
        )
        return whole


def float32_scales(state: Any) -> Tensor:
    """The scale of each block of weights, as bitsandbytes itself makes it."""
    if not state.nested:
        return state.absmax.float()  # type: ignore[no-any-return]
    scales = bitsandbytes.functional.dequantize_blockwise(state.absmax, state.state2)
    return (scales + state.offset).float()  # type: ignore[no-any-return]


class QLoRAGroup:
    """peft's LoRA layers that read the same tensor, computed together."""

    def __init__(self, layers: Sequence[Any], compute_dtype: torch.dtype) -> None:
        self.layers = list(layers)
        names = [layer.active_adapters[0] for layer in self.layers]
        self.down: list[nn.Parameter] = [layer.lora_A[n].weight for layer, n in zip(self.layers, names, strict=True)]
        self.up: list[nn.Parameter] = [layer.lora_B[n].weight for layer, n in zip(self.layers, names, strict=True)]
        self.scaling = float(self.layers[0].scaling[names[0]])
        self.ranks = [parameter.shape[0] for parameter in self.down]
        self.biases = [
            None if layer.base_layer.bias is None else layer.base_layer.bias.detach().to(compute_dtype)
            for layer in self.layers
        ]
        self.weights = Nf4Weights([layer.base_layer for layer in self.layers], compute_dtype)
        self.low_down: Tensor
        self.low_up: list[Tensor]
        self._waiting: dict[int, Tensor] = {}
        self._input: Tensor | None = None

    def bind(self, store: FlatAdapterParameters) -> None:
        """Take the half-precision adapter weights from the store; the group's A lie in it one below the other."""
        self.low_down = store.half_rows(self.down)
        self.low_up = [store.half_view(parameter) for parameter in self.up]

    def output(self, index: int, x: Tensor) -> Tensor:
        """The output of one layer; the others' are computed with it and wait until they are asked for.

        Args:
            x: (..., in_features). Another tensor than the one before makes a new computation, whatever still waits.
        """
        if x is self._input and index in self._waiting:
            found = self._waiting.pop(index)
        else:
            self._waiting = dict(enumerate(self._computed(x, parts=1)))
            self._input = x
            found = self._waiting.pop(index)
        if not self._waiting:
            self._input = None
        return found

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """For a group of one layer, its output in two, each contiguous: kernels run twice as fast as on a chunk."""
        first, second = self._computed(x, parts=2)
        return first, second

    def _computed(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = _QLoRA.apply(x, rule_of(x), self, parts, *self.down, *self.up)
        return outputs

    def columns(self, index: int) -> slice:
        """Where one layer's part lies in the group's low-rank product."""
        start = sum(self.ranks[:index])
        return slice(start, start + self.ranks[index])


class _QLoRA(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, recipe: RecomputeRule, group: QLoRAGroup, parts: int, *adapter: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        rows = x.reshape(-1, x.shape[-1])
        low_rank = product(rows, group.low_down.t(), group.scaling)
        outputs = []
        for index, weight in enumerate(group.weights.dequantised()):
            bias = group.biases[index]
            mine = low_rank[:, group.columns(index)]
            for part in _slices(weight.shape[0], parts):
                up = group.low_up[index][part].t()
                out = mine @ up if bias is None else torch.addmm(bias[part], mine, up)
                out.addmm_(rows, weight[part].t())
                outputs.append(out.view(*x.shape[:-1], -1))
        ctx.group, ctx.parts, ctx.compute, ctx.shape = group, parts, recipe.compute, x.shape
        ctx.save_for_backward(low_rank, *recipe.inputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        group: QLoRAGroup = ctx.group
        low_rank, *kept = ctx.saved_tensors
        rows = ctx.compute(*kept).reshape(-1, ctx.shape[-1])
        present = [
            _OutputGradient(number // ctx.parts, part, grad.reshape(-1, grad.shape[-1]).contiguous())
            for number, (part, grad) in enumerate(zip(_all_slices(group, ctx.parts), grads, strict=True))
            if grad is not None
        ]
        grad_up: list[Tensor | None] = [None] * len(group.layers)
        grad_low = torch.empty_like(low_rank) if len(present) == len(grads) else torch.zeros_like(low_rank)
        for index, up in enumerate(group.low_up):
            mine, columns = [one for one in present if one.layer == index], group.columns(index)
            for number, one in enumerate(mine):
                into = grad_low[:, columns]
                torch.addmm(into, one.grad, up[one.rows], beta=min(number, 1), alpha=group.scaling, out=into)
            products = [product_float32(one.grad.t(), low_rank[:, columns]) for one in mine]
            if len(products) == ctx.parts:
                grad_up[index] = products[0] if ctx.parts == 1 else torch.cat(products)
            elif products:
                grad_up[index] = torch.zeros_like(up, dtype=torch.float32)
                for one, made in zip(mine, products, strict=True):
                    grad_up[index][one.rows] = made  # type: ignore[index]
        grad_down = product_float32(grad_low.t(), rows).split(group.ranks)
        grad_x = _input_gradient(group, present, grad_low).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, None, *grad_down, *grad_up


class _OutputGradient(NamedTuple):
    layer: int
    rows: slice
    """of the layer's weight: which of its outputs"""
    grad: Tensor


def _slices(size: int, parts: int) -> list[slice]:
    step = size // parts
    return [slice(start, start + step) for start in range(0, size, step)]


def _all_slices(group: QLoRAGroup, parts: int) -> list[slice]:
    return [part for up in group.low_up for part in _slices(up.shape[0], parts)]


def _input_gradient(group: QLoRAGroup, present: list[_OutputGradient], grad_low: Tensor) -> Tensor:
    """Summed in float32 where several layers add to it; halves of one layer are one sum as stock has it."""
    weights = group.weights.dequantised()
    if len(group.layers) == 1 or grad_low.dtype == torch.float32 or not grad_low.is_cuda:
        total = grad_low @ group.low_down
        for one in present:
            total.addmm_(one.grad, weights[one.layer][one.rows])
        return total
    wide = torch.mm(grad_low, group.low_down, out_dtype=torch.float32)
    for one in present:
        add_product_float32(wide, one.grad, weights[one.layer][one.rows])
    return wide.to(grad_low.dtype)


def product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale · a b in one kernel."""
    return torch.addmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def product_float32(a: Tensor, b: Tensor) -> Tensor:
    """a b, summed and returned in float32 whatever a and b are."""
    if a.dtype == torch.float32:
        return a @ b
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def add_product_float32(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b for half-precision a, b on a GPU; ``total`` is float32 and never rounded in between."""
    torch.ops.aten.addmm.dtype_out(total, a, b, torch.float32, out=total)


NO_PLAIN_LORA = (
    "no LoRA layer over bitsandbytes' NF4 without dropout was found; load the base with load_in_4bit, attach a "
    "plain LoRA with lora_dropout 0, or leave the engine's linear off"
)


class PatchedLinears(NamedTuple):
    """What is put under the model."""

    groups: list[QLoRAGroup]
    """none: the model has no layer that can be replaced"""
    store: FlatAdapterParameters
    left_alone: list[str]
    """names of LoRA layers that stay peft's: dropout, DoRA, a bias, or more than one adapter"""


def patch_linears(model: nn.Module, compute_dtype: torch.dtype, *, share_inputs: bool = True) -> PatchedLinears:
    """Replace the forward of every plain LoRA layer over NF4 below ``model``; see `grouped_linears`.

    Raises:
        EngineError: there is no such layer.
    """
    patched = grouped_linears(model, compute_dtype, share_inputs=share_inputs)
    if not patched.groups:
        raise EngineError(NO_PLAIN_LORA)
    put_under(patched)
    return patched


def grouped_linears(model: nn.Module, compute_dtype: torch.dtype, *, share_inputs: bool = True) -> PatchedLinears:
    """The plain LoRA layers over NF4 below ``model`` in groups, their forward still peft's; all weights in the store.

    Args:
        model: with an adapter attached, on its device.
        share_inputs: compute linears with the same input together.

    Raises:
        EngineError: nothing is trained.
    """
    named = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear4bit)}
    plain = {name: module for name, module in named.items() if _is_supported(module)}
    layers: list[Any] = list(plain.values())
    for module in layers:
        module.base_layer.support_avx512bf16_for_cpu = False  # it would repack the weights under us
    together = _group_by_input(model, layers) if share_inputs and layers else [[layer] for layer in layers]
    groups = [QLoRAGroup(part, compute_dtype) for part in together]
    in_groups = [parameter for group in groups for parameter in (*group.down, *group.up)]
    known = {id(parameter) for parameter in in_groups}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    store = FlatAdapterParameters([*in_groups, *others], compute_dtype)
    for group in groups:
        group.bind(store)
    return PatchedLinears(groups, store, sorted(set(named) - set(plain)))


def apart(patched: PatchedLinears, compute_dtype: torch.dtype) -> PatchedLinears:
    """The same layers over the same store, each a group of its own."""
    groups = [QLoRAGroup([layer], compute_dtype) for group in patched.groups for layer in group.layers]
    for group in groups:
        group.bind(patched.store)
    return patched._replace(groups=groups)


def put_under(patched: PatchedLinears) -> None:
    """Let the groups compute."""
    for group in patched.groups:
        for index, layer in enumerate(group.layers):
            layer.forward = _forward(layer, group, index)
        if len(group.layers) == 1:
            group.layers[0].halves = _halves(group.layers[0], group)


def unpatch_linears(patched: PatchedLinears) -> None:
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


def _is_supported(layer: Any) -> bool:
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


def _group_by_input(model: nn.Module, layers: list[Any]) -> list[list[Any]]:
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
