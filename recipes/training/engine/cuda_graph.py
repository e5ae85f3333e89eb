"""Replay the layers as CUDA graphs, and cache dequantized weights in free GPU memory.

A graph replays fixed shapes (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs), so a packed row is
padded to the full length with one more record that has no labels, and its bounds with empty records: of a limit of 8
tokens and 3 records, bounds [0, 3, 5] become [0, 3, 5, 8, 8]. Whether a graph pays is measured when it is captured: on
an H100 it halves the step; on a slower GPU, where kernels take longer than their launches, it is dropped. Capturing
runs whole steps, so the memory that is left over is known then too.

Each matrix is dequantised twice in a step, which is a tenth of the step. During training nobody else uses the GPU's
memory beyond the peak: it holds as many dequantised matrices as fit, until something needs the room.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bonsai.recipes.training.engine.linear import Nf4Weights
from bonsai.recipes.training.engine.optimizer import FlatAdapterParameters

_LOG = logging.getLogger(__name__)
_WORTH = 0.9
"""a graph is kept if a step takes less than this part of the time it takes without"""
_FRAGMENTS = 1.15
"""what PyTorch reserves on the GPU, relative to the most its tensors take"""
MARGIN = 2**29
"""bytes that stay free: fragments, and libraries' own workspaces"""


@dataclass(frozen=True, kw_only=True)
class PackedRowLimits:
    """Upper limits of the packed rows of a dataset."""

    tokens: int
    longest: int
    """tokens of the longest record"""
    records: int

    def fits(self, tokens: int, longest: int, records: int) -> bool:
        """Return whether a row fits, including the record that pads it."""
        padding = self.tokens - tokens
        return 0 <= padding <= self.longest and longest <= self.longest and records <= self.records


class StepGraph:
    """Two graphs over static tensors, forward and backward; gradients are added to the store's buffer.

    Args:
        layers: the model's backbone, called with keyword arguments.
        limits: fix the shapes: ids and positions (1, tokens) int64, bounds (records + 2,) int32.

    Attributes:
        eager_seconds: a forward and backward pass without the graphs; ``graph_seconds`` with them.
        eager_peak: bytes that tensors take at most in a step without the graphs.

    Raises:
        torch.OutOfMemoryError: the graphs' own pool of activations does not fit.
    """

    def __init__(self, layers: Callable[..., Any], store: FlatAdapterParameters, limits: PackedRowLimits) -> None:
        # 1. Static tensors. The rows that the graphs are timed on are full of records as long as the longest
        device = store.flat.device
        self._limits = limits
        self._ids = torch.zeros(1, limits.tokens, dtype=torch.int64, device=device)
        self._positions = torch.zeros_like(self._ids)
        self._padding = torch.arange(limits.tokens, device=device)[None]
        self._bounds = torch.full((limits.records + 2,), limits.tokens, dtype=torch.int32, device=device)
        self._set_bounds(torch.arange(0, limits.tokens, limits.longest, device=device))
        self._layers, self._store = layers, store
        self._anchor = store.flat
        gradients = store.accumulation_views()
        # 2. Warm up on a side stream, as capturing asks for, and time a step
        torch.cuda.reset_peak_memory_stats()
        stream = _side_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                hidden = self._forward()
                self._grad = torch.zeros_like(hidden)
                self._backward(hidden, gradients)
            self.eager_seconds = _seconds(lambda: self._backward(self._forward(), gradients))
            del hidden
        torch.cuda.current_stream().wait_stream(stream)
        self.eager_peak = torch.cuda.max_memory_allocated()
        # 3. Capture; the backward graph reads activations that the forward graph leaves in the pool they share
        self._graphs = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graphs[0], capture_error_mode="thread_local"):  # NCCL has threads too
            self._hidden = self._forward()
        with torch.cuda.graph(self._graphs[1], pool=self._graphs[0].pool(), capture_error_mode="thread_local"):
            self._backward(self._hidden, gradients)
        self._hidden = self._hidden.detach()
        # 4. Time the replay, after one that pays for the first launch
        self._graphs[0].replay()

        def replay() -> None:
            for graph in self._graphs:
                graph.replay()

        self.graph_seconds = _seconds(replay)
        store.clear_accumulated()

    @property
    def is_faster(self) -> bool:
        """Return whether a step with the graphs is enough faster to keep them."""
        return self.graph_seconds < _WORTH * self.eager_seconds

    def run(self, input_ids: Tensor, position_ids: Tensor, bounds: Tensor) -> Tensor:
        """Return the last hidden states of one packed row that fits the limits.

        Args:
            input_ids: (1, tokens), as ``position_ids``.
            bounds: int32, the start of each record and the end of the last.

        Returns:
            (1, tokens, hidden size), differentiable; its backward pass replays the second graph.
        """
        tokens = input_ids.shape[1]
        self._ids[:, :tokens].copy_(input_ids)
        self._positions[:, :tokens].copy_(position_ids)
        self._positions[:, tokens:].copy_(self._padding[:, : self._limits.tokens - tokens])
        self._set_bounds(bounds)
        return _Replay.apply(self._anchor, self)[:, :tokens]  # type: ignore[no-any-return]

    def _set_bounds(self, bounds: Tensor) -> None:
        self._bounds.fill_(self._limits.tokens)
        self._bounds[: bounds.numel()].copy_(bounds)

    def _forward(self) -> Tensor:
        output = self._layers(
            input_ids=self._ids,
            position_ids=self._positions,
            cu_seq_lens_q=self._bounds,
            max_length_q=self._limits.longest,
            use_cache=False,
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _backward(self, hidden: Tensor, gradients: list[Tensor]) -> None:
        found = torch.autograd.grad(hidden, self._store.parameters, self._grad)
        torch._foreach_add_(gradients, list(found))

    def replay_forward(self) -> Tensor:
        """Replay the forward pass; return the static hidden states."""
        self._graphs[0].replay()
        return self._hidden

    def replay_backward(self, grad: Tensor) -> None:
        """Replay the backward pass from the gradient of the hidden states."""
        self._grad.copy_(grad)
        self._graphs[1].replay()


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, graph: StepGraph) -> Tensor:
        ctx.graph = graph
        return graph.replay_forward().detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        ctx.graph.replay_backward(grads[0])
        return None, None


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """Return one stream for all graphs: cuBLAS keeps a workspace for each stream it ever ran on."""
    return torch.cuda.Stream(device)


def _seconds(work: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


class GraphTrial(NamedTuple):
    """The outcome of capturing a graph."""

    graph: StepGraph | None
    """None if it does not pay or memory did not suffice"""
    in_use: int | None
    """bytes that a step takes on the GPU, with the graph or without; None if memory did not suffice"""


def try_cuda_graph(layers: Callable[..., Any], store: FlatAdapterParameters, limits: PackedRowLimits) -> GraphTrial:
    """Capture the graphs and time them against steps without."""
    try:
        with torch.autocast("cuda", enabled=False):  # the trainer's is on; the backward pass must be captured without
            graph = StepGraph(layers, store, limits)
    except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
        short = isinstance(error, torch.OutOfMemoryError)
        reason = "not enough memory for its own pool of activations" if short else str(error).splitlines()[0]
        _LOG.warning("no CUDA graph: %s", reason)
        store.clear_accumulated()
        return GraphTrial(None, None)
    times = f"{graph.graph_seconds * 1e3:.0f} ms with, {graph.eager_seconds * 1e3:.0f} ms without"
    if not graph.is_faster:
        _LOG.info("no CUDA graph, it would not pay: %s", times)
        return GraphTrial(None, int(_FRAGMENTS * graph.eager_peak))
    _LOG.info("CUDA graph for the layers: %s", times)
    torch.cuda.empty_cache()
    return GraphTrial(graph, torch.cuda.memory_reserved())


class DequantizedWeightCache:
    """The weights of a model's groups, some of them cached dequantised."""

    def __init__(self, weights: Sequence[Nf4Weights]) -> None:
        self.weights = list(weights)
        self._cached: list[Nf4Weights] = []

    @property
    def cached_bytes(self) -> int:
        """Bytes of all cached matrices."""
        return sum(one.dequantized_bytes for one in self._cached)

    def summary(self) -> str:
        """Describe the cache in a few words, for the run's record."""
        return (
            f"{len(self._cached)} of {len(self.weights)} weights kept dequantised, {self.cached_bytes / 2**30:.1f} GiB"
        )

    def fill(self, room: int) -> bool:
        """Cache what fits into ``room`` bytes, the model's first layers first; return whether anything did."""
        for one in self.weights:
            if one.dequantized_bytes <= room:
                one.cache_dequantized()
                self._cached.append(one)
                room -= one.dequantized_bytes
        return bool(self._cached)

    def drop(self) -> None:
        """Give all of it back."""
        while self._cached:
            self._cached.pop().drop_cache()


def free_gpu_bytes(in_use: int, needed_later: int) -> int:
    """Return the bytes of the current GPU that stay free; negative: so many are missing.

    Args:
        in_use: bytes this process takes at its peak so far.
        needed_later: bytes it will take besides.
    """
    free, total = torch.cuda.mem_get_info()
    allowed = min(free + torch.cuda.memory_reserved(), int(torch.cuda.get_per_process_memory_fraction() * total))
    return allowed - in_use - needed_later - MARGIN
