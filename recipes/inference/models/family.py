"""One base in memory and all who answer over it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Engine, Generation, OnAnswer, Request, Watch

if TYPE_CHECKING:
    from bonsai.recipes.inference.generation.transformers_engine import TransformersEngine


class Family:
    """A base model that stays loaded while adapters come to it."""

    def __init__(self, base: TransformersEngine) -> None:
        self._base = base
        self._adapters: dict[Path, str] = {}
        self._turn = threading.Lock()
        """the adapter in use is a state of the model, so one answers at a time"""

    def bare(self, name: str) -> Engine:
        """The base by itself."""
        return _Member(name, None, self._base, self._turn)

    def adapted(self, name: str, folder: Path) -> Engine:
        """The base with this adapter, which is loaded unless it is already.

        Args:
            name: what a reader calls it.

        Raises:
            GenerationError: there is no such adapter, or it does not fit the base.
        """
        with self._turn:
            if folder not in self._adapters:
                label = f"adapter_{len(self._adapters)}"  # a torch module's name: no dots, so not the person's
                self._base.add_adapter(label, folder)
                self._adapters[folder] = label
        return _Member(name, self._adapters[folder], self._base, self._turn)


class _Member:
    def __init__(self, name: str, adapter: str | None, base: TransformersEngine, turn: threading.Lock) -> None:
        self._name = name
        self._adapter = adapter
        self._base = base
        self._turn = turn

    @property
    def name(self) -> str:
        return self._name

    def generate(
        self,
        prompts: Sequence[str],
        decoder: Decoder,
        *,
        on_answer: OnAnswer | None = None,
        watch: Watch | None = None,
    ) -> list[Generation]:
        with self._turn, contextlib.nullcontext() if self._adapter is None else self._base.using(self._adapter):
            return self._base.generate(prompts, decoder, on_answer=on_answer, watch=watch)

    def flow(self, requests: Sequence[Request], more: Callable[[int, Generation], Sequence[Request]]) -> None:
        with self._turn, contextlib.nullcontext() if self._adapter is None else self._base.using(self._adapter):
            self._base.flow(requests, more)
