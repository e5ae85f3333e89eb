"""What the engine keeps of a forward pass, and what one layer's backward needs beside it, counted tensor by tensor.

The counts follow the modules of `bonsai.recipes.training.engine` and transformers' Phi, Phi-3 and Llama layers; a test
compares them with what autograd really saves. Sizes are in numbers of the compute dtype for each token, if nothing else
is said.
"""

from __future__ import annotations

from typing import NamedTuple

from bonsai.recipes.training.plan.packing import Rows
from bonsai.recipes.training.plan.shapes import Linear, Shape

CHUNK = 512
"""positions a time in the loss head (`engine.loss_head.CHUNK`, repeated here because that module imports torch)"""
LOW, FULL = 2, 4
"""bytes of a float16 and of a float32"""
_KERNEL_QUERIES = 128
"""queries and head size are padded to this in the attention kernel's backward buffer (kBlockSizeI, sm75 and sm80)"""
_KERNEL_HEADER = 16
"""bytes of lock and counter before each block of that buffer"""
_LOGSUMEXP_STEP = 32


class Kept(NamedTuple):
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


def groups(shape: Shape) -> list[list[Linear]]:
    """Linears that read the same and are dequantised together."""
    found: dict[str, list[Linear]] = {}
    for linear in shape.linears():
        found.setdefault(linear.reads, []).append(linear)
    return list(found.values())


def kept(shape: Shape, r: int) -> Kept:
    """One layer under the engine's saved-tensor policy; the attention's sums are in `logsumexp`."""
    hidden, inner, q, kv = shape.hidden_size, shape.intermediate_size, shape.query_width, shape.key_width
    low_rank = r * len(shape.linears())
    dropped = 2 if shape.resid_pdrop > 0 else 0
    if (
        shape.kind == "phi"
    ):  # layer input; q, k turned; v; attention's output; fc1's output. Norm and GELU are made again
        return Kept(hidden + q + 2 * kv + q + inner + low_rank, 2, dropped * hidden)
    joined = 0 if shape.kind == "llama" else q + kv  # v is a view of the joint product, which is kept whole with it
    norms = 2  # float32 each: rsqrt of the mean square; Phi-3-small's LayerNorm keeps the mean too
    # layer input; q, k turned; v; attention's output; the sum before the second norm; gate and up
    return Kept(hidden + q + 2 * kv + joined + q + hidden + 2 * inner + low_rank, norms, dropped * hidden)


def kept_unmarked(shape: Shape, r: int) -> Kept:
    """One layer with nothing dropped: what checkpointing makes again, a layer at a time."""
    policy = kept(shape, r)
    norms = 1 if shape.kind == "phi" else 2
    return policy._replace(numbers=policy.numbers + norms * shape.hidden_size + shape.intermediate_size)


def logsumexp(shape: Shape, rows: Rows, *, graph: bool) -> int:
    """Bytes a layer keeps of the softmax: for each record, padded to the longest."""
    filled = (rows.most_records + 1) * _up(rows.longest, _LOGSUMEXP_STEP)  # a graph's row ends in one more record
    padded = filled if graph else rows.most_padded
    return FULL * shape.num_attention_heads * padded


def attention_buffer(shape: Shape, rows: Rows, *, graph: bool) -> int:
    """Bytes in which the memory-efficient kernel sums dq in float32: for each record, padded to the longest."""
    if graph:
        blocks = (rows.most_records + 1) * (_up(rows.longest, _KERNEL_QUERIES) // _KERNEL_QUERIES)
    else:
        blocks = _up(rows.most_padded, _KERNEL_QUERIES) // _KERNEL_QUERIES + rows.most_records // 2
    columns = _up(shape.head_dim, _KERNEL_QUERIES) // _KERNEL_QUERIES
    return shape.num_attention_heads * blocks * columns * (FULL * _KERNEL_QUERIES**2 + _KERNEL_HEADER)


def loss_head(shape: Shape, rows: Rows) -> int:
    """Bytes while the loss is taken: hidden states, their gradient, and a chunk of logits three times over.

    Low, float32, and logsumexp's own copy of the float32 ones.
    """
    chunk = min(CHUNK, rows.most_learnt) * shape.vocab_size * (LOW + 2 * FULL)
    return chunk + LOW * shape.hidden_size * (rows.most_tokens + 2 * rows.most_learnt)


def layer_backward(shape: Shape, rows: Rows, *, graph: bool, made_again: bool) -> int:
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
