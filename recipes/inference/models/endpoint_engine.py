"""A model behind an address: an OpenAI-compatible server (vLLM, llama.cpp, Ollama …) or an Inference Provider.

Answers are always streamed: a watcher sees them grow, a stop string of any length ends them here, and silence is told
from slowness. The server does the batching; a few requests are kept with it at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from huggingface_hub import ChatCompletionInputStreamOptions, InferenceClient, get_token
from huggingface_hub.errors import BadRequestError

from bonsai.hub.client.session import httpx, reach_loopback
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Generation, GenerationError, OnAnswer, StoppedBy, Watch
from bonsai.recipes.inference.models.chat import after_the_marker
from bonsai.recipes.inference.models.missing import missing
from bonsai.recipes.inference.models.parallel import Listener, UnansweredError, in_parallel
from bonsai.recipes.inference.models.server import Server, key_for, recognise, served
from bonsai.recipes.inference.models.source import Address, Provided
from bonsai.recipes.inference.models.tries import Tries, TroubleError, as_trouble
from bonsai.recipes.training.registry import DEFAULT_RECIPE

PARALLEL = 4
"""requests at a time"""
AT_FIRST = 2
"""tries while a person waits whether there is a server at all"""
_SETTINGS = {"max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "seed": "seed"}
"""by OpenAI's name, the decoder's field"""


class _Piece(NamedTuple):
    text: str
    tokens: int | None
    """generated so far, where the server tells"""
    ended_by: str | None


class EndpointEngine:
    """Asks by `huggingface_hub.InferenceClient`.

    A server with our chat template answers as the adapter would here. One with a template of its own is told in words
    to write Reasoning and answer below our markers. The OpenAI protocol has no repetition penalty: llama.cpp and vLLM
    get it all the same, any other server does without (`unheeded`).
    """

    def __init__(
        self,
        at: Address | Provided,
        model: str,
        server: Server,
        *,
        tries: Tries | None = None,
        parallel: int = PARALLEL,
    ) -> None:
        self._at = at
        self._model = model
        self._server = server
        self._tries = tries or Tries()
        self._parallel = parallel
        self._refused: set[str] = set()
        """settings that this model does not take, found on the way"""

    @classmethod
    def reach(cls, at: Address | Provided, *, tries: Tries | None = None, parallel: int = PARALLEL) -> EndpointEngine:
        """Look who is there.

        Raises:
            GenerationError: nobody, or a server without this model (the nearest names are offered), or a key is wanted.
        """
        tries = tries or Tries()
        if isinstance(at, Address):
            reach_loopback(httpx.URL(at.base_url).host)
        else:
            if not get_token():
                raise GenerationError(f"{at.provider} asks for a token; put yours from Hugging Face into HF_TOKEN")
            return cls(at, at.model, Server(), tries=tries, parallel=parallel)
        try:
            names = replace(tries, count=AT_FIRST).run(lambda: _served(at.base_url, tries.silence))
        except UnansweredError as error:
            raise GenerationError(f"{at.base_url}: {error}") from error
        model = at.model or _only(names, at.base_url)
        if names and model not in names and model.rpartition(":")[0] not in names:  # MODEL:PROVIDER of a router
            raise missing(model, names, f"{at.base_url} serves no model called {model!r}")
        server = recognise(at.base_url, model, seconds=tries.silence)
        return cls(at, model, server, tries=tries, parallel=parallel)

    @property
    def name(self) -> str:
        """The model, and where it is."""
        where = self._at.provider if isinstance(self._at, Provided) else httpx.URL(self._at.base_url).netloc.decode()
        return f"{self._model} @ {where}"

    def unheeded(self, decoder: Decoder) -> tuple[str, ...]:
        """Settings of the decoder that this server does not take, as far as it has been asked."""
        return (*self._server.unheeded(decoder), *sorted(self._refused - {"max_tokens"}))

    def generate(
        self,
        prompts: Sequence[str],
        decoder: Decoder,
        *,
        on_answer: OnAnswer | None = None,
        watch: Watch | None = None,
    ) -> list[Generation]:
        """The answers, in the order of the prompts; a lost connection begins an answer anew.

        Raises:
            GenerationError: some did not come; it says how many did, and why the others did not.
        """

        def speak(prompt: str, listener: Listener) -> Generation:
            return self._tries.run(lambda: self._answer(prompt, decoder, listener), over=listener.over)

        return in_parallel(self.name, prompts, speak, threads=self._parallel, on_answer=on_answer, watch=watch)

    def _answer(self, prompt: str, decoder: Decoder, listener: Listener) -> Generation:
        started = time.perf_counter()
        raw, pieces, told, ended_by = "", 0, None, None
        ending: StoppedBy | None = None
        text = ""
        with self._client() as client:
            for piece in self._pieces(client, prompt, decoder):
                told, ended_by = piece.tokens or told, piece.ended_by or ended_by
                if not piece.text:
                    continue
                raw, pieces = raw + piece.text, pieces + 1
                text = raw if self._server.has_our_template else after_the_marker(prompt, raw)
                stops = [at for stop in decoder.stop_strings if (at := text.find(stop)) >= 0]
                if stops:
                    text, ending = text[: min(stops)], "stop_string"
                elif listener.ends_it(text):
                    ending = "watch"
                if ending:
                    break
        if ending is None and ended_by is None:
            raise TroubleError("the answer broke off", passes=True)
        return Generation(
            text=text,
            tokens=told or pieces,
            stopped_by=ending or ("length" if ended_by == "length" else "eos"),
            seconds=time.perf_counter() - started,
        )

    def _pieces(self, client: InferenceClient, prompt: str, decoder: Decoder) -> Iterator[_Piece]:
        with as_trouble():
            for chunk in self._stream(client, prompt, decoder):
                choice = chunk.choices[0] if chunk.choices else None
                yield _Piece(
                    text=(choice and choice.delta and choice.delta.content) or "",
                    tokens=chunk.usage.completion_tokens if chunk.usage else None,
                    ended_by=choice.finish_reason if choice else None,
                )

    def _stream(self, client: InferenceClient, prompt: str, decoder: Decoder) -> Any:
        """Some models refuse a setting that all others take; then it is asked for without."""
        messages = self._server.messages(prompt)
        wanted: dict[str, Any] = {name: getattr(decoder, field) for name, field in _SETTINGS.items()}
        while True:
            settings = {name: value for name, value in wanted.items() if name not in self._refused}
            extra = self._server.extra(decoder, messages)
            if "max_tokens" in self._refused:
                extra["max_completion_tokens"] = decoder.max_new_tokens
            try:
                return client.chat_completion(
                    [dict(message) for message in messages],
                    model=self._model,
                    stream=True,
                    stream_options=ChatCompletionInputStreamOptions(include_usage=True),
                    extra_body=extra,
                    **settings,
                )
            except BadRequestError as error:
                refused = _refused_setting(error)
                if refused not in settings:
                    raise
                self._refused.add(refused)

    def _client(self) -> InferenceClient:
        """One for each request: it keeps a stream open until it is closed itself."""
        seconds = self._tries.silence
        if isinstance(self._at, Provided):
            return InferenceClient(provider=self._at.provider, token=get_token(), timeout=seconds)  # type: ignore[arg-type]
        return InferenceClient(base_url=self._at.base_url, token=key_for(self._at.base_url), timeout=seconds)


def _served(base_url: str, seconds: float) -> list[str]:
    with as_trouble():
        return served(base_url, seconds=seconds)


def _refused_setting(error: BadRequestError) -> str:
    """OpenAI names it in ``error.param``."""
    try:
        return str(error.response.json()["error"]["param"])
    except (ValueError, KeyError, TypeError):
        return ""


def _only(names: list[str], base_url: str) -> str:
    if len(names) == 1:
        return names[0]
    if DEFAULT_RECIPE in names:
        return DEFAULT_RECIPE
    listed = f"it serves {', '.join(names)}" if names else "it does not tell which it serves"
    raise GenerationError(f"{base_url}: name the model, {base_url}#MODEL or --model MODEL; {listed}")
