"""Estimate the peak GPU memory of a run, by part, without running it.

    rows = rows_of([Length(300, 200), Length(40, 100)], 2048, packing=True, batch=1)
    estimate_peak(SHAPES["phi2"], PlanSettings(r=16), rows).gib

The counts follow the modules of `bonsai.recipes.training.engine` and transformers' Phi, Phi-3 and Llama layers; a test
compares them with what autograd really saves. Unless stated otherwise, sizes are numbers of the compute dtype for each
token.

Two moments can be the peak: the loss head, when every layer's activations are saved, and the backward pass of the last
layer. With a CUDA graph the peak is during its capture, before there is an optimizer. Nothing here is fitted to
measurements; `benchmarks/plan_memory.py` compares it with them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from bonsai.recipes.training.plan.gpus import T4
from bonsai.recipes.training.plan.model_shapes import Linear, ModelShape
from bonsai.recipes.training.recipe import Recipe

GIB = 2**30
LOW, FULL = 2, 4
"""bytes of a float16 and of a float32"""
PACKED_TOGETHER = 1000
"""records: `trl.pack_dataset` maps over the dataset in batches of datasets' default size, and packs each by itself"""
CHUNK = 512
"""positions at a time in the loss head (`engine.loss.CHUNK`, repeated here because that module imports torch)"""
_BLOCK, _BLOCKS_A_BLOCK = 64, 256
"""NF4: weights with one scale, and scales with one second-level scale (double quantisation: section 3 of
https://arxiv.org/abs/2305.14314)"""
_KERNEL_QUERIES = 128
"""queries and head size are padded to this in the attention kernel's backward buffer (kBlockSizeI, sm75 and sm80)"""
_KERNEL_HEADER = 16
"""bytes of lock and counter before each block of that buffer"""
_LOGSUMEXP_STEP = 32
"""to which the attention kernel pads a record's logsumexp"""


class Length(NamedTuple):
    """One record, in tokens."""

    prompt: int
    completion: int
    """including the end mark"""

    @property
    def whole(self) -> int:
        """Tokens of prompt and completion."""
        return self.prompt + self.completion


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Maxima and totals of the rows of one run; a row is what one micro-step trains on."""

    rows: int
    """before rows of a micro-batch are joined"""
    records: int
    tokens: int
    """of all records"""
    learnt: int
    """of them with a label: in completions"""
    attended: int
    """sum of the squares of the records' lengths: what attention within records costs"""
    most_tokens: int
    most_learnt: int
    most_records: int
    longest: int
    """tokens of the longest record"""
    most_padded: int
    """maximum of a row's records times its longest: what the attention kernel pads its own buffers to"""


def packed_rows(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return the indices of the records in each row, as `trl.pack_dataset(strategy="bfd")` packs them.

    Args:
        lengths: tokens of each record.
        room: tokens of a row.
    """
    starts = range(0, len(lengths), PACKED_TOGETHER)
    return [
        [start + index for index in row]
        for start in starts
        for row in best_fit_decreasing(lengths[start : start + PACKED_TOGETHER], room)
    ]


def best_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Pack the longest first, each where the least space is left that still holds it; among equals, the oldest.

    Best-fit decreasing, https://huggingface.co/papers/2404.10830. Example: lengths 5, 4, 3, 2 in rows of 7 become
    [[0, 3], [1, 2]]. Longer records count as ``room``, empty ones are dropped.
    """
    spaces: list[int] = []  # distinct, ascending
    rows_with: defaultdict[int, deque[int]] = defaultdict(deque)
    packed: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = min(lengths[index], room)
        if length == 0:
            continue
        position = bisect_left(spaces, length)
        if position < len(spaces):
            space = spaces[position]
            row = rows_with[space].popleft()
            if not rows_with[space]:
                spaces.pop(position)
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
    """Assemble the rows of a run; those of one micro-batch are joined, as the padding-free collator joins packed ones.

    Args:
        max_length: a longer record counts as cut to it.
        batch: rows a micro-step. Unpacked ones are padded to the longest; the worst batch that shuffling can draw is
            assumed, so records are sorted by length.
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


class SavedActivations(NamedTuple):
    """Saved for the backward pass, a token and layer."""

    numbers: int
    """in the compute dtype"""
    float32: int
    """numbers kept in float32 whatever the compute dtype"""
    masks: int
    """bytes: dropout's"""

    @property
    def bytes(self) -> int:
        """Bytes, with float16 as the compute dtype."""
        return LOW * self.numbers + FULL * self.float32 + self.masks


def groups(shape: ModelShape) -> list[list[Linear]]:
    """Group the linears of a layer that read the same tensor and are dequantised together."""
    found: dict[str, list[Linear]] = {}
    for linear in shape.linears():
        found.setdefault(linear.reads, []).append(linear)
    return list(found.values())


def saved_activations(shape: ModelShape, r: int) -> SavedActivations:
    """Count what one layer saves under the engine; the attention's logsumexp is counted by `logsumexp`."""
    hidden, inner, q, kv = shape.hidden_size, shape.intermediate_size, shape.query_width, shape.key_width
    low_rank = r * len(shape.linears())
    dropped = 2 if shape.resid_pdrop > 0 else 0
    # Phi: layer input; rotated q, k; v; attention's output; fc1's output. Norm and GELU are computed again
    if shape.kind == "phi":
        return SavedActivations(hidden + q + 2 * kv + q + inner + low_rank, 2, dropped * hidden)
    joined = 0 if shape.kind == "llama" else q + kv  # v is a view of the joint product, which is kept whole with it
    norms = 2  # float32 each: rsqrt of the mean square; Phi-3-small's LayerNorm keeps the mean too
    # layer input; rotated q, k; v; attention's output; the sum before the second norm; gate and up
    return SavedActivations(hidden + q + 2 * kv + joined + q + hidden + 2 * inner + low_rank, norms, dropped * hidden)


def saved_activations_without_recompute(shape: ModelShape, r: int) -> SavedActivations:
    """Count what one layer saves if nothing is recomputed: what checkpointing computes again, a layer at a time."""
    policy = saved_activations(shape, r)
    norms = 1 if shape.kind == "phi" else 2
    return policy._replace(numbers=policy.numbers + norms * shape.hidden_size + shape.intermediate_size)


def logsumexp(shape: ModelShape, rows: Rows, *, graph: bool) -> int:
    """Return the bytes a layer keeps of the softmax: a float32 a head and token, each record padded to the longest."""
    filled = (rows.most_records + 1) * _up(rows.longest, _LOGSUMEXP_STEP)  # a graph's row ends in one more record
    padded = filled if graph else rows.most_padded
    return FULL * shape.num_attention_heads * padded


def attention_buffer(shape: ModelShape, rows: Rows, *, graph: bool) -> int:
    """Return the bytes in which the attention kernel sums dq in float32, each record padded to the longest."""
    if graph:
        blocks = (rows.most_records + 1) * (_up(rows.longest, _KERNEL_QUERIES) // _KERNEL_QUERIES)
    else:
        blocks = _up(rows.most_padded, _KERNEL_QUERIES) // _KERNEL_QUERIES + rows.most_records // 2
    columns = _up(shape.head_dim, _KERNEL_QUERIES) // _KERNEL_QUERIES
    return shape.num_attention_heads * blocks * columns * (FULL * _KERNEL_QUERIES**2 + _KERNEL_HEADER)


def loss_head(shape: ModelShape, rows: Rows) -> int:
    """Return the bytes during the loss: hidden states, their gradient, and three copies of a chunk of logits.

    The copies: float16, float32, and logsumexp's own of the float32 ones.
    """
    chunk = min(CHUNK, rows.most_learnt) * shape.vocab_size * (LOW + 2 * FULL)
    return chunk + LOW * shape.hidden_size * (rows.most_tokens + 2 * rows.most_learnt)


def layer_backward(shape: ModelShape, rows: Rows, *, graph: bool, recomputed: bool) -> int:
    """Return the bytes on top of what is saved at the worst moment of the last layer's backward pass.

    What the layer has freed by then is subtracted.

    Args:
        recomputed: outputs of norms and activations are computed again here (they were not saved).
    """
    hidden, inner, q = shape.hidden_size, shape.intermediate_size, shape.query_width
    tokens = LOW * rows.most_tokens
    weights = {group[0].reads: LOW * sum(linear.weights for linear in group) for group in groups(shape)}
    residual, again = hidden, inner if recomputed else 0
    # 1. The last linear: gradients of the residual, before dropout and of the activation, and its weights dequantised
    last = tokens * (residual + hidden * (shape.resid_pdrop > 0) + again + inner) + weights["activation"]
    # 2. The attention, with the kernel's buffer
    gqa = 2 * q if shape.key_width < q else 0  # keys and values repeated for each query head
    buffer = attention_buffer(shape, rows, graph=graph)
    if shape.kind == "phi":  # fc1's gradient waits while its output is freed
        return max(last, tokens * (residual + 4 * q + gqa) + buffer)
    # 3. A gated MLP: the product's gradient, then those of gate and up into the second norm
    gated = tokens * (residual + 3 * inner)
    summed = 4 * hidden if shape.kind == "llama" else 2 * hidden  # two linears' gradients are summed in float32
    second = tokens * (residual + summed) + weights["second norm"]
    attention = tokens * (4 * q + gqa - 2 * inner) + buffer
    return max(last, gated, second, attention)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The fields of a recipe that memory depends on, by its names."""

    r: int
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    max_length: int = 2048
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    """above 1, gradients of earlier micro-steps are held during the next"""
    packing: bool = True
    gradient_checkpointing: bool = False
    """each layer is recomputed from its input: the engine's `EngineOptions(recompute=False)`"""

    @classmethod
    def of(cls, recipe: Recipe) -> PlanSettings:
        """Take them from a recipe."""
        settings: dict[str, Any] = {field.name: getattr(recipe, field.name, field.default) for field in fields(cls)}
        return cls(**settings)

    def rows(self, records: Sequence[Length]) -> Rows:
        """Return the rows that these records make."""
        return rows_of(records, self.max_length, packing=self.packing, batch=self.per_device_train_batch_size)


class Part(NamedTuple):
    """A share of the peak."""

    name: str
    bytes: int


class Peak(NamedTuple):
    """The peak, the moment it occurs at, and its parts."""

    moment: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Sum of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def gib(self) -> float:
        """Sum of all parts in GiB."""
        return self.bytes / GIB


def quantised_bytes(shape: ModelShape) -> tuple[int, int]:
    """Return the bytes of the layers in NF4 (4 bits a weight), and of their scales, themselves in 8 bits."""
    quantised = shape.num_hidden_layers * shape.layer_weights()
    scales = quantised // _BLOCK
    return quantised // 2, scales + FULL * scales // _BLOCKS_A_BLOCK


def weights(shape: ModelShape) -> tuple[Part, ...]:
    """Return the parts of the base on the GPU."""
    quantised = shape.num_hidden_layers * shape.layer_weights()
    embeddings = shape.parameters() - quantised
    norms = shape.num_hidden_layers * 2 * 2 * shape.hidden_size
    return (
        Part("base in NF4", sum(quantised_bytes(shape))),
        Part("its scales in float32", FULL * (quantised // _BLOCK)),
        Part("embedding, head, norms in float16", LOW * (embeddings + norms)),
    )


def estimate_peak(
    shape: ModelShape, setting: PlanSettings, rows: Rows, *, graph: bool = False, workspace: int = T4.workspace
) -> Peak:
    """Estimate the peak of a training step.

    Args:
        graph: during the capture of a CUDA graph, which the engine tries on every GPU; False: a step without one.
        workspace: bytes of one cuBLAS workspace.
    """
    # 1. What is saved for the backward pass: with checkpointing, layer inputs and one layer's activations
    layers, tokens = shape.num_hidden_layers, rows.most_tokens
    if setting.gradient_checkpointing:
        graph = False  # the engine makes none then
    sums = logsumexp(shape, rows, graph=graph)
    if setting.gradient_checkpointing:
        activations = LOW * layers * tokens * shape.hidden_size
        one_layer = tokens * saved_activations_without_recompute(shape, setting.r).bytes + sums
    else:
        activations = layers * (tokens * saved_activations(shape, setting.r).bytes + sums)
        one_layer = 0
    # 2. What comes on top at the two moments, and what is there throughout
    backward = one_layer + layer_backward(shape, rows, graph=graph, recomputed=not setting.gradient_checkpointing)
    head = loss_head(shape, rows)
    trained = shape.adapter_weights(setting.r, setting.target_modules)
    static = (*weights(shape), Part("adapter, float32 and float16", (FULL + LOW) * trained))
    # 3. A graph is captured before there are optimizer states; its gradients have a buffer of their own
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
    # 4. Without a graph, the worse of the two moments
    worst = Part("logits and loss", head) if head >= backward else Part("backward of a layer", backward)
    return Peak(
        "in the loss head" if head >= backward else "in the last layer's backward pass",
        (
            *static,
            Part("optimizer (AdamW)", 2 * FULL * trained),
            *([Part("gradients", FULL * trained)] if setting.gradient_accumulation_steps > 1 else []),
            Part("kept activations", activations),
            worst,
            Part("cuBLAS workspaces", 2 * workspace),
        ),
    )


def peak_with_cuda_graph(shape: ModelShape, setting: PlanSettings, rows: Rows, *, workspace: int = T4.workspace) -> int:
    """Return the bytes a run with a CUDA graph needs: the graph keeps its memory, optimizer and loss come on top."""
    trained = shape.adapter_weights(setting.r, setting.target_modules)
    capture = estimate_peak(shape, setting, rows, graph=True, workspace=workspace).bytes
    return capture + 2 * FULL * trained + loss_head(shape, rows)
