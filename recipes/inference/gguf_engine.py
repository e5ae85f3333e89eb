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
    Engine,
    FinishReason,
    GenerationError,
    GenerationRequest,
    OnCompletion,
    find_stop_string,
)
from bonsai.recipes.inference.parallel import RequestFailedError, RequestStream, complete_in_threads

PARALLEL = 4
"""prompts completed together"""
CONTEXT = 2048
"""tokens of one prompt and its completion"""
EXTRA = "pip install 'qeu-bonsai[gguf]'"


class GgufEngine(Engine):
    """Complete prompts with llama.cpp's own server code.

    Greedy completions are nearly those of transformers, sampled ones are not.
    """

    def __init__(self, server: Any, *, name: str, parallel: int) -> None:
        self._server = server
        self.name = name
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
        """Load a model, and optionally a GGUF adapter over it.

        Raises:
            GenerationError: the extra is not installed, or llama.cpp cannot read a file.
        """
        # 1. Check the extra and the files: llama.cpp's own messages do not tell what to do.
        try:
            xllamacpp: Any = importlib.import_module("xllamacpp")  # it ships no types
        except ModuleNotFoundError as error:
            raise GenerationError(
                f"{path}: GGUF is read by llama.cpp, which is not installed; run `{EXTRA}`"
            ) from error
        for file in (path, lora):
            if file is not None:
                with file.open("rb") as opened:
                    if opened.read(4) != b"GGUF":
                        raise GenerationError(f"{file} is not a GGUF file; fetch it again, or give another")
        if _is_adapter(path):
            raise GenerationError(
                f"{path} is an adapter and lacks the base model it was trained on; give both, "
                f"BASE.gguf+{lora or path}. アダプターだけでは動きません。土台のモデルも指定してください。"
            )
        if lora is not None and not _is_adapter(lora):
            raise GenerationError(f"{lora} is a model, not an adapter; give BASE.gguf+ADAPTER.gguf")

        # 2. Start the server inside this process.
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_parallel = context * parallel, parallel
        settings.cpuparams.n_threads = max(1, (os.cpu_count() or 1) // 2)  # its threads wait for the slowest of them
        settings.warmup = False
        settings.verbosity = -1  # it would write to the terminal
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

    def close(self) -> None:
        """Free the model."""
        self._server = None

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        """Complete the requests.

        Raises:
            GenerationError: the engine is closed, or a prompt does not fit; ``on_completion`` has received the others.
        """
        if self._server is None:
            raise GenerationError(f"{self.name} is closed; open it again")

        server = self._server

        def answer(stream: RequestStream) -> Completion:
            # 1. Stream the completion into a collector, which ends it where it should.
            prompt, decoder, _ = stream.request
            started = time.perf_counter()
            collector = _StreamCollector(stream)
            result = server.handle_completions(
                {
                    "prompt": prompt,
                    "stream": True,
                    "max_tokens": decoder.max_new_tokens,
                    "temperature": decoder.temperature,
                    "top_p": decoder.top_p,
                    "seed": decoder.seed,
                    **Server(kind="llama.cpp").extra(decoder, []),
                },
                collector.on_chunk,
            )
            # 2. Raise the caller's own error, or what llama.cpp says.
            if collector.error is not None:
                raise collector.error
            if collector.finish_reason is None:
                message = collector.refusal or result
                for key in ("error", "message"):
                    message = message.get(key, message) if isinstance(message, dict) else message
                raise RequestFailedError(f"llama.cpp refused it ({str(message).rstrip('.')})", for_all=False)
            # 3. Return the text.
            return Completion(
                text=collector.text,
                tokens=collector.tokens,
                stopped_by=collector.finish_reason,
                seconds=time.perf_counter() - started,
            )

        complete_in_threads(self.name, requests, on_completion, answer, threads=self._parallel)


class _StreamCollector:
    """Collect a completion token by token, as llama.cpp streams it."""

    def __init__(self, stream: RequestStream) -> None:
        self._stream = stream
        self.text = ""
        self.tokens = 0
        self.finish_reason: FinishReason | None = None
        self.refusal: Any = None
        self.error: Exception | None = None

    def on_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take the next token; returns True to end the completion."""
        try:
            return self._add(chunk)
        except Exception as error:  # noqa: BLE001 - it must not pass through llama.cpp's own frames
            self.error = error
            return True

    def _add(self, chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            self.refusal = chunk
            return True
        choice = chunk["choices"][0]
        if choice["finish_reason"]:
            self.finish_reason = "length" if choice["finish_reason"] == "length" else "eos"
            self.tokens = chunk.get("usage", {}).get("completion_tokens", self.tokens)
            return False
        self.text += choice["text"]
        self.tokens += 1
        if (stop := find_stop_string(self.text, self._stream.request.decoder)) is not None:
            self.text, self.finish_reason = self.text[:stop], "stop_string"
        elif self._stream.should_stop(self.text):
            self.finish_reason = "watch"
        return self.finish_reason is not None


def _is_adapter(path: Path) -> bool:
    """Return whether one of the file's first fields says that its type is an adapter."""
    with path.open("rb") as file:
        return b"general.type" + struct.pack("<IQ", 8, 7) + b"adapter" in file.read(1 << 16)  # 8: a string, of 7 bytes
