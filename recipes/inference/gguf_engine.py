"""Run a GGUF file through llama.cpp in this process."""

from __future__ import annotations

import importlib
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bonsai.recipes.inference.endpoint_engine import Server
from bonsai.recipes.inference.generation import (
    Completion,
    FinishReason,
    GenerationError,
    GenerationSettings,
    OnAnswer,
    StopCheck,
)
from bonsai.recipes.inference.parallel import RequestFailedError, StreamObserver, complete_in_threads

PARALLEL = 4
"""prompts answered together"""
CONTEXT = 2048
"""tokens of one prompt and its answer"""
EXTRA = "pip install 'qeu-bonsai[gguf]'"


class GgufEngine:
    """Answers by llama.cpp's own server code; sampled answers are not those of transformers, greedy ones nearly are."""

    def __init__(self, server: Any, *, name: str, parallel: int) -> None:
        self._server = server
        self._name = name
        self._parallel = parallel

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        name: str | None = None,
        lora: Path | None = None,
        parallel: int = PARALLEL,
        context: int = CONTEXT,
    ) -> GgufEngine:
        """Load a model, and a GGUF adapter over it if one is given.

        Raises:
            GenerationError: the extra is not installed, or llama.cpp cannot read a file.
        """
        try:
            xllamacpp: Any = importlib.import_module("xllamacpp")  # it ships no types
        except ModuleNotFoundError as error:
            raise GenerationError(
                f"{path}: GGUF is read by llama.cpp, which is not installed; run `{EXTRA}`"
            ) from error
        for file in (path, lora):
            if file is not None and not _is_gguf(file):
                raise GenerationError(f"{file} is no GGUF file; fetch it again, or give another")
        if _is_adapter(path):
            raise GenerationError(
                f"{path} is an adapter, and lacks the base model it was trained on; give both, "
                f"BASE.gguf+{lora or path}. アダプターだけでは動きません。土台のモデルも指定してください。"
            )
        if lora is not None and not _is_adapter(lora):
            raise GenerationError(f"{lora} is no adapter but a model; give BASE.gguf+ADAPTER.gguf")
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_parallel = context * parallel, parallel
        settings.cpuparams.n_threads = max(1, (os.cpu_count() or 1) // 2)  # its threads wait for the slowest of them
        settings.warmup = False
        settings.verbosity = -1  # it would write into the reader's terminal
        if lora is not None:
            settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
        try:
            server = xllamacpp.Server(settings)
        except (RuntimeError, ValueError) as error:
            over = f" with {lora} over it" if lora else ""
            raise GenerationError(
                f"{path}{over} cannot be loaded ({error}); is it a whole model, does the adapter fit it, and is there "
                "enough memory?"
            ) from error
        return cls(server, name=name or path.name, parallel=parallel)

    @property
    def name(self) -> str:
        """What the reader called it, or the file's name."""
        return self._name

    def close(self) -> None:
        """Free the model."""
        self._server = None

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        """The answers, in the order of the prompts.

        Raises:
            GenerationError: the engine is closed, or a prompt does not fit; answers to the others were told.
        """
        if self._server is None:
            raise GenerationError(f"{self._name} is closed; open it again")

        def speak(prompt: str, listener: StreamObserver) -> Completion:
            return self._answer(prompt, decoder, listener)

        return complete_in_threads(self._name, prompts, speak, threads=self._parallel, on_answer=on_answer, watch=watch)

    def _answer(self, prompt: str, decoder: GenerationSettings, listener: StreamObserver) -> Completion:
        started = time.perf_counter()
        growing = _StreamCollector(decoder, listener)
        refused = self._server.handle_completions(
            {
                "prompt": prompt,
                "stream": True,
                "max_tokens": decoder.max_new_tokens,
                "temperature": decoder.temperature,
                "top_p": decoder.top_p,
                "seed": decoder.seed,
                **Server(kind="llama.cpp").extra(decoder, []),
            },
            growing.hear,
        )
        if growing.fault is not None:
            raise growing.fault
        if growing.ending is None:
            raise RequestFailedError(_error_message(growing.refused or refused), for_all=False)
        return Completion(
            text=growing.text,
            tokens=growing.tokens,
            stopped_by=growing.ending,
            seconds=time.perf_counter() - started,
        )


class _StreamCollector:
    """An answer as llama.cpp hands it over, token by token."""

    def __init__(self, decoder: GenerationSettings, listener: StreamObserver) -> None:
        self._decoder = decoder
        self._listener = listener
        self.text = ""
        self.tokens = 0
        self.ending: FinishReason | None = None
        self.refused: Any = None
        self.fault: Exception | None = None

    def hear(self, chunk: dict[str, Any]) -> bool:
        """Take the next token; True: enough."""
        try:
            return self._hear(chunk)
        except Exception as error:  # noqa: BLE001 - it must not fly through llama.cpp's own frames
            self.fault = error
            return True

    def _hear(self, chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            self.refused = chunk
            return True
        choice = chunk["choices"][0]
        if choice["finish_reason"]:
            self.ending = "length" if choice["finish_reason"] == "length" else "eos"
            self.tokens = chunk.get("usage", {}).get("completion_tokens", self.tokens)
            return False
        self.text += choice["text"]
        self.tokens += 1
        stops = [at for stop in self._decoder.stop_strings if (at := self.text.find(stop)) >= 0]
        if stops:
            self.text, self.ending = self.text[: min(stops)], "stop_string"
        elif self._listener.should_stop(self.text):
            self.ending = "watch"
        return self.ending is not None


def _error_message(refused: Any) -> str:
    told = refused.get("error", refused) if isinstance(refused, dict) else refused
    told = told.get("message", told) if isinstance(told, dict) else told
    return f"llama.cpp refused it ({str(told).rstrip('.')})"


def _is_adapter(path: Path) -> bool:
    """Whether the file says of itself, among its first fields, that its type is an adapter."""
    with path.open("rb") as file:
        return b"general.type" + struct.pack("<IQ", 8, 7) + b"adapter" in file.read(1 << 16)  # 8: a string, of 7 bytes


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"
