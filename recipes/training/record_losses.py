"""Measure the loss of each training record after training.

Example: a run has fitted its records to a median of 0.3 nats a token, and two records with one question and different
answers are left at 2.5: no model can give both answers. After a single pass, when little is fitted yet, a high loss
marks an unusual record and not necessarily a wrong one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from bonsai.builder.prompt import PromptEncoder
from bonsai.recipes.training.loss_curves import loss_residuals
from bonsai.recipes.training.run_record import LossPoint

BATCH_TOKENS = 2048
"""padding included"""
CPU_TOKENS = 6_000
"""most tokens to measure on a CPU, some twenty seconds of a 135M model; a GPU measures every record"""


class RecordLoss(NamedTuple):
    """The loss of one record after training."""

    id: str
    loss: float
    """mean over the completion and its end mark, in nats a token"""
    tokens: int
    """of the completion, its end mark included"""


class _Tokens(NamedTuple):
    id: str
    ids: list[int]
    prompt: int
    """tokens of the prompt"""


def record_losses(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, str]],
    *,
    most_tokens: int | None = None,
    on_record: Callable[[int], None] | None = None,
) -> list[RecordLoss]:
    """Measure the mean completion loss of each row (``id``, ``prompt``, ``completion``), in the order of the rows.

    Args:
        model: base and adapter, on any device; left in the mode it came in.
        most_tokens: stop taking rows before there are more tokens than this; the first row is always taken.
        on_record: called with the number of records measured so far.
    """
    # 1. Tokenize, as far as the budget allows.
    encoder = PromptEncoder(tokenizer)
    taken: list[_Tokens] = []
    budget = math.inf if most_tokens is None else most_tokens
    for row in rows:
        record = _Tokens(row["id"], *encoder.example(row["prompt"], row["completion"]))
        budget -= len(record.ids)
        if taken and budget < 0:
            break
        taken.append(record)

    # 2. Batch records of similar length: sorted, the newest is the longest, and decides the padding.
    batches: list[list[_Tokens]] = [[]]
    for record in sorted(taken, key=lambda one: len(one.ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(record.ids) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(record)

    # 3. One forward pass a batch; the logits at a position predict the token after it.
    losses: dict[str, RecordLoss] = {}
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), dequantized_weights(model):
            for batch in filter(None, batches):
                longest, padding = len(batch[-1].ids), tokenizer.eos_token_id
                ids = torch.tensor([one.ids + [padding] * (longest - len(one.ids)) for one in batch], device=device)
                mask = torch.tensor([[1] * len(r.ids) + [0] * (longest - len(r.ids)) for r in batch], device=device)
                logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
                for one, predicted, target in zip(batch, logits, ids, strict=True):
                    first, end = one.prompt, len(one.ids)
                    loss = torch.nn.functional.cross_entropy(predicted[first - 1 : end - 1].float(), target[first:end])
                    losses[one.id] = RecordLoss(one.id, float(loss), end - first)
                if on_record is not None:
                    on_record(len(losses))
    finally:
        model.train(training)
    return [losses[one.id] for one in taken]


def order_by_surprise(losses: Sequence[LossPoint], rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Sort the rows the run has seen, those of steps with an unexpectedly high loss first.

    A run whose record does not name the rows of its steps gets all rows, unsorted.
    """
    seen: dict[str, list[float]] = {}
    for point, surprise in zip(losses, loss_residuals(losses), strict=True):
        for name in point.records or ():
            seen.setdefault(name, []).append(surprise if math.isfinite(surprise) else math.inf)
    if not seen:
        return list(rows)
    known = [row for row in rows if row["id"] in seen]
    return sorted(known, key=lambda row: -sum(seen[row["id"]]) / len(seen[row["id"]]))


@contextlib.contextmanager
def dequantized_weights(model: torch.nn.Module) -> Iterator[None]:
    """Dequantize the 4-bit layers of a CPU model once for the whole block, instead of in every forward pass."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, Linear4bit)]
    layers = [layer for layer in layers if layer.weight.device.type == "cpu"]
    for layer in layers:
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(torch.float32)
        layer.forward = partial(_linear, weight=weight, bias=layer.bias)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _linear(x: torch.Tensor, *, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.nn.functional.linear(x.float(), weight, bias).to(x.dtype)
