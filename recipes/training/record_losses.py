"""Measure the loss that a trained adapter leaves on each record.

What is left is the sign to go by: once the run has fitted the rest, two records that contradict each other keep their
loss, for no model can give both answers to one question. Before that, after a single pass, the loss tells the unusual
record and not yet the wrong one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""What a CPU measures at most, some twenty seconds of a 135M model; a GPU measures every record."""


class RecordLoss(NamedTuple):
    """What is left of one record's loss."""

    id: str
    loss: float
    """mean over the completion and its end mark, in nats a token"""
    tokens: int
    """of the completion, its end mark included"""


class _Tokens(NamedTuple):
    id: str
    ids: list[int]
    prompt: int


def record_losses(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, str]],
    *,
    most_tokens: int | None = None,
    on_record: Callable[[int], None] = lambda _: None,
) -> list[RecordLoss]:
    """The mean completion loss of each row (``id``, ``prompt``, ``completion``), in the order of the rows.

    Args:
        model: base and adapter, on any device; left in the mode it came in.
        most_tokens: stop taking rows before there are more tokens than this; the first row is always taken.
        on_record: told how many records are measured so far.
    """
    taken = _take_tokens(list(_tokenised(tokenizer, rows)), most_tokens)
    found: dict[str, RecordLoss] = {}
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), dequantized_weights(model):
            for batch in _batches(sorted(taken, key=lambda one: len(one.ids))):
                found |= {loss.id: loss for loss in _measure(model, batch, device, tokenizer.eos_token_id)}
                on_record(len(found))
    finally:
        model.train(training)
    return [found[one.id] for one in taken]


def order_by_surprise(losses: Sequence[LossPoint], rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The rows the run has seen, those of the most surprising steps first; all rows if it did not write down which."""
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
    """On a CPU, dequantise the 4-bit layers once for all batches of the block: each forward would do it again."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, Linear4bit)]
    layers = [layer for layer in layers if layer.weight.device.type == "cpu"]
    for layer in layers:
        layer.forward = _plain_forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _plain_forward(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(torch.float32)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x.float(), weight, layer.bias).to(x.dtype)

    return forward


def _tokenised(tokenizer: Any, rows: Sequence[Mapping[str, str]]) -> Iterator[_Tokens]:
    encoder = PromptEncoder(tokenizer)
    for row in rows:
        yield _Tokens(row["id"], *encoder.example(row["prompt"], row["completion"]))


def _take_tokens(rows: list[_Tokens], most: int | None) -> list[_Tokens]:
    taken: list[_Tokens] = []
    room = math.inf if most is None else most
    for row in rows:
        room -= len(row.ids)
        if taken and room < 0:
            break
        taken.append(row)
    return taken


def _batches(rows: Sequence[_Tokens]) -> Iterator[list[_Tokens]]:
    batch: list[_Tokens] = []
    for row in rows:  # by length, so that the newest is the longest
        if batch and (len(batch) + 1) * len(row.ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _measure(model: Any, batch: Sequence[_Tokens], device: torch.device, padding: int) -> Iterator[RecordLoss]:
    longest = max(len(row.ids) for row in batch)
    ids = torch.tensor([row.ids + [padding] * (longest - len(row.ids)) for row in batch], device=device)
    mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in batch], device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    for row, predicted, target in zip(batch, logits, ids, strict=True):
        first, end = row.prompt, len(row.ids)
        loss = torch.nn.functional.cross_entropy(predicted[first - 1 : end - 1].float(), target[first:end])
        yield RecordLoss(row.id, float(loss), end - first)
