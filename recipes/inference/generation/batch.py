"""Many prompts answered together, token by token, over one key-value cache.

`transformers.generate` pads every prompt to the longest, keeps a row until the last one is done, and its repetition
penalty counts prompt and padding as something said. Here prompts are read beside others of their length, a row that is
done makes room for the next prompt, and each row is decoded as if it were alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bonsai.recipes.inference.generation.cache import empty_cache, joined
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.next_token import next_tokens, said_after, unpunished
from bonsai.recipes.inference.generation.row import Answered, Asked, Row, Speech

ALIKE = 0.8
"""prompts are read together while the shortest has at least this share of the longest's tokens"""
READ_AT_ONCE = 1024
"""tokens of prompts read together on a CPU: read at once, 36 prompts of 120 tokens took longer with an adapter beside
the base's weights, and as long with one inside them"""
ADMIT = 0.25
"""share of the batch that must be free before new prompts come in: joining caches copies them"""


@dataclass
class _Rows:
    """Rows that are being answered, and what the model needs to go on; every tensor has a line a row."""

    rows: list[Row]
    cache: Any
    mask: torch.Tensor
    """(B, tokens): 1 where the cache holds a token, padding on the left"""
    ids: torch.Tensor
    """(B, 1): the last token chosen, not yet in the cache"""
    positions: torch.Tensor
    """(B, 1): its position"""


class Batch:
    """Answers prompts with one model, each by its own decoder."""

    def __init__(self, model: Any, tokenizer: Any, ends: frozenset[int]) -> None:
        self._model = model
        self._pad = min(ends)
        self._unpunished = unpunished(tokenizer)
        self._at_once = READ_AT_ONCE if model.device.type == "cpu" else None
        self._speech = Speech(tokenizer=tokenizer, ends=ends)

    def answers(self, waiting: deque[Asked], size: int) -> Iterator[Answered]:
        """Each answer as soon as it is complete.

        Args:
            waiting: emptied; what is put to it meanwhile is answered, too.
            size: prompts answered at a time.
        """
        running: _Rows | None = None
        while waiting or running:
            free = size - (len(running.rows) if running else 0)
            if waiting and (running is None or free >= ADMIT * size):
                news = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                news.sort(key=lambda one: -len(one.token_ids))
                together = [running] if running else []
                for group in _alike(news, self._at_once):
                    read, logits = self._read(group)
                    yield from self._take(read, logits)
                    together += [read] if read.rows else []
                running = _join(together) if together else None
            if running:
                yield from self._take(running, self._step(running))
                running = running if running.rows else None

    @torch.inference_mode()
    def _read(self, group: Sequence[Asked]) -> tuple[_Rows, torch.Tensor]:
        """Read prompts of about one length."""
        started = time.perf_counter()
        width = max(len(one.token_ids) for one in group)
        ids = torch.full((len(group), width), self._pad)
        mask = torch.zeros_like(ids)
        for number, one in enumerate(group):
            ids[number, width - len(one.token_ids) :] = torch.tensor(one.token_ids)
            mask[number, width - len(one.token_ids) :] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = self._forward(ids, mask, positions, empty_cache())
        rows = [Row(one, started) for one in group]
        return _Rows(rows, out.past_key_values, mask, ids[:, -1:], positions[:, -1:]), out.logits[:, -1].float()

    @torch.inference_mode()
    def _step(self, running: _Rows) -> torch.Tensor:
        """Put the last tokens into the cache; the logits of the next, shape (B, vocabulary)."""
        running.mask = torch.cat([running.mask, running.mask.new_ones(len(running.rows), 1)], -1)
        out = self._forward(running.ids, running.mask, running.positions, running.cache)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    @torch.inference_mode()
    def _take(self, running: _Rows, logits: torch.Tensor) -> list[Answered]:
        """Choose a token for each row; rows that end with it leave."""
        chosen = self._chosen(running.rows, logits)
        going: list[int] = []
        done: list[Answered] = []
        for number, (row, token) in enumerate(zip(running.rows, chosen.tolist(), strict=True)):
            row.tokens.append(token)
            ending = self._speech.ending(row)
            if ending is None:
                going.append(number)
            else:
                done.append(Answered(row.asked.place, self._speech.generation(row, ending)))
        running.ids, running.positions = chosen[:, None], running.positions + 1
        if done:
            running.rows = [running.rows[number] for number in going]
            kept = torch.tensor(going, dtype=torch.long, device=chosen.device)
            running.cache.batch_select_indices(kept)
            running.mask, running.ids, running.positions = (
                running.mask[kept],
                running.ids[kept],
                running.positions[kept],
            )
        return done

    def _chosen(self, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row, shape (B,); rows of one decoder are decoded together."""
        together: dict[Decoder, list[int]] = {}
        for number, row in enumerate(rows):
            together.setdefault(row.decoder, []).append(number)
        if len(together) == 1:
            return self._chosen_by(rows[0].decoder, rows, logits)
        chosen = torch.empty(len(rows), dtype=torch.long, device=logits.device)
        for decoder, numbers in together.items():
            at = torch.tensor(numbers, device=logits.device)
            chosen[at] = self._chosen_by(decoder, [rows[number] for number in numbers], logits[at])
        return chosen

    def _chosen_by(self, decoder: Decoder, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        size = decoder.no_repeat_ngram_size
        banned = [list(said_after([*row.asked.token_ids, *row.tokens], size)) for row in rows] if size else ()
        seen = None if decoder.repetition_penalty == 1 else self._seen(rows, logits)
        return next_tokens(logits, seen, decoder, [row.draw for row in rows], banned)

    def _seen(self, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        """(B, vocabulary): True where a token stands in the row's answer, the marker before the answer excepted."""
        seen = torch.zeros(len(rows), logits.shape[-1], dtype=torch.bool, device=logits.device)
        for said, row in zip(seen, rows, strict=True):
            said[row.tokens] = True
        seen[:, self._unpunished] = False
        return seen

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> Any:
        return self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )


def _alike(asked: Sequence[Asked], at_once: int | None) -> Iterator[list[Asked]]:
    """Neighbours of about one length; ``asked`` comes longest first.

    Args:
        at_once: tokens, padding included, above which a group takes no more; None: no limit.
    """
    group: list[Asked] = []
    for one in asked:
        longest = len(group[0].token_ids) if group else 0
        is_full = at_once is not None and (len(group) + 1) * longest > at_once
        if group and (is_full or len(one.token_ids) < ALIKE * longest):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


@torch.inference_mode()
def _join(parts: Sequence[_Rows]) -> _Rows:
    if len(parts) == 1:
        return parts[0]
    lengths = [int(part.mask.sum(-1).max()) for part in parts]
    width = max(lengths)
    masks = [
        torch.nn.functional.pad(part.mask[:, part.mask.shape[1] - length :], (width - length, 0))
        for part, length in zip(parts, lengths, strict=True)
    ]
    return _Rows(
        rows=[row for part in parts for row in part.rows],
        cache=joined([part.cache for part in parts], lengths, width),
        mask=torch.cat(masks),
        ids=torch.cat([part.ids for part in parts]),
        positions=torch.cat([part.positions for part in parts]),
    )
