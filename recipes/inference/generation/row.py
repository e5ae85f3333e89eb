"""One answer in the making, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Generation, StoppedBy, Watch
from bonsai.recipes.inference.generation.next_token import stream_of


class Asked(NamedTuple):
    """A prompt with its place in the list it came from."""

    place: int
    prompt: str
    token_ids: Sequence[int]


class Answered(NamedTuple):
    """An answer and the place of its prompt."""

    place: int
    generation: Generation


class Row:
    """A prompt, the tokens said to it so far, and its own random numbers."""

    def __init__(self, asked: Asked, seed: int, started: float) -> None:
        self.asked = asked
        self.started = started
        """by `time.perf_counter`"""
        self.tokens: list[int] = []
        self.draw: np.random.Generator = stream_of(asked.prompt, seed)


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Tokens as text, and where the text ends."""

    tokenizer: Any
    decoder: Decoder
    ends: frozenset[int]
    watch: Watch | None

    def ending(self, row: Row) -> StoppedBy | None:
        """What the last token ended the answer by; None: it goes on."""
        if row.tokens[-1] in self.ends:
            return "eos"
        # a stop string of n bytes spans at most n tokens
        tail = max((len(stop.encode()) for stop in self.decoder.stop_strings), default=0)
        if tail and any(stop in self.text(row.tokens[-tail:]) for stop in self.decoder.stop_strings):
            return "stop_string"
        if self.watch is not None and self.watch(row.asked.place, self.text(row.tokens)):
            return "watch"
        return "length" if len(row.tokens) >= self.decoder.max_new_tokens else None

    def generation(self, row: Row, ending: StoppedBy) -> Generation:
        """The answer as it is handed over."""
        text = self.text(row.tokens[:-1] if ending == "eos" else row.tokens)
        if ending == "stop_string":
            text = text[: min(at for stop in self.decoder.stop_strings if (at := text.find(stop)) >= 0)]
        if ending in ("length", "watch"):
            text = text.rstrip("\ufffd")  # a character whose last bytes were not waited for
        seconds = time.perf_counter() - row.started
        return Generation(text=text, tokens=len(row.tokens), stopped_by=ending, seconds=seconds)

    def text(self, tokens: Sequence[int]) -> str:
        """Without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
