"""Generate for many prompts in one continuous batch over one key-value cache.

`transformers.generate` pads every prompt to the longest, keeps a row until the last one is done, and its repetition
penalty counts prompt and padding as something said. Here prompts are read beside others of their length, a row that is
done makes room for the next prompt, and each row is decoded as if it were alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from bonsai.builder.prompt import RESPONSE_MARKER, SECTION_BREAK
from bonsai.recipes.inference.generation import Completion, FinishReason, GenerationRequest, GenerationSettings

ROOM = 64
"""tokens a buffer grows by"""


class PreallocatedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A new token is written behind the others; transformers' own layer copies all of them for each new one.

    ``keys`` and ``values`` are views of the filled part of the buffers, shape (B, heads, tokens, head size).
    """

    keys: Any
    values: Any

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens; returns those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.hold(key_states, value_states)
        else:
            filled = self.keys.shape[-2]
            end = filled + key_states.shape[-2]
            if end > self._buffers[0].shape[-2]:
                self.hold(self.keys, self.values, room=ROOM + key_states.shape[-2])
            for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
                buffer[:, :, filled:end] = states
            self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def hold(self, keys: torch.Tensor, values: torch.Tensor, *, room: int = ROOM) -> None:
        """Take these states over into new buffers."""
        filled = keys.shape[-2]
        buffers = []
        for states in (keys, values):
            buffer = states.new_empty((*states.shape[:2], filled + room, states.shape[-1]))
            buffer[:, :, :filled] = states
            buffers.append(buffer)
        self._buffers = buffers
        self.keys, self.values = (buffer[:, :, :filled] for buffer in buffers)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows only."""
        self.hold(self.keys[indices], self.values[indices])


def empty_cache() -> Cache:
    """For a prefill; a layer for each of the model's comes into being with its first states."""
    return Cache(layer_class_to_replicate=PreallocatedLayer)


def concat_caches(caches: Sequence[Cache], lengths: Sequence[int], width: int) -> Cache:
    """The rows of several caches in one, their last tokens aligned at ``width``.

    Args:
        lengths: tokens to take from the end of each cache; what stands before is padding in every row of it.
        width: tokens of the new cache; what a shorter row lacks on its left is zero, and to be masked.
    """
    layers = []
    for number in range(len(caches[0].layers)):
        parts: list[Any] = [cache.layers[number] for cache in caches]
        layer = PreallocatedLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(parts[0].keys, parts[0].values)
        layer.hold(
            *(_right_align([getattr(part, name) for part in parts], lengths, width) for name in ("keys", "values"))
        )
        layers.append(layer)
    return Cache(layers=list(layers))


def _right_align(states: Sequence[torch.Tensor], lengths: Sequence[int], width: int) -> torch.Tensor:
    rows = sum(len(part) for part in states)
    whole = states[0].new_zeros((rows, states[0].shape[1], width, states[0].shape[-1]))
    first = 0
    for part, length in zip(states, lengths, strict=True):
        whole[first : first + len(part), :, width - length :] = part[:, :, part.shape[-2] - length :]
        first += len(part)
    return whole


def sample_next_tokens(
    logits: torch.Tensor,
    seen: torch.Tensor | None,
    decoder: GenerationSettings,
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


def banned_ngram_tokens(tokens: Sequence[int], size: int) -> Iterator[int]:
    """What followed the last ``size - 1`` tokens wherever they stood: with it a run of ``size`` would come again."""
    known = size - 1
    end = list(tokens[len(tokens) - known :])
    for at in range(len(tokens) - known):
        if tokens[at : at + known] == end:
            yield tokens[at + known]


def penalty_exempt_tokens(tokenizer: Any) -> list[int]:
    """The tokens of the marker before the answer: where its line breaks are punished, a text ends right behind it."""
    return sorted(set(tokenizer(f"{SECTION_BREAK}{RESPONSE_MARKER}", add_special_tokens=False).input_ids))


def prompt_rng(prompt: str, seed: int) -> np.random.Generator:
    """The random numbers of one prompt, whatever else is asked beside it."""
    return np.random.default_rng([seed, *prompt.encode()])


class QueuedPrompt(NamedTuple):
    """A request with its place among all that were made."""

    place: int
    request: GenerationRequest
    token_ids: Sequence[int]


class FinishedPrompt(NamedTuple):
    """An answer and the place of its prompt."""

    place: int
    generation: Completion


class ActiveSequence:
    """A prompt, the tokens said to it so far, and its own random numbers."""

    def __init__(self, asked: QueuedPrompt, started: float) -> None:
        self.asked = asked
        self.decoder = asked.request.decoder
        self.started = started
        """by `time.perf_counter`"""
        self.tokens: list[int] = []
        self.draw: np.random.Generator = prompt_rng(asked.request.prompt, self.decoder.seed)


@dataclass(frozen=True, kw_only=True)
class Detokenizer:
    """Tokens as text, and where the text ends."""

    tokenizer: Any
    ends: frozenset[int]

    def ending(self, row: ActiveSequence) -> FinishReason | None:
        """What the last token ended the answer by; None: it goes on."""
        if row.tokens[-1] in self.ends:
            return "eos"
        # a stop string of n bytes spans at most n tokens
        stops, watch = row.decoder.stop_strings, row.asked.request.watch
        tail = max((len(stop.encode()) for stop in stops), default=0)
        if tail and any(stop in self.text(row.tokens[-tail:]) for stop in stops):
            return "stop_string"
        if watch is not None and watch(self.text(row.tokens)):
            return "watch"
        return "length" if len(row.tokens) >= row.decoder.max_new_tokens else None

    def generation(self, row: ActiveSequence, ending: FinishReason) -> Completion:
        """The answer as it is handed over."""
        text = self.text(row.tokens[:-1] if ending == "eos" else row.tokens)
        if ending == "stop_string":
            text = text[: min(at for stop in row.decoder.stop_strings if (at := text.find(stop)) >= 0)]
        if ending in ("length", "watch"):
            text = text.rstrip("\ufffd")  # a character whose last bytes were not waited for
        seconds = time.perf_counter() - row.started
        return Completion(text=text, tokens=len(row.tokens), stopped_by=ending, seconds=seconds)

    def text(self, tokens: Sequence[int]) -> str:
        """Without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


LENGTH_RATIO = 0.8
"""prompts are read together while the shortest has at least this share of the longest's tokens"""
READ_AT_ONCE = 1024
"""tokens of prompts read together on a CPU: read at once, 36 prompts of 120 tokens took longer with an adapter beside
the base's weights, and as long with one inside them"""
MIN_FREE_SHARE = 0.25
"""share of the batch that must be free before new prompts come in: joining caches copies them"""


@dataclass
class _ActiveBatch:
    """Rows that are being answered, and what the model needs to go on; every tensor has a line a row."""

    rows: list[ActiveSequence]
    cache: Any
    mask: torch.Tensor
    """(B, tokens): 1 where the cache holds a token, padding on the left"""
    ids: torch.Tensor
    """(B, 1): the last token chosen, not yet in the cache"""
    positions: torch.Tensor
    """(B, 1): its position"""


class ContinuousBatch:
    """Answers prompts with one model, each by its own decoder."""

    def __init__(self, model: Any, tokenizer: Any, ends: frozenset[int]) -> None:
        self._model = model
        self._pad = min(ends)
        self._unpunished = penalty_exempt_tokens(tokenizer)
        self._at_once = READ_AT_ONCE if model.device.type == "cpu" else None
        self._speech = Detokenizer(tokenizer=tokenizer, ends=ends)

    def answers(self, waiting: deque[QueuedPrompt], size: int) -> Iterator[FinishedPrompt]:
        """Each answer as soon as it is complete.

        Args:
            waiting: emptied; what is put to it meanwhile is answered, too.
            size: prompts answered at a time.
        """
        running: _ActiveBatch | None = None
        while waiting or running:
            free = size - (len(running.rows) if running else 0)
            if waiting and (running is None or free >= MIN_FREE_SHARE * size):
                news = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                news.sort(key=lambda one: -len(one.token_ids))
                together = [running] if running else []
                for group in _group_by_length(news, self._at_once):
                    read, logits = self._prefill(group)
                    yield from self._sample_and_retire(read, logits)
                    together += [read] if read.rows else []
                running = _concat(together) if together else None
            if running:
                yield from self._sample_and_retire(running, self._decode_step(running))
                running = running if running.rows else None

    @torch.inference_mode()
    def _prefill(self, group: Sequence[QueuedPrompt]) -> tuple[_ActiveBatch, torch.Tensor]:
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
        rows = [ActiveSequence(one, started) for one in group]
        return _ActiveBatch(rows, out.past_key_values, mask, ids[:, -1:], positions[:, -1:]), out.logits[:, -1].float()

    @torch.inference_mode()
    def _decode_step(self, running: _ActiveBatch) -> torch.Tensor:
        """Put the last tokens into the cache; the logits of the next, shape (B, vocabulary)."""
        running.mask = torch.cat([running.mask, running.mask.new_ones(len(running.rows), 1)], -1)
        out = self._forward(running.ids, running.mask, running.positions, running.cache)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    @torch.inference_mode()
    def _sample_and_retire(self, running: _ActiveBatch, logits: torch.Tensor) -> list[FinishedPrompt]:
        """Choose a token for each row; rows that end with it leave."""
        chosen = self._chosen(running.rows, logits)
        going: list[int] = []
        done: list[FinishedPrompt] = []
        for number, (row, token) in enumerate(zip(running.rows, chosen.tolist(), strict=True)):
            row.tokens.append(token)
            ending = self._speech.ending(row)
            if ending is None:
                going.append(number)
            else:
                done.append(FinishedPrompt(row.asked.place, self._speech.generation(row, ending)))
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

    def _chosen(self, rows: Sequence[ActiveSequence], logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row, shape (B,); rows of one decoder are decoded together."""
        together: dict[GenerationSettings, list[int]] = {}
        for number, row in enumerate(rows):
            together.setdefault(row.decoder, []).append(number)
        if len(together) == 1:
            return self._chosen_by(rows[0].decoder, rows, logits)
        chosen = torch.empty(len(rows), dtype=torch.long, device=logits.device)
        for decoder, numbers in together.items():
            at = torch.tensor(numbers, device=logits.device)
            chosen[at] = self._chosen_by(decoder, [rows[number] for number in numbers], logits[at])
        return chosen

    def _chosen_by(
        self, decoder: GenerationSettings, rows: Sequence[ActiveSequence], logits: torch.Tensor
    ) -> torch.Tensor:
        size = decoder.no_repeat_ngram_size
        banned = [list(banned_ngram_tokens([*row.asked.token_ids, *row.tokens], size)) for row in rows] if size else ()
        seen = None if decoder.repetition_penalty == 1 else self._seen(rows, logits)
        return sample_next_tokens(logits, seen, decoder, [row.draw for row in rows], banned)

    def _seen(self, rows: Sequence[ActiveSequence], logits: torch.Tensor) -> torch.Tensor:
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


def _group_by_length(asked: Sequence[QueuedPrompt], at_once: int | None) -> Iterator[list[QueuedPrompt]]:
    """Neighbours of about one length; ``asked`` comes longest first.

    Args:
        at_once: tokens, padding included, above which a group takes no more; None: no limit.
    """
    group: list[QueuedPrompt] = []
    for one in asked:
        longest = len(group[0].token_ids) if group else 0
        is_full = at_once is not None and (len(group) + 1) * longest > at_once
        if group and (is_full or len(one.token_ids) < LENGTH_RATIO * longest):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


@torch.inference_mode()
def _concat(parts: Sequence[_ActiveBatch]) -> _ActiveBatch:
    if len(parts) == 1:
        return parts[0]
    lengths = [int(part.mask.sum(-1).max()) for part in parts]
    width = max(lengths)
    masks = [
        torch.nn.functional.pad(part.mask[:, part.mask.shape[1] - length :], (width - length, 0))
        for part, length in zip(parts, lengths, strict=True)
    ]
    return _ActiveBatch(
        rows=[row for part in parts for row in part.rows],
        cache=concat_caches([part.cache for part in parts], lengths, width),
        mask=torch.cat(masks),
        ids=torch.cat([part.ids for part in parts]),
        positions=torch.cat([part.positions for part in parts]),
    )
