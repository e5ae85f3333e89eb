"""The next token of each row, from the logits of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from bonsai.builder.messages import GAP, RESPONSE_MARKER
from bonsai.recipes.inference.generation.decoder import Decoder


def next_tokens(
    logits: torch.Tensor,
    seen: torch.Tensor | None,
    decoder: Decoder,
    draws: Sequence[np.random.Generator],
    banned: Sequence[Sequence[int]] = (),
) -> torch.Tensor:
    """The chosen token ids, shape (B,).

    Args:
        logits: shape (B, V), float32.
        seen: shape (B, V), True where a token stands in the row's answer so far; only asked for where there is a
            repetition penalty.
        draws: one random stream a row, used where the decoder samples.
        banned: tokens of each row that may not be chosen; empty: all may.
    """
    if seen is not None:
        penalised = torch.where(logits < 0, logits * decoder.repetition_penalty, logits / decoder.repetition_penalty)
        logits = torch.where(seen, penalised, logits)
    if any(banned):
        rows, ids = zip(*((row, token) for row, each in enumerate(banned) for token in each), strict=True)
        logits = logits.clone()
        logits[list(rows), list(ids)] = -torch.inf
    if decoder.temperature == 0:
        return logits.argmax(-1)
    ordered, tokens = (logits / decoder.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
    heaped = ordered.double().cumsum(-1)
    # nucleus sampling (arXiv:1904.09751): a token stays while those before it weigh less than top_p
    inside = (heaped - ordered) < decoder.top_p
    mass = (ordered.double() * inside).sum(-1, keepdim=True)
    uniform = torch.tensor([[draw.random()] for draw in draws], dtype=torch.float64, device=logits.device)
    place = torch.searchsorted(heaped, uniform * mass, right=True)
    chosen: torch.Tensor = tokens.gather(-1, place.clamp(max=tokens.shape[-1] - 1))
    return chosen.squeeze(-1)


def said_after(tokens: Sequence[int], size: int) -> Iterator[int]:
    """What followed the last ``size - 1`` tokens wherever they stood: with it a run of ``size`` would come again."""
    known = size - 1
    end = list(tokens[len(tokens) - known :])
    for at in range(len(tokens) - known):
        if tokens[at : at + known] == end:
            yield tokens[at + known]


def unpunished(tokenizer: Any) -> list[int]:
    """The tokens of the marker before the answer: where its line breaks are punished, a text ends right behind it."""
    return sorted(set(tokenizer(f"{GAP}{RESPONSE_MARKER}", add_special_tokens=False).input_ids))


def stream_of(prompt: str, seed: int) -> np.random.Generator:
    """The random numbers of one prompt, whatever else is asked beside it."""
    return np.random.default_rng([seed, *prompt.encode()])
