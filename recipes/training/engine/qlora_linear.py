"""Linears in NF4 with a low-rank adapter, as one autograd function for all linears that share an input.

y_i = x W_i^T + b_i + s (x A_i^T) B_i^T   (QLoRA, https://arxiv.org/abs/2305.14314)

peft computes the same with some twenty casts and copies around it. Here the weights of a group (q, k, v; gate, up; in
Phi fc1 too) are dequantised at once, everything runs in the compute dtype, and what is summed over many terms is summed
in float32: the adapter's gradients, and the input's gradient where several linears add to it. The adapter's part comes
first and the base's product is added to it: the other way round, float16 would round a young adapter's small part away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bonsai.recipes.training.engine.adapter_store import AdapterStore
from bonsai.recipes.training.engine.nf4_weights import Nf4Weights
from bonsai.recipes.training.engine.recompute import Recipe, recipe_of


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

    def bind(self, store: AdapterStore) -> None:
        """Take the half-precision adapter weights from the store; the group's A lie in it one below the other."""
        self.low_down = store.low_rows(self.down)
        self.low_up = [store.low_of(parameter) for parameter in self.up]

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
        outputs: tuple[Tensor, ...] = _QLoRA.apply(x, recipe_of(x), self, parts, *self.down, *self.up)
        return outputs

    def columns(self, index: int) -> slice:
        """Where one layer's part lies in the group's low-rank product."""
        start = sum(self.ranks[:index])
        return slice(start, start + self.ranks[index])


class _QLoRA(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, recipe: Recipe, group: QLoRAGroup, parts: int, *adapter: Tensor
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
