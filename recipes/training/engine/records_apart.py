"""Each record of a batch through the model by itself: what packing and padding must come to, and the way out.

Not every architecture keeps packed records apart: a state space runs on from one to the next, an attention may build
its mask from what it is not told. A record alone in its row can see nothing else, whatever the model does.
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

OF_THE_ROW = (
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
"""what is said of a row as a whole; a record alone needs its tokens only"""


@dataclass
class WithLogits(FusedCausalLMOutput):
    """TRL's output per token, with the logits it was made from."""

    logits: Tensor | None = None


def record_places(batch: Mapping[str, Any]) -> list[tuple[int, slice]]:
    """Row and columns of each record in ``input_ids`` (rows, tokens); padding, which is right of them, is in none."""
    bounds, mask = batch.get("cu_seq_lens_q"), batch.get("attention_mask")
    rows, tokens = batch["input_ids"].shape
    if bounds is not None:
        pairs = itertools.pairwise(bounds.tolist())
        return [(0, slice(start, end)) for start, end in pairs if end > start]
    lengths = [tokens] * rows if mask is None else mask.sum(-1).tolist()
    return [(row, slice(0, int(length))) for row, length in enumerate(lengths) if length]


def each_record(compute: Callable[..., Tensor], batch: Mapping[str, Any]) -> Tensor:
    """``compute(input_ids=record, ...)``, (1, tokens, width), of each record, laid where the record lies in the batch.

    Returns:
        (rows, tokens, width); padding is zeros.
    """
    ids = batch["input_ids"]
    others = {name: value for name, value in batch.items() if name not in OF_THE_ROW}
    by_row: list[list[Tensor]] = [[] for _ in ids]
    for row, columns in record_places(batch):
        by_row[row].append(compute(input_ids=ids[row : row + 1, columns], **others))
    width = next(part for parts in by_row for part in parts)
    rows = []
    for parts in by_row:
        missing = ids.shape[1] - sum(part.shape[1] for part in parts)
        filling = [width.new_zeros(1, missing, width.shape[-1])] if missing else []
        rows.append(torch.cat([*parts, *filling], dim=1))
    return torch.cat(rows)


def in_full(logits: Tensor, labels: Tensor | None, count: Any, balance: Tensor | None) -> WithLogits:
    """What TRL's fused head returns, and transformers' own, from logits that are there as a whole.

    Args:
        logits: (rows, tokens, vocabulary).
        count: labels in the whole step, which the loss is divided by; None: those in this batch.
        balance: a mixture of experts' own loss.
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
