"""Generate for many prompts in one continuous batch over one key-value cache.

Every turn of the loop admits queued prompts into free rows, prefills them beside others of their length, takes one
decode step for all rows, and retires the rows that are done. `transformers.generate` pads every prompt to the longest
and keeps a row until the last one is done. Here each row is also sampled as if it were alone: with its own settings
and random numbers, and a repetition penalty that leaves out prompt and padding.
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
from bonsai.recipes.training.threads import FreeCores

LENGTH_RATIO = 0.8
"""prompts are prefilled together while the shortest has at least this share of the longest's tokens"""
CPU_PREFILL_TOKENS = 1024
"""tokens prefilled together on a CPU: all at once, 36 prompts of 120 tokens took longer with an adapter beside the
base's weights, and as long with one merged into them"""
MIN_FREE_SHARE = 0.25
"""share of the batch that must be free before new prompts are admitted: joining caches copies them"""
CACHE_GROWTH = 64
"""tokens a cache buffer grows by"""


class QueuedPrompt(NamedTuple):
    """A tokenized request that waits to be admitted."""

    number: int
    """among all requests"""
    request: GenerationRequest
    token_ids: Sequence[int]


class FinishedPrompt(NamedTuple):
    """A completion and the index of its request."""

    number: int
    completion: Completion


class ActiveSequence:
    """A prompt, the tokens generated for it so far, and its own random numbers."""

    def __init__(self, prompt: QueuedPrompt, started: float) -> None:
        self.prompt = prompt
        self.decoder = prompt.request.decoder
        self.started = started
        """by `time.perf_counter`"""
        self.tokens: list[int] = []
        self.rng = prompt_rng(prompt.request.prompt, self.decoder.seed)


@dataclass
class _ActiveBatch:
    """Sequences in progress with the model's state; every tensor has one row a sequence."""

    sequences: list[ActiveSequence]
    cache: Any
    mask: torch.Tensor
    """(B, tokens): 1 where the cache holds a token, padding on the left"""
    ids: torch.Tensor
    """(B, 1): the last token sampled, not yet in the cache"""
    positions: torch.Tensor
    """(B, 1): its position"""


class ContinuousBatch:
    """Generate with one model for a queue of prompts, each with its own settings."""

    def __init__(self, model: Any, tokenizer: Any, ends: frozenset[int]) -> None:
        self._model = model
        self._pad = min(ends)
        self._penalty_exempt = penalty_exempt_tokens(tokenizer)
        self._prefill_tokens = CPU_PREFILL_TOKENS if model.device.type == "cpu" else None
        self._detokenizer = Detokenizer(tokenizer=tokenizer, ends=ends)

    def run(self, waiting: deque[QueuedPrompt], size: int) -> Iterator[FinishedPrompt]:
        """Yield each completion as soon as it is done.

        Args:
            waiting: emptied; prompts appended in the meantime are answered too.
            size: rows of the batch.
        """
        active: _ActiveBatch | None = None
        cores = FreeCores()
        while waiting or active:
            cores.adjust()
            free = size - (len(active.sequences) if active else 0)
            if waiting and (active is None or free >= MIN_FREE_SHARE * size):
                # 1. Admit as many prompts as there are free rows.
                admitted = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                admitted.sort(key=lambda prompt: -len(prompt.token_ids))
                parts = [active] if active else []
                for group in group_by_length(admitted, self._prefill_tokens):
                    # 2. Prefill prompts of similar length together; sample their first tokens.
                    prefilled, logits = self._prefill(group)
                    yield from self._sample_and_retire(prefilled, logits)
                    parts += [prefilled] if prefilled.sequences else []
                # 3. Join their caches with that of the batch.
                active = _concat(parts) if parts else None
            if active:
                # 4. One decode step for all rows: put the last tokens into the cache, get the logits of the next.
                with torch.inference_mode():
                    active.mask = torch.cat([active.mask, active.mask.new_ones(len(active.sequences), 1)], -1)
                    output = self._forward(active.ids, active.mask, active.positions, active.cache)
                    logits = output.logits[:, -1].float()
                # 5. Sample, and retire the rows that are done.
                yield from self._sample_and_retire(active, logits)
                active = active if active.sequences else None

    @torch.inference_mode()
    def _prefill(self, group: Sequence[QueuedPrompt]) -> tuple[_ActiveBatch, torch.Tensor]:
        """Run prompts through the model, padded on the left; returns them with the logits of their first tokens."""
        started = time.perf_counter()
        width = max(len(prompt.token_ids) for prompt in group)
        ids = torch.full((len(group), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(group):
            ids[row, width - len(prompt.token_ids) :] = torch.tensor(prompt.token_ids)
            mask[row, width - len(prompt.token_ids) :] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        # each layer of the cache is created with its first states
        output = self._forward(ids, mask, positions, Cache(layer_class_to_replicate=PreallocatedLayer))
        sequences = [ActiveSequence(prompt, started) for prompt in group]
        batch = _ActiveBatch(sequences, output.past_key_values, mask, ids[:, -1:], positions[:, -1:])
        return batch, output.logits[:, -1].float()

    @torch.inference_mode()
    def _sample_and_retire(self, batch: _ActiveBatch, logits: torch.Tensor) -> list[FinishedPrompt]:
        """Sample the next token of each row and remove the rows that end with it.

        Args:
            batch: changed in place.
            logits: shape (B, V), float32.
        """
        # 1. Sample rows with equal settings together.
        rows_by_settings: dict[GenerationSettings, list[int]] = {}
        for row, sequence in enumerate(batch.sequences):
            rows_by_settings.setdefault(sequence.decoder, []).append(row)
        sampled = torch.empty(len(batch.sequences), dtype=torch.long, device=logits.device)
        for decoder, rows in rows_by_settings.items():
            group = [batch.sequences[row] for row in rows]
            at = torch.tensor(rows, device=logits.device)
            part = logits if len(rows) == len(logits) else logits[at]
            seen = None
            if decoder.repetition_penalty != 1:
                seen = torch.zeros(part.shape, dtype=torch.bool, device=logits.device)
                for seen_row, sequence in zip(seen, group, strict=True):
                    seen_row[sequence.tokens] = True
                seen[:, self._penalty_exempt] = False
            size = decoder.no_repeat_ngram_size
            histories = [[*sequence.prompt.token_ids, *sequence.tokens] for sequence in group] if size else ()
            banned = [list(banned_ngram_tokens(history, size)) for history in histories]
            sampled[at] = sample_next_tokens(part, seen, decoder, [sequence.rng for sequence in group], banned)

        # 2. Find the rows that are done.
        remaining: list[int] = []
        finished: list[FinishedPrompt] = []
        for row, (sequence, token) in enumerate(zip(batch.sequences, sampled.tolist(), strict=True)):
            sequence.tokens.append(token)
            reason = self._detokenizer.finish_reason(sequence)
            if reason is None:
                remaining.append(row)
            else:
                completion = self._detokenizer.completion(sequence, reason)
                finished.append(FinishedPrompt(sequence.prompt.number, completion))

        # 3. Retire them.
        batch.ids, batch.positions = sampled[:, None], batch.positions + 1
        if finished:
            batch.sequences = [batch.sequences[row] for row in remaining]
            kept = torch.tensor(remaining, dtype=torch.long, device=sampled.device)
            batch.cache.batch_select_indices(kept)
            batch.mask, batch.ids, batch.positions = batch.mask[kept], batch.ids[kept], batch.positions[kept]
        return finished

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> Any:
        return self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )


def group_by_length(prompts: Sequence[QueuedPrompt], max_tokens: int | None) -> Iterator[list[QueuedPrompt]]:
    """Split prompts, sorted longest first, into groups of similar length.

    Args:
        max_tokens: of a group, padding included; None: no limit.
    """
    group: list[QueuedPrompt] = []
    for prompt in prompts:
        longest = len(group[0].token_ids) if group else 0
        is_full = max_tokens is not None and (len(group) + 1) * longest > max_tokens
        if group and (is_full or len(prompt.token_ids) < LENGTH_RATIO * longest):
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group


class PreallocatedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer that writes new tokens behind the others; transformers' own copies all tokens for each new one.

    ``keys`` and ``values`` are views of the filled part of the buffers, shape (B, heads, tokens, head size).
    """

    keys: Any
    values: Any

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens and return those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.reallocate(key_states, value_states)
        else:
            filled = self.keys.shape[-2]
            end = filled + key_states.shape[-2]
            if end > self._buffers[0].shape[-2]:
                self.reallocate(self.keys, self.values, spare=CACHE_GROWTH + key_states.shape[-2])
            for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
                buffer[:, :, filled:end] = states
            self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def reallocate(self, keys: torch.Tensor, values: torch.Tensor, *, spare: int = CACHE_GROWTH) -> None:
        """Copy these states into new buffers with room for ``spare`` more tokens."""
        filled = keys.shape[-2]
        self._buffers: list[torch.Tensor] = []
        for states in (keys, values):
            buffer = states.new_empty((*states.shape[:2], filled + spare, states.shape[-1]))
            buffer[:, :, :filled] = states
            self._buffers.append(buffer)
        self.keys, self.values = (buffer[:, :, :filled] for buffer in self._buffers)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows only."""
        self.reallocate(self.keys[indices], self.values[indices])


@torch.inference_mode()
def _concat(parts: Sequence[_ActiveBatch]) -> _ActiveBatch:
    """Join batches, their last tokens aligned at the right; shorter ones are padded on the left and masked."""
    if len(parts) == 1:
        return parts[0]
    # what is left of a part's longest sequence is padding in all its rows, and is dropped
    lengths = [int(part.mask.sum(-1).max()) for part in parts]
    width = max(lengths)
    pad = torch.nn.functional.pad
    layers = []
    for joined in zip(*(part.cache.layers for part in parts), strict=True):
        layer = PreallocatedLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(joined[0].keys, joined[0].values)
        keys, values = (
            torch.cat(
                [
                    pad(states[:, :, states.shape[-2] - length :], (0, 0, width - length, 0))
                    for states, length in zip(each, lengths, strict=True)
                ]
            )
            for each in ([part.keys for part in joined], [part.values for part in joined])
        )
        layer.reallocate(keys, values)
        layers.append(layer)
    masks = [
        pad(part.mask[:, part.mask.shape[1] - length :], (width - length, 0))
        for part, length in zip(parts, lengths, strict=True)
    ]
    return _ActiveBatch(
        sequences=[sequence for part in parts for sequence in part.sequences],
        cache=Cache(layers=list(layers)),
        mask=torch.cat(masks),
        ids=torch.cat([part.ids for part in parts]),
        positions=torch.cat([part.positions for part in parts]),
    )


def sample_next_tokens(
    logits: torch.Tensor,
    seen: torch.Tensor | None,
    decoder: GenerationSettings,
    rngs: Sequence[np.random.Generator],
    banned: Sequence[Sequence[int]] = (),
) -> torch.Tensor:
    """Sample one token a row, greedily or by nucleus sampling (Holtzman et al. 2019, arXiv:1904.09751).

    Args:
        logits: shape (B, V), float32.
        seen: shape (B, V), True where a token occurs in the row's completion so far; only needed with a repetition
            penalty.
        rngs: one random stream a row, used where the settings sample.
        banned: tokens of each row that may not be sampled; empty: all may.

    Returns:
        Token ids, shape (B,).
    """
    if seen is not None:
        penalized = torch.where(logits < 0, logits * decoder.repetition_penalty, logits / decoder.repetition_penalty)
        logits = torch.where(seen, penalized, logits)
    if any(banned):
        rows, ids = zip(*((row, token) for row, each in enumerate(banned) for token in each), strict=True)
        logits = logits.clone()
        logits[list(rows), list(ids)] = -torch.inf
    if decoder.temperature == 0:
        return logits.argmax(-1)
    # stable: tokens of equal probability keep their order; float64: a vocabulary of small numbers is added up
    ordered, tokens = (logits / decoder.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.double().cumsum(-1)
    # a token is in the nucleus while those before it sum to less than top_p
    in_nucleus = (cumulative - ordered) < decoder.top_p
    mass = (ordered.double() * in_nucleus).sum(-1, keepdim=True)
    uniform = torch.tensor([[rng.random()] for rng in rngs], dtype=torch.float64, device=logits.device)
    rank = torch.searchsorted(cumulative, uniform * mass, right=True)
    sampled: torch.Tensor = tokens.gather(-1, rank.clamp(max=tokens.shape[-1] - 1))
    return sampled.squeeze(-1)


def banned_ngram_tokens(tokens: Sequence[int], size: int) -> Iterator[int]:
    """Yield the tokens that would repeat an n-gram of this size: all that followed the last ``size - 1`` tokens."""
    known = size - 1
    end = list(tokens[len(tokens) - known :])
    for at in range(len(tokens) - known):
        if tokens[at : at + known] == end:
            yield tokens[at + known]


def penalty_exempt_tokens(tokenizer: Any) -> list[int]:
    """Return the tokens of the marker before the answer: with its line breaks penalized, a text ends behind it."""
    return sorted(set(tokenizer(f"{SECTION_BREAK}{RESPONSE_MARKER}", add_special_tokens=False).input_ids))


def prompt_rng(prompt: str, seed: int) -> np.random.Generator:
    """Seed the random numbers of one prompt, independent of its neighbours in the batch."""
    return np.random.default_rng([seed, *prompt.encode()])


@dataclass(frozen=True, kw_only=True)
class Detokenizer:
    """Turn tokens into text, and find where the text ends."""

    tokenizer: Any
    ends: frozenset[int]

    def finish_reason(self, sequence: ActiveSequence) -> FinishReason | None:
        """Return why the last token ends the completion; None if it goes on."""
        if sequence.tokens[-1] in self.ends:
            return "eos"
        stops, should_stop = sequence.decoder.stop_strings, sequence.prompt.request.should_stop
        # a stop string of n bytes spans at most n tokens
        tail = max((len(stop.encode()) for stop in stops), default=0)
        if tail and any(stop in self.text(sequence.tokens[-tail:]) for stop in stops):
            return "stop_string"
        if should_stop is not None and should_stop(self.text(sequence.tokens)):
            return "watch"
        return "length" if len(sequence.tokens) >= sequence.decoder.max_new_tokens else None

    def completion(self, sequence: ActiveSequence, reason: FinishReason) -> Completion:
        """Return the finished completion, cut at the stop string."""
        text = self.text(sequence.tokens[:-1] if reason == "eos" else sequence.tokens)
        if reason == "stop_string":
            text = text[: min(at for stop in sequence.decoder.stop_strings if (at := text.find(stop)) >= 0)]
        if reason in ("length", "watch"):
            text = text.rstrip("\ufffd")  # a character whose last bytes were not generated
        seconds = time.perf_counter() - sequence.started
        return Completion(text=text, tokens=len(sequence.tokens), stopped_by=reason, seconds=seconds)

    def text(self, tokens: Sequence[int]) -> str:
        """Decode tokens without the special ones."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
