"""Run each record of a batch through the model by itself: the truth for packing and padding, and the fallback.

Not every architecture keeps packed records apart: a state space model (https://arxiv.org/abs/2312.00752) carries its
state from one record into the next, and an attention may build a mask of its own that ignores their bounds. A record
alone in its row can see nothing else, whatever the model does. Example: bounds [0, 3, 5] of a (1, 5) row give two
calls, with (1, 3) and (1, 2) tokens, whose results are put back as columns 0:3 and 3:5.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.loss.loss_utils import ForCausalLMLoss
from trl.trainer.utils import FusedCausalLMOutput

ROW_KEYS = (
    "input_ids",
    "labels",
    "attention_mask",
    "position_ids",
    "seq_idx",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
)
"""what a batch says about its rows; a record alone needs its tokens only"""


@dataclass
class WithLogits(FusedCausalLMOutput):
    """TRL's output per token, with the logits it was made from."""

    logits: Tensor | None = None


def record_slices(batch: Mapping[str, Any]) -> list[tuple[int, slice]]:
    """Return row and columns of each record in ``input_ids`` (rows, tokens); padding, on the right, is in none.

    Reads the bounds off the device, so it waits for the GPU.
    """
    bounds, mask = batch.get("cu_seq_lens_q"), batch.get("attention_mask")
    rows, tokens = batch["input_ids"].shape
    if bounds is not None:
        pairs = itertools.pairwise(bounds.tolist())
        return [(0, slice(start, end)) for start, end in pairs if end > start]
    lengths = [tokens] * rows if mask is None else mask.sum(-1).tolist()
    return [(row, slice(0, int(length))) for row, length in enumerate(lengths) if length]


def each_record(compute: Callable[..., Tensor], batch: Mapping[str, Any]) -> Tensor:
    """Compute each record alone and put the results where the records are in the batch.

    Args:
        compute: takes ``input_ids`` (1, tokens) and returns (1, tokens, width).
        batch: with ``input_ids`` (rows, tokens); what is not of the row (`ROW_KEYS`) goes into each call.

    Returns:
        (rows, tokens, width); padding is zeros.
    """
    ids = batch["input_ids"]
    others = {name: value for name, value in batch.items() if name not in ROW_KEYS}
    by_row: list[list[Tensor]] = [[] for _ in ids]
    for row, columns in record_slices(batch):
        by_row[row].append(compute(input_ids=ids[row : row + 1, columns], **others))
    width = next(part for parts in by_row for part in parts)
    rows = []
    for parts in by_row:
        missing = ids.shape[1] - sum(part.shape[1] for part in parts)
        filling = [width.new_zeros(1, missing, width.shape[-1])] if missing else []
        rows.append(torch.cat([*parts, *filling], dim=1))
    return torch.cat(rows)


def output_from_logits(logits: Tensor, labels: Tensor | None, count: Any, balance: Tensor | None) -> WithLogits:
    """Make from whole logits what TRL's fused head returns, and transformers' own output.

    Args:
        logits: (rows, tokens, vocabulary).
        count: labels in the whole step, by which the loss is divided; None: those in this batch.
        balance: a mixture of experts' load-balancing loss.

    Returns:
        loss, and per token (rows, tokens - 1) log-probability, entropy (nats) and whether the likeliest is the label.
    """
    if labels is None:
        return WithLogits(logits=logits, aux_loss=balance)
    target = labels[:, 1:].to(logits.device)
    mask = target != -100
    log_probs = logits[:, :-1].float().log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1) * mask
        is_top1 = (log_probs.argmax(-1) == target) & mask
    chosen = log_probs.gather(-1, target.clamp(min=0)[..., None])[..., 0] * mask
    return WithLogits(
        loss=ForCausalLMLoss(logits, labels, logits.shape[-1], num_items_in_batch=count),
        log_probs=chosen,
        entropy=entropy,
        is_top1=is_top1,
        label_mask=mask,
        aux_loss=balance,
        logits=logits,
    )
