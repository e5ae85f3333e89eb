"""Compute QLoRA linears: NF4 weights with a low-rank adapter, one autograd function for all that share an input.

    y_i = x W_i^T + b_i + s (x A_i^T) B_i^T

QLoRA (https://arxiv.org/abs/2305.14314, NF4 and double quantisation in section 3), LoRA
(https://arxiv.org/abs/2106.09685). Shapes: x (tokens, in), W_i (out, in) in NF4, A_i (r, in), B_i (out, r).

peft computes the same with some twenty casts and copies around it. Here the weights of a group (q, k, v; gate, up; in
Phi fc1 too) are dequantised at once and everything runs in the compute dtype; what is summed over many terms is summed
in float32: the adapter's gradients, and the input's gradient where several linears add to it.

bitsandbytes keeps the scales of double quantisation in eight bits and needs two kernels to make them float32 before
each dequantisation. Here they are made once: 4 bytes for every 64 weights, 0.16 GB for Phi-2.

Which linears share an input is not written down for each architecture: one forward pass shows it.
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

NO_PLAIN_LORA = (
    "no LoRA layer over bitsandbytes' NF4 without dropout was found; load the base with load_in_4bit, attach a "
    "plain LoRA with lora_dropout 0, or leave the engine's linear off"
)


class Nf4Weights:
    """The weights of some ``bitsandbytes.nn.Linear4bit``, packed one behind the other.

    Two weights a byte, one float32 scale for each block of (usually) 64.
    """

    def __init__(self, linears: Sequence[Any], dtype: torch.dtype) -> None:
        states = [linear.weight.quant_state for linear in linears]
        self._rows = [int(state.shape[0]) for state in states]
        self._shape = [sum(self._rows), int(states[0].shape[1])]
        self._blocksize, self._kind, self._dtype = int(states[0].blocksize), str(states[0].quant_type), dtype
        self._scales = torch.cat([float32_scales(state) for state in states])
        self._cached: Tensor | None = None
        if len(linears) == 1:
            self._packed = linears[0].weight.data
            return
        self._packed = torch.cat([linear.weight.data.view(-1, 1) for linear in linears])
        start = 0
        for linear in linears:  # the layers' own weights become views: nothing is in memory twice
            size = linear.weight.data.numel()
            linear.weight.data = self._packed[start : start + size].view(linear.weight.data.shape)
            start += size

    @property
    def dequantized_bytes(self) -> int:
        """Bytes they take when they are cached: 2 a weight in float16, for NF4's half byte."""
        return self._shape[0] * self._shape[1] * self._dtype.itemsize

    def cache_dequantized(self) -> None:
        """Hold the matrices dequantised from now on."""
        self._cached = self._dequantize()

    def drop_cache(self) -> None:
        """Dequantise them at each call again."""
        self._cached = None

    def dequantized(self) -> tuple[Tensor, ...]:
        """Return one (out_features, in_features) matrix for each linear."""
        whole = self._dequantize() if self._cached is None else self._cached
        parts: tuple[Tensor, ...] = whole.split(self._rows)
        return parts

    def _dequantize(self) -> Tensor:
        whole: Tensor = torch.ops.bitsandbytes.dequantize_4bit.default(
            self._packed, self._scales, self._blocksize, self._kind, self._shape, self._dtype
        )
        return whole


def float32_scales(state: Any) -> Tensor:
    """Return the scale of each block of weights, as bitsandbytes itself computes it from a quant_state."""
    if not state.nested:
        return state.absmax.float()  # type: ignore[no-any-return]
    scales = bitsandbytes.functional.dequantize_blockwise(state.absmax, state.state2)
    return (scales + state.offset).float()  # type: ignore[no-any-return]


class QLoRAGroup:
    """peft's LoRA layers that read the same tensor, computed together.

    Attributes:
        half_down: (sum of ranks, in), every A in the compute dtype, one below the other.
        half_up: for each layer its B, (out, r), in the compute dtype.
    """

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
        self.half_down: Tensor
        self.half_up: list[Tensor]
        self._waiting: dict[int, Tensor] = {}
        self._input: Tensor | None = None

    def bind(self, store: FlatAdapterParameters) -> None:
        """Take the half-precision adapter weights from the store, in which the group's A are neighbours."""
        self.half_down = store.half_rows(self.down)
        self.half_up = [store.half_view(parameter) for parameter in self.up]

    def output(self, index: int, x: Tensor) -> Tensor:
        """Return the output of one layer; the others' are computed with it and wait for their turn.

        Args:
            x: (..., in_features). A tensor other than the one before starts a new computation, whatever still waits.
        """
        if x is self._input and index in self._waiting:
            found = self._waiting.pop(index)
        else:
            self._waiting = dict(enumerate(self._compute(x, parts=1)))
            self._input = x
            found = self._waiting.pop(index)
        if not self._waiting:
            self._input = None
        return found

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a single layer's output in two contiguous halves: on chunks, kernels take twice as long."""
        first, second = self._compute(x, parts=2)
        return first, second

    def _compute(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = _QLoRA.apply(x, rule_of(x), self, parts, *self.down, *self.up)
        return outputs

    def columns(self, index: int) -> slice:
        """Return the columns of one layer in the group's low-rank product, (tokens, sum of ranks)."""
        start = sum(self.ranks[:index])
        return slice(start, start + self.ranks[index])


class _OutputGradient(NamedTuple):
    layer: int
    rows: slice
    """of the layer's weight: which of its outputs"""
    grad: Tensor
    """(tokens, outputs), contiguous"""


class _QLoRA(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rule: RecomputeRule, group: QLoRAGroup, parts: int, *adapter: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        # 1. Every adapter's first product at once, the scaling folded in: (tokens, sum of ranks)
        rows = x.reshape(-1, x.shape[-1])
        low_rank = product(rows, group.half_down.t(), group.scaling)
        # 2. The adapter's part first, then the base's product on top of it: the other way round, float16 would round
        #    a young adapter's small part away
        outputs = []
        for index, weight in enumerate(group.weights.dequantized()):
            bias = group.biases[index]
            mine = low_rank[:, group.columns(index)]
            for part in _slices(weight.shape[0], parts):
                up = group.half_up[index][part].t()
                out = mine @ up if bias is None else torch.addmm(bias[part], mine, up)
                out.addmm_(rows, weight[part].t())
                outputs.append(out.view(*x.shape[:-1], -1))
        # 3. Saved: the low-rank product and what the input is computed from; the weights stay in NF4
        ctx.group, ctx.parts, ctx.compute, ctx.shape = group, parts, rule.compute, x.shape
        ctx.save_for_backward(low_rank, *rule.inputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        group: QLoRAGroup = ctx.group
        # 1. The input again, (tokens, in), and the gradients of the outputs that were used
        low_rank, *saved = ctx.saved_tensors
        rows = ctx.compute(*saved).reshape(-1, ctx.shape[-1])
        slices = [part for up in group.half_up for part in _slices(up.shape[0], ctx.parts)]
        present = [
            _OutputGradient(number // ctx.parts, part, grad.reshape(-1, grad.shape[-1]).contiguous())
            for number, (part, grad) in enumerate(zip(slices, grads, strict=True))
            if grad is not None
        ]
        # 2. Of each B, summed over the tokens in float32; beside it s · grad B, the gradient of x A^T
        grad_up: list[Tensor | None] = [None] * len(group.layers)
        grad_low = torch.empty_like(low_rank) if len(present) == len(grads) else torch.zeros_like(low_rank)
        for index, up in enumerate(group.half_up):
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
        # 3. Of every A at once
        grad_down = product_float32(grad_low.t(), rows).split(group.ranks)
        if not ctx.needs_input_grad[0]:  # the embedding's output
            return None, None, None, None, *grad_down, *grad_up
        # 4. Of the input: in float32 where several layers add to it; one layer's halves are one sum, as in stock
        weights = group.weights.dequantized()
        if len(group.layers) == 1 or grad_low.dtype == torch.float32 or not grad_low.is_cuda:
            grad_x = grad_low @ group.half_down
            for one in present:
                grad_x.addmm_(one.grad, weights[one.layer][one.rows])
        else:
            wide = torch.mm(grad_low, group.half_down, out_dtype=torch.float32)
            for one in present:
                add_product_float32(wide, one.grad, weights[one.layer][one.rows])
            grad_x = wide.to(grad_low.dtype)
        return grad_x.view(ctx.shape), None, None, None, *grad_down, *grad_up


def _slices(size: int, parts: int) -> list[slice]:
    step = size // parts
    return [slice(start, start + step) for start in range(0, size, step)]


def product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return scale · a b, computed in one kernel."""
    return torch.addmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def product_float32(a: Tensor, b: Tensor) -> Tensor:
    """Return a b, summed and returned in float32 whatever a and b are."""
    if a.dtype == torch.float32:
        return a @ b
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def add_product_float32(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b to ``total`` for half-precision a, b on a GPU; ``total`` is float32 and never rounded in between."""
    torch.ops.aten.addmm.dtype_out(total, a, b, torch.float32, out=total)


class PatchedLinears(NamedTuple):
    """Groups of LoRA layers and the store that holds their weights."""

    groups: list[QLoRAGroup]
    """none: the model has no layer that can be replaced"""
    store: FlatAdapterParameters
    unpatched_layers: list[str]
    """names of LoRA layers that stay peft's: dropout, DoRA, a bias, or more than one adapter"""


def patch_linears(model: nn.Module, compute_dtype: torch.dtype, *, share_inputs: bool = True) -> PatchedLinears:
    """Replace the forward of every plain LoRA layer over NF4 below ``model``; see `group_linears`.

    Raises:
        EngineError: there is no such layer.
    """
    patched = group_linears(model, compute_dtype, share_inputs=share_inputs)
    if not patched.groups:
        raise EngineError(NO_PLAIN_LORA)
    install_linears(patched)
    return patched


def group_linears(model: nn.Module, compute_dtype: torch.dtype, *, share_inputs: bool = True) -> PatchedLinears:
    """Group the plain LoRA layers over NF4 below ``model`` and move all trained weights into one store.

    Their forward is still peft's afterwards.

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
    # A before B within a group: the A of a group are neighbours in the store, and one matrix
    in_groups = [parameter for group in groups for parameter in (*group.down, *group.up)]
    known = {id(parameter) for parameter in in_groups}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    store = FlatAdapterParameters([*in_groups, *others], compute_dtype)
    for group in groups:
        group.bind(store)
    return PatchedLinears(groups, store, sorted(set(named) - set(plain)))


def ungroup(patched: PatchedLinears, compute_dtype: torch.dtype) -> PatchedLinears:
    """Return the same layers over the same store, each a group of its own."""
    groups = [QLoRAGroup([layer], compute_dtype) for group in patched.groups for layer in group.layers]
    for group in groups:
        group.bind(patched.store)
    return patched._replace(groups=groups)


def install_linears(patched: PatchedLinears) -> None:
    """Let the groups compute in place of peft's forward."""

    def forward_of(layer: Any, group: QLoRAGroup, index: int) -> Callable[..., Tensor]:
        stock = type(layer).forward

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if args or kwargs or layer.disable_adapters or layer.merged:
                return stock(layer, x, *args, **kwargs)  # type: ignore[no-any-return]
            return group.output(index, x)

        return forward

    def halves_of(layer: Any, group: QLoRAGroup) -> Callable[[Tensor], tuple[Tensor, ...]]:
        def halves(x: Tensor) -> tuple[Tensor, ...]:
            if layer.disable_adapters or layer.merged:
                return layer(x).chunk(2, dim=-1)  # type: ignore[no-any-return]
            return group.halves(x)

        return halves

    for group in patched.groups:
        for index, layer in enumerate(group.layers):
            layer.forward = forward_of(layer, group, index)
        if len(group.layers) == 1:
            group.layers[0].halves = halves_of(group.layers[0], group)


def unpatch_linears(patched: PatchedLinears) -> None:
    """Give the layers back peft's forward; the weights stay where they are, trained."""
    for group in patched.groups:
        for layer in group.layers:
            del layer.forward
        if len(group.layers) == 1:
            del group.layers[0].halves


def _is_supported(layer: Any) -> bool:
    """Return whether a LoRA layer is plain: NF4 below, one adapter, no DoRA, no bias of its own, no dropout."""
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
    """Group layers that get the very same tensor in a forward pass over three tokens, in the order of their calls.

    A layer that runs more than once in a pass (shared between blocks), or never, is a group of its own.
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

    def kind(layer: Any) -> tuple[Any, ...]:  # what a group has only one of
        state = layer.base_layer.weight.quant_state
        return layer.scaling[layer.active_adapters[0]], state.blocksize, state.quant_type

    calls = Counter(id(layer) for layer, _ in seen)
    groups: list[tuple[Tensor, list[Any]]] = []
    for layer, x in seen:
        if calls[id(layer)] > 1:
            continue
        fitting = [part for shared, part in groups if shared is x and kind(part[0]) == kind(layer)]
        if fitting:
            fitting[0].append(layer)
        else:
            groups.append((x, [layer]))
    return [part for _, part in groups] + [[layer] for layer in layers if calls[id(layer)] != 1]


def run_three_tokens(model: nn.Module) -> Any:
    """Run a forward pass without gradient, after which the random state is what it was; return its output."""
    device = next(model.parameters()).device
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return model(input_ids=torch.tensor([[1, 2, 3]], device=device), use_cache=False)
