"""Peak GPU memory of a run by part, as `torch.cuda.max_memory_allocated` would report it, without running it.

Two moments can be the peak: the loss head, when every layer's activations are kept, and the backward pass of the last
layer. With a CUDA graph the peak is at its making, before there is an optimizer. Nothing here is fitted to
measurements; `benchmarks/plan_memory.py` compares it with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from bonsai.recipes.training.plan.activations import (
    FULL,
    LOW,
    kept,
    kept_unmarked,
    layer_backward,
    logsumexp,
    loss_head,
)
from bonsai.recipes.training.plan.packing import Rows
from bonsai.recipes.training.plan.shapes import Shape

GIB = 2**30
_BLOCK, _BLOCKS_A_BLOCK = 64, 256
"""NF4: weights with one scale, and scales with one second-level scale (bitsandbytes' double quantisation)"""

HOPPER_WORKSPACE = 32 * 2**20
WORKSPACE = 8519680
"""bytes PyTorch gives cuBLAS for each thread and stream (CUBLAS_WORKSPACE_CONFIG's default), on Hopper and elsewhere"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What of a recipe decides about memory."""

    r: int
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    accumulates: bool = False
    """gradients of earlier micro-steps wait during the next"""
    checkpointing: bool = False
    """each layer made again from its input instead of kept: the engine's `Pieces(recompute=False)`"""


class Part(NamedTuple):
    """A share of the peak."""

    name: str
    bytes: int


class Peak(NamedTuple):
    """The peak and what it is made of."""

    moment: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def gib(self) -> float:
        """Of all parts."""
        return self.bytes / GIB


def quantised_bytes(shape: Shape) -> tuple[int, int]:
    """Of the layers in NF4, and of their scales, themselves in 8 bits."""
    quantised = shape.num_hidden_layers * shape.layer_weights()
    scales = quantised // _BLOCK
    return quantised // 2, scales + FULL * scales // _BLOCKS_A_BLOCK


def weights(shape: Shape) -> tuple[Part, ...]:
    """The base as it lies on the GPU."""
    quantised = shape.num_hidden_layers * shape.layer_weights()
    embeddings = shape.parameters() - quantised
    norms = shape.num_hidden_layers * 2 * 2 * shape.hidden_size
    return (
        Part("base in NF4", sum(quantised_bytes(shape))),
        Part("its scales in float32", FULL * (quantised // _BLOCK)),
        Part("embedding, head, norms in float16", LOW * (embeddings + norms)),
    )


def peak(shape: Shape, setting: Setting, rows: Rows, *, graph: bool = False, workspace: int = WORKSPACE) -> Peak:
    """The peak of a training step.

    Args:
        graph: while a CUDA graph of the layers is made, which the engine tries on every GPU; else without one.
        workspace: bytes of one cuBLAS workspace.
    """
    made_again = not setting.checkpointing
    layers, tokens = shape.num_hidden_layers, rows.most_tokens
    if setting.checkpointing:
        graph = False  # the engine makes none then
    sums = logsumexp(shape, rows, graph=graph)
    if setting.checkpointing:
        activations = LOW * layers * tokens * shape.hidden_size
        one_layer = tokens * kept_unmarked(shape, setting.r).bytes + sums
    else:
        activations = layers * (tokens * kept(shape, setting.r).bytes + sums)
        one_layer = 0
    backward = one_layer + layer_backward(shape, rows, graph=graph, made_again=made_again)
    head = loss_head(shape, rows)
    trained = shape.adapter_weights(setting.r, setting.target_modules)
    static = (*weights(shape), Part("adapter, float32 and float16", (FULL + LOW) * trained))
    if graph:
        return Peak(
            "while the CUDA graph is made",
            (
                *static,
                Part("gradients", FULL * trained),
                Part("kept activations", activations),
                Part("backward of a layer", backward + 2 * LOW * tokens * shape.hidden_size),
                Part("cuBLAS workspaces", 5 * workspace),  # one thread before; two threads each on two streams
            ),
        )
    worst = Part("logits and loss", head) if head >= backward else Part("backward of a layer", backward)
    return Peak(
        "in the loss head" if head >= backward else "in the last layer's backward pass",
        (
            *static,
            Part("optimizer (AdamW)", 2 * FULL * trained),
            *([Part("gradients", FULL * trained)] if setting.accumulates else []),
            Part("kept activations", activations),
            worst,
            Part("cuBLAS workspaces", 2 * workspace),
        ),
    )


def held_with_graph(shape: Shape, setting: Setting, rows: Rows, *, workspace: int = WORKSPACE) -> int:
    """Bytes a run with a CUDA graph needs: the graph keeps its memory, and optimizer and loss head need theirs."""
    trained = shape.adapter_weights(setting.r, setting.target_modules)
    making = peak(shape, setting, rows, graph=True, workspace=workspace).bytes
    return making + 2 * FULL * trained + loss_head(shape, rows)
