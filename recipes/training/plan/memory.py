"""Estimate the peak GPU memory of a run, by part, without running it.

The counts follow the modules of `bonsai.recipes.training.engine` and transformers' Phi, Phi-3 and Llama layers; a test
compares them with what autograd really saves. Sizes are in numbers of the compute dtype for each token, if nothing else
is said.

Two moments can be the peak: the loss head, when every layer's activations are kept, and the backward pass of the last
layer. With a CUDA graph the peak is at its making, before there is an optimizer. Nothing here is fitted to
measurements; `benchmarks/plan_memory.py` compares it with them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bonsai.recipes.training.plan.model_shapes import Linear, ModelShape


class Length(NamedTuple):
    """One record, in tokens."""

    prompt: int
    completion: int
    """with the end mark"""

    @property
    def whole(self) -> int:
        """Prompt and completion."""
        return self.prompt + self.completion


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the rows of one run never exceed, and what they hold together."""

    rows: int
    """without batching"""
    records: int
    tokens: int
    """of all records"""
    learnt: int
    """of them in completions"""
    attended: int
    """sum of the squares of the records' lengths: what attention within records costs"""
    most_tokens: int
    most_learnt: int
    most_records: int
    longest: int
    """tokens of the longest record"""
    most_padded: int
    """records of a row times its longest, the greatest: what the attention kernel pads its own buffers to"""


PACKED_TOGETHER = 1000
"""records: `trl.pack_dataset` maps over the dataset in batches of datasets' default size, and packs each by itself"""


def packed_rows(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices of the records in each row, as `trl.pack_dataset(strategy="bfd")` puts them."""
    starts = range(0, len(lengths), PACKED_TOGETHER)
    return [
        [start + index for index in row]
        for start in starts
        for row in best_fit_decreasing(lengths[start : start + PACKED_TOGETHER], room)
    ]


def best_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Longest first; each goes where the least space is left that still holds it, among equals where it came up first.

    https://huggingface.co/papers/2404.10830
    """
    spaces: list[int] = []  # distinct, ascending
    rows_with: defaultdict[int, deque[int]] = defaultdict(deque)
    packed: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = min(lengths[index], room)
        if length == 0:
            continue
        place = bisect_left(spaces, length)
        if place < len(spaces):
            space = spaces[place]
            row = rows_with[space].popleft()
            if not rows_with[space]:
                spaces.pop(place)
        else:
            row = len(packed)
            packed.append([])
            left.append(room)
        packed[row].append(index)
        left[row] -= length
        if left[row]:
            if not rows_with[left[row]]:
                insort(spaces, left[row])
            rows_with[left[row]].append(row)
    return packed


def rows_of(records: Sequence[Length], max_length: int, *, packing: bool, batch: int) -> Rows:
    """The rows of a run; rows of one micro-batch are joined, as the padding-free collator joins packed ones.

    Args:
        max_length: a longer record counts as cut to it.
        batch: rows a micro-step. Unpacked ones are padded to the longest, and the worst batch is taken that chance can
            draw.
    """
    whole = [min(record.whole, max_length) for record in records]
    if packing:
        single = packed_rows(whole, max_length)
    else:
        single = [[number] for number in sorted(range(len(records)), key=lambda number: -whole[number])]
    joined = [[index for row in single[at : at + batch] for index in row] for at in range(0, len(single), batch)]
    lengths = [[whole[index] for index in row] for row in joined]
    return Rows(
        rows=len(single),
        records=len(records),
        tokens=sum(whole),
        learnt=sum(record.completion for record in records),
        attended=sum(length**2 for length in whole),
        most_tokens=max(sum(row) if packing else len(row) * max(row) for row in lengths),
        most_learnt=max(sum(records[index].completion for index in row) for row in joined),
        most_records=max(map(len, joined)),
        longest=max(whole),
        most_padded=max(len(row) * max(row) for row in lengths),
    )


CHUNK = 512
"""positions a time in the loss head (`engine.loss_head.CHUNK`, repeated here because that module imports torch)"""
LOW, FULL = 2, 4
"""bytes of a float16 and of a float32"""
_KERNEL_QUERIES = 128
"""queries and head size are padded to this in the attention kernel's backward buffer (kBlockSizeI, sm75 and sm80)"""
_KERNEL_HEADER = 16
"""bytes of lock and counter before each block of that buffer"""
_LOGSUMEXP_STEP = 32


class SavedActivations(NamedTuple):
    """Kept for the backward pass, a token and layer."""

    numbers: int
    """in the compute dtype"""
    float32: int
    masks: int
    """bytes: dropout's"""

    @property
    def bytes(self) -> int:
        """In float16."""
        return LOW * self.numbers + FULL * self.float32 + self.masks


def groups(shape: ModelShape) -> list[list[Linear]]:
    """Linears that read the same and are dequantised together."""
    found: dict[str, list[Linear]] = {}
    for linear in shape.linears():
        found.setdefault(linear.reads, []).append(linear)
    return list(found.values())


def saved_activations(shape: ModelShape, r: int) -> SavedActivations:
    """One layer under the engine's saved-tensor policy; the attention's sums are in `logsumexp`."""
    hidden, inner, q, kv = shape.hidden_size, shape.intermediate_size, shape.query_width, shape.key_width
    low_rank = r * len(shape.linears())
    dropped = 2 if shape.resid_pdrop > 0 else 0
    if (
        shape.kind == "phi"
    ):  # layer input; q, k turned; v; attention's output; fc1's output. Norm and GELU are made again
        return SavedActivations(hidden + q + 2 * kv + q + inner + low_rank, 2, dropped * hidden)
    joined = 0 if shape.kind == "llama" else q + kv  # v is a view of the joint product, which is kept whole with it
    norms = 2  # float32 each: rsqrt of the mean square; Phi-3-small's LayerNorm keeps the mean too
    # layer input; q, k turned; v; attention's output; the sum before the second norm; gate and up
    return SavedActivations(hidden + q + 2 * kv + joined + q + hidden + 2 * inner + low_rank, norms, dropped * hidden)


def saved_activations_without_recompute(shape: ModelShape, r: int) -> SavedActivations:
    """One layer with nothing dropped: what checkpointing makes again, a layer at a time."""
    policy = saved_activations(shape, r)
    norms = 1 if shape.kind == "phi" else 2
    return policy._replace(numbers=policy.numbers + norms * shape.hidden_size + shape.intermediate_size)


def logsumexp(shape: ModelShape, rows: Rows, *, graph: bool) -> int:
    """Bytes a layer keeps of the softmax: for each record, padded to the longest."""
    filled = (rows.most_records + 1) * _up(rows.longest, _LOGSUMEXP_STEP)  # a graph's row ends in one more record
    padded = filled if graph else rows.most_padded
    return FULL * shape.num_attention_heads * padded


def attention_buffer(shape: ModelShape, rows: Rows, *, graph: bool) -> int:
    """Bytes in which the memory-efficient kernel sums dq in float32: for each record, padded to the longest."""
    if graph:
        blocks = (rows.most_records + 1) * (_up(rows.longest, _KERNEL_QUERIES) // _KERNEL_QUERIES)
    else:
        blocks = _up(rows.most_padded, _KERNEL_QUERIES) // _KERNEL_QUERIES + rows.most_records // 2
    columns = _up(shape.head_dim, _KERNEL_QUERIES) // _KERNEL_QUERIES
    return shape.num_attention_heads * blocks * columns * (FULL * _KERNEL_QUERIES**2 + _KERNEL_HEADER)


def loss_head(shape: ModelShape, rows: Rows) -> int:
    """Bytes while the loss is taken: hidden states, their gradient, and a chunk of logits three times over.

    Low, float32, and logsumexp's own copy of the float32 ones.
    """
    chunk = min(CHUNK, rows.most_learnt) * shape.vocab_size * (LOW + 2 * FULL)
    return chunk + LOW * shape.hidden_size * (rows.most_tokens + 2 * rows.most_learnt)


def layer_backward(shape: ModelShape, rows: Rows, *, graph: bool, made_again: bool) -> int:
    """Bytes beside what is kept at the worst moment of the last layer's backward, less what it has freed by then.

    Args:
        made_again: norms' and activations' outputs are computed again here (they were not kept).
    """
    hidden, inner, q = shape.hidden_size, shape.intermediate_size, shape.query_width
    tokens = LOW * rows.most_tokens
    weights = {group[0].reads: LOW * sum(linear.weights for linear in group) for group in groups(shape)}
    residual, again = hidden, inner if made_again else 0
    last = tokens * (residual + hidden * (shape.resid_pdrop > 0) + again + inner) + weights["activation"]
    gqa = 2 * q if shape.key_width < q else 0  # keys and values repeated for each query head
    buffer = attention_buffer(shape, rows, graph=graph)
    if shape.kind == "phi":  # fc1's gradient waits while its output is freed
        return max(last, tokens * (residual + 4 * q + gqa) + buffer)
    gated = tokens * (residual + 3 * inner)
    summed = 4 * hidden if shape.kind == "llama" else 2 * hidden  # two linears' gradients are summed in float32
    second = tokens * (residual + summed) + weights["second norm"]
    attention = tokens * (4 * q + gqa - 2 * inner) + buffer
    return max(last, gated, second, attention)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


GIB = 2**30
_BLOCK, _BLOCKS_A_BLOCK = 64, 256
"""NF4: weights with one scale, and scales with one second-level scale (bitsandbytes' double quantisation)"""

HOPPER_WORKSPACE = 32 * 2**20
WORKSPACE = 8519680
"""bytes PyTorch gives cuBLAS for each thread and stream (CUBLAS_WORKSPACE_CONFIG's default), on Hopper and elsewhere"""


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
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


def quantised_bytes(shape: ModelShape) -> tuple[int, int]:
    """Of the layers in NF4, and of their scales, themselves in 8 bits."""
    quantised = shape.num_hidden_layers * shape.layer_weights()
    scales = quantised // _BLOCK
    return quantised // 2, scales + FULL * scales // _BLOCKS_A_BLOCK


def weights(shape: ModelShape) -> tuple[Part, ...]:
    """The base as it lies on the GPU."""
    quantised = shape.num_hidden_layers * shape.layer_weights()
    embeddings = shape.parameters() - quantised
    norms = shape.num_hidden_layers * 2 * 2 * shape.hidden_size
    return (
        Part("base in NF4", sum(quantised_bytes(shape))),
        Part("its scales in float32", FULL * (quantised // _BLOCK)),
        Part("embedding, head, norms in float16", LOW * (embeddings + norms)),
    )


def estimate_peak(
    shape: ModelShape, setting: MemoryOptions, rows: Rows, *, graph: bool = False, workspace: int = WORKSPACE
) -> Peak:
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
        one_layer = tokens * saved_activations_without_recompute(shape, setting.r).bytes + sums
    else:
        activations = layers * (tokens * saved_activations(shape, setting.r).bytes + sums)
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


def peak_with_cuda_graph(shape: ModelShape, setting: MemoryOptions, rows: Rows, *, workspace: int = WORKSPACE) -> int:
    """Bytes a run with a CUDA graph needs: the graph keeps its memory, and optimizer and loss head need theirs."""
    trained = shape.adapter_weights(setting.r, setting.target_modules)
    making = estimate_peak(shape, setting, rows, graph=True, workspace=workspace).bytes
    return making + 2 * FULL * trained + loss_head(shape, rows)
