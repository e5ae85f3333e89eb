"""One answer in the making, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bonsai.recipes.inference.generation.engine import Generation, Request, StoppedBy
from bonsai.recipes.inference.generation.next_token import stream_of


class Asked(NamedTuple):
    """A request with its place among all that were made."""

    place: int
    request: Request
    token_ids: Sequence[int]


class Answered(NamedTuple):
    """An answer and the place of its prompt."""

    place: int
    generation: Generation


class Row:
    """A prompt, the tokens said to it so far, and its own random numbers."""

    def __init__(self, asked: Asked, started: float) -> None:
        self.asked = asked
        self.decoder = asked.request.decoder
        self.started = started
        """by `time.perf_counter`"""
        self.tokens: list[int] = []
        self.draw: np.random.Generator = stream_of(asked.request.prompt, self.decoder.seed)


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Tokens as text, and where the text ends."""

    tokenizer: Any
    ends: frozenset[int]

    def ending(self, row: Row) -> StoppedBy | None:
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

    def generation(self, row: Row, ending: StoppedBy) -> Generation:
        """The answer as it is handed over."""
        text = self.text(row.tokens[:-1] if ending == "eos" else row.tokens)
        if ending == "stop_string":
            text = text[: min(at for stop in row.decoder.stop_strings if (at := text.find(stop)) >= 0)]
        if ending in ("length", "watch"):
            text = text.rstrip("\ufffd")  # a character whose last bytes were not waited for
        seconds = time.perf_counter() - row.started
        return Generation(text=text, tokens=len(row.tokens), stopped_by=ending, seconds=seconds)

    def text(self, tokens: Sequence[int]) -> str:
        """Without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
