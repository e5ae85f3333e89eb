"""Run a model behind an OpenAI-compatible address or an Inference Provider, with retries.

A server that has our chat template (`bonsai.builder.prompt`) renders the turns back into the very prompt: the
system text before the instruction, the question alone as the user's turn, and what the model has "said" already, such
as a Reasoning from the first pass, as the assistant's, to be continued. Any other model is told in the system text
which parts are wanted, and is given a Reasoning below the question.

Servers do not say what they are. llama.cpp and vLLM show what they make of a chat, each in its own way; that tells
both who they are and whether the template is ours. Every other server is taken for one with a template of its own.

Answers are always streamed: a watcher sees them grow, a stop string of any length ends them here, and silence is told
from slowness. The server does the batching; a few requests are kept with it at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import responses
from typing import Any, Literal, NamedTuple, TypeVar

from huggingface_hub import ChatCompletionInputStreamOptions, InferenceClient, get_session, get_token
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    InferenceTimeoutError,
    OverloadedError,
    TextGenerationError,
)

from bonsai.builder.prompt import INSTRUCTION_MARKER, REASONING_MARKER, RESPONSE_MARKER, SECTION_BREAK, Message
from bonsai.hub.http_client import httpx, reach_loopback
from bonsai.hub.retry import is_transient, retry_after
from bonsai.recipes.inference.generation import (
    Completion,
    FinishReason,
    GenerationError,
    GenerationSettings,
    OnAnswer,
    StopCheck,
)
from bonsai.recipes.inference.model_source import EndpointSource, ProviderSource, model_not_found_error
from bonsai.recipes.inference.parallel import RequestFailedError, StreamObserver, complete_in_threads
from bonsai.recipes.training.recipe import DEFAULT_RECIPE

BOTH_PARTS = (
    "Answer in two parts, in the language of the question unless told otherwise. Write the line "
    f"`{REASONING_MARKER.strip()}` and below it the reasons that lead to the answer; then the line "
    f"`{RESPONSE_MARKER.strip()}` and below it the answer."
)
ANSWER_ALONE = (
    f"Below the question, after `{REASONING_MARKER.strip()}`, stand the reasons that lead to its answer. Go by them "
    "and write the answer alone, in the language of the question unless told otherwise."
)


@dataclass(frozen=True, kw_only=True)
class ParsedPrompt:
    """A prompt taken apart."""

    system: str
    """what stands before the first instruction; empty: nothing"""
    question: str
    """instruction and input"""
    said: str | None
    """the answer as far as it stands, from its first marker on, to be continued; None: the prompt asks for no part"""


def parse_prompt(prompt: str) -> ParsedPrompt:
    """The system text, the question, and the answer as far as the prompt has it."""
    system, marker, rest = prompt.partition(INSTRUCTION_MARKER)
    if not marker:
        return ParsedPrompt(system="", question=prompt, said=None)
    system = system.removesuffix(SECTION_BREAK)
    for first in (REASONING_MARKER, RESPONSE_MARKER):
        question, marker, said = rest.rpartition(SECTION_BREAK + first)
        if marker:
            return ParsedPrompt(system=system, question=question, said=first + said)
    return ParsedPrompt(system=system, question=rest, said=None)


def messages_for_own_template(prompt: str, *, marker_is_there: bool) -> list[Message]:
    """Turns that our template renders into the prompt; one of the assistant at the end is to be continued.

    Args:
        marker_is_there: whether the server puts the marker of the Reasoning before what is to be continued, as
            llama.cpp does; it can then not be asked for a response without any Reasoning, and gets an empty one.
    """
    taken = parse_prompt(prompt)
    messages = [*_of_system(taken.system), Message(role="user", content=taken.question)]
    if taken.said is None or taken.said == REASONING_MARKER:
        return messages
    said = taken.said.removeprefix(REASONING_MARKER) if marker_is_there else taken.said
    return [*messages, Message(role="assistant", content=said)]


def messages_for_generic_model(prompt: str) -> list[Message]:
    """Turns that say in words what our template says with markers."""
    taken = parse_prompt(prompt)
    if taken.said is None:
        return [*_of_system(taken.system), Message(role="user", content=taken.question)]
    wanted, known = "", ""
    if taken.said == REASONING_MARKER:
        wanted = BOTH_PARTS
    elif taken.said.startswith(REASONING_MARKER):
        wanted, known = ANSWER_ALONE, SECTION_BREAK + taken.said.removesuffix(RESPONSE_MARKER).rstrip()
    system = SECTION_BREAK.join(part for part in (taken.system, wanted) if part)
    return [*_of_system(system), Message(role="user", content=taken.question + known)]


def strip_leading_marker(prompt: str, text: str) -> str:
    """The text as our adapters would have gone on: without the marker that the prompt ends with already."""
    for marker in (REASONING_MARKER, RESPONSE_MARKER):
        if prompt.endswith(marker):
            begun = text.lstrip()
            if marker.strip().startswith(begun):
                return ""  # not yet more than a part of the marker
            if begun.startswith(marker.strip()):
                return begun.removeprefix(marker.strip()).lstrip()
    return text


def _of_system(text: str) -> list[Message]:
    return [Message(role="system", content=text)] if text else []


KEY = "OPENAI_API_KEY"
NO_KEY = "none"
"""sent where there is no key: given nothing, the client would send the Hub's token to whoever is asked"""
WHOLE_PROMPT = 1 << 17
"""tokens that llama.cpp looks back for repetitions: all there are; it refuses -1, which once meant that"""
_HUGGING_FACE = (".huggingface.co", ".huggingface.cloud")
_PROBE_QUESTION = "Why?"
_PROBE = f"{INSTRUCTION_MARKER}{_PROBE_QUESTION}{SECTION_BREAK}{REASONING_MARKER}"


@dataclass(frozen=True, kw_only=True)
class Server:
    """How one server is to be asked."""

    kind: Literal["llama.cpp", "vLLM", "other"] = "other"
    has_our_template: bool = False

    def messages(self, prompt: str) -> list[Message]:
        """The prompt as this server's turns."""
        if not self.has_our_template:
            return messages_for_generic_model(prompt)
        return messages_for_own_template(prompt, marker_is_there=self.kind == "llama.cpp")

    def extra(self, decoder: GenerationSettings, messages: list[Message]) -> dict[str, Any]:
        """What the OpenAI protocol has no word for; empty for a server that is not known to take it."""
        if self.kind == "llama.cpp":
            return {
                "repeat_penalty": decoder.repetition_penalty,
                "repeat_last_n": WHOLE_PROMPT,
                "samplers": ["penalties", "temperature", "top_p"],  # in the order of our own engine
            }
        if self.kind == "vLLM":
            ours = {"repetition_penalty": decoder.repetition_penalty, "top_k": -1, "min_p": 0.0}
            if messages[-1]["role"] == "assistant":
                return ours | {"continue_final_message": True, "add_generation_prompt": False}
            return ours
        return {}

    def unheeded(self, decoder: GenerationSettings) -> tuple[str, ...]:
        """Settings of the decoder that this server cannot be told."""
        known = self.kind != "other" or decoder.repetition_penalty == 1
        return () if known else ("repetition_penalty",)


def api_key_for(base_url: str) -> str:
    """The key that this address may see: the Hub's token for Hugging Face only, OPENAI_API_KEY for any other."""
    host = "." + httpx.URL(base_url).host
    token = get_token() if host.endswith(_HUGGING_FACE) else os.environ.get(KEY, "").strip()
    return token or NO_KEY


def list_models(base_url: str, *, seconds: float) -> list[str]:
    """The names of the models there; empty: the server does not list them.

    Raises:
        httpx.HTTPError: the server cannot be reached, or refuses the key, or is in trouble.
    """
    response = get_session().get(f"{base_url}/models", headers=_headers(base_url), timeout=seconds)
    if response.status_code in (404, 405):
        return []
    response.raise_for_status()
    told = response.json()
    return [str(one["id"]) for one in told.get("data") or []] if isinstance(told, dict) else []


def detect_server(base_url: str, model: str, *, seconds: float) -> Server:
    """Which server it is, by what it makes of a chat; what it does not answer counts as not known.

    llama.cpp: https://github.com/ggml-org/llama.cpp/tree/master/tools/server, ``/apply-template``. vLLM: ``/tokenize``
    and ``/detokenize`` of https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
    """
    root = base_url.removesuffix("/v1")
    messages = [Message(role="user", content=_PROBE_QUESTION)]

    def asked(path: str, body: dict[str, Any]) -> Any:
        try:
            response = get_session().post(root + path, json=body, headers=_headers(base_url), timeout=seconds)
            told = response.json() if response.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    rendered = asked("/apply-template", {"messages": messages}).get("prompt")
    if isinstance(rendered, str):
        return Server(kind="llama.cpp", has_our_template=rendered.endswith(_PROBE))
    tokens = asked("/tokenize", {"model": model, "messages": messages}).get("tokens")
    if tokens:
        rendered = asked("/detokenize", {"model": model, "tokens": tokens}).get("prompt")
        return Server(kind="vLLM", has_our_template=str(rendered).endswith(_PROBE))
    return Server()


def _headers(base_url: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key_for(base_url)}"}


T = TypeVar("T")

_ABOUT_THE_PROMPT = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
WORDS = 300
"""characters of a server's own words that are passed on"""


class EndpointError(Exception):
    """What a request came to, in words for the person at the keyboard: no key, no header."""

    def __init__(self, said: str, *, passes: bool, about_the_prompt: bool = False, wait: float | None = None) -> None:
        super().__init__(said)
        self.passes = passes
        """whether another try may get over it"""
        self.about_the_prompt = about_the_prompt
        """whether other prompts may fare better"""
        self.wait = wait
        """seconds the server asked for"""


@contextlib.contextmanager
def translate_client_errors() -> Iterator[None]:
    """Errors of the clients, and answers in no known form, as `TroubleError`."""
    try:
        yield
    except TextGenerationError as error:  # in the midst of a stream
        raise EndpointError(
            f"the server gave up ({_first_line(error)})",
            passes=isinstance(error, OverloadedError),
            about_the_prompt=True,
        ) from error
    except (httpx.HTTPError, OSError, ValueError) as error:
        about_the_prompt = isinstance(error, HfHubHTTPError) and error.response.status_code in _ABOUT_THE_PROMPT
        raise EndpointError(
            _describe(error), passes=is_transient(error), about_the_prompt=about_the_prompt, wait=retry_after(error)
        ) from error
    except (AttributeError, KeyError, TypeError) as error:  # the client takes the form of an answer for granted
        raise EndpointError("what the server answers is not the OpenAI protocol", passes=False) from error


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a server is asked."""

    count: int = 4
    first_wait: float = 1.0
    """seconds before the second try; doubled each time"""
    longest_wait: float = 60.0
    """seconds; a server that asks for a longer pause is given up"""
    silence: float = 120.0
    """seconds without a word after which a request counts as lost"""

    def run(self, step: Callable[[], T], *, over: threading.Event | None = None) -> T:
        """Do ``step`` until it succeeds.

        Args:
            over: set when nobody waits for it any more.

        Raises:
            UnansweredError: what did not pass, or not in time.
        """
        over = over or threading.Event()
        pause = self.first_wait
        for count in range(1, self.count + 1):
            try:
                return step()
            except EndpointError as error:
                if not error.passes:
                    raise RequestFailedError(str(error), for_all=not error.about_the_prompt) from error
                wait = min(pause, self.longest_wait) if error.wait is None else error.wait
                if count == self.count or wait > self.longest_wait or over.wait(wait):
                    longer = f", and asked for a pause of {wait:.0f} s" if wait > self.longest_wait else ""
                    times = "once" if count == 1 else f"{count} times"
                    raise RequestFailedError(f"{error}{longer} (tried {times})", for_all=True) from error
                pause *= 2
        raise AssertionError("unreachable: the last try returns or raises")


def _describe(error: Exception) -> str:
    response = error.response if isinstance(error, HfHubHTTPError | httpx.HTTPStatusError) else None
    if response is not None:
        status = response.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return f"the server refused the key ({status}); set OPENAI_API_KEY, or HF_TOKEN for Hugging Face"
        words = _server_message(response)
        return f"the server answered {status} ({responses.get(status, 'unknown')})" + (f": {words}" if words else "")
    if isinstance(error, httpx.TimeoutException | InferenceTimeoutError):
        return "the server was silent for too long; is the model too large for it, or the queue too long?"
    if isinstance(error, httpx.ConnectError):
        return "the server cannot be reached; check that it runs, and its address"
    if isinstance(error, httpx.TransportError):
        return "the connection to the server broke off"
    if isinstance(error, json.JSONDecodeError):
        return "the server's answer is not JSON; is this the address of an OpenAI-compatible server?"
    return _first_line(error)


def _server_message(response: httpx.Response) -> str:
    """Of ``{"error": {"message": …}}`` as OpenAI writes it, and of its variants."""
    try:
        told = response.json()
    except (ValueError, httpx.ResponseNotRead):
        return ""
    for key in ("error", "message"):
        told = told.get(key, told) if isinstance(told, dict) else told
    return _first_line(told)


def _first_line(said: object) -> str:
    return (str(said).strip().splitlines() or [""])[0][:WORDS].rstrip(".")


PARALLEL = 4
"""requests at a time"""
CONNECT_TRIES = 2
"""tries while a person waits whether there is a server at all"""
_SETTINGS = {"max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "seed": "seed"}
"""by OpenAI's name, the decoder's field"""


class _StreamChunk(NamedTuple):
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
        at: EndpointSource | ProviderSource,
        model: str,
        server: Server,
        *,
        tries: RetryPolicy | None = None,
        parallel: int = PARALLEL,
    ) -> None:
        self._at = at
        self._model = model
        self._server = server
        self._tries = tries or RetryPolicy()
        self._parallel = parallel
        self._refused: set[str] = set()
        """settings that this model does not take, found on the way"""

    @classmethod
    def reach(
        cls, at: EndpointSource | ProviderSource, *, tries: RetryPolicy | None = None, parallel: int = PARALLEL
    ) -> EndpointEngine:
        """Look who is there.

        Raises:
            GenerationError: nobody, or a server without this model (the nearest names are offered), or a key is wanted.
        """
        tries = tries or RetryPolicy()
        if isinstance(at, EndpointSource):
            reach_loopback(httpx.URL(at.base_url).host)
        else:
            if not get_token():
                raise GenerationError(f"{at.provider} asks for a token; put yours from Hugging Face into HF_TOKEN")
            return cls(at, at.model, Server(), tries=tries, parallel=parallel)
        try:
            names = replace(tries, count=CONNECT_TRIES).run(lambda: _served(at.base_url, tries.silence))
        except RequestFailedError as error:
            raise GenerationError(f"{at.base_url}: {error}") from error
        model = at.model or _single_model(names, at.base_url)
        if names and model not in names and model.rpartition(":")[0] not in names:  # MODEL:PROVIDER of a router
            raise model_not_found_error(model, names, f"{at.base_url} serves no model called {model!r}")
        server = detect_server(at.base_url, model, seconds=tries.silence)
        return cls(at, model, server, tries=tries, parallel=parallel)

    @property
    def name(self) -> str:
        """The model, and where it is."""
        where = (
            self._at.provider if isinstance(self._at, ProviderSource) else httpx.URL(self._at.base_url).netloc.decode()
        )
        return f"{self._model} @ {where}"

    def unheeded(self, decoder: GenerationSettings) -> tuple[str, ...]:
        """Settings of the decoder that this server does not take, as far as it has been asked."""
        return (*self._server.unheeded(decoder), *sorted(self._refused - {"max_tokens"}))

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        """The answers, in the order of the prompts; a lost connection begins an answer anew.

        Raises:
            GenerationError: some did not come; it says how many did, and why the others did not.
        """

        def speak(prompt: str, listener: StreamObserver) -> Completion:
            return self._tries.run(lambda: self._answer(prompt, decoder, listener), over=listener.over)

        return complete_in_threads(self.name, prompts, speak, threads=self._parallel, on_answer=on_answer, watch=watch)

    def _answer(self, prompt: str, decoder: GenerationSettings, listener: StreamObserver) -> Completion:
        started = time.perf_counter()
        raw, pieces, told, ended_by = "", 0, None, None
        ending: FinishReason | None = None
        text = ""
        with self._client() as client:
            for piece in self._pieces(client, prompt, decoder):
                told, ended_by = piece.tokens or told, piece.ended_by or ended_by
                if not piece.text:
                    continue
                raw, pieces = raw + piece.text, pieces + 1
                text = raw if self._server.has_our_template else strip_leading_marker(prompt, raw)
                stops = [at for stop in decoder.stop_strings if (at := text.find(stop)) >= 0]
                if stops:
                    text, ending = text[: min(stops)], "stop_string"
                elif listener.should_stop(text):
                    ending = "watch"
                if ending:
                    break
        if ending is None and ended_by is None:
            raise EndpointError("the answer broke off", passes=True)
        return Completion(
            text=text,
            tokens=told or pieces,
            stopped_by=ending or ("length" if ended_by == "length" else "eos"),
            seconds=time.perf_counter() - started,
        )

    def _pieces(self, client: InferenceClient, prompt: str, decoder: GenerationSettings) -> Iterator[_StreamChunk]:
        with translate_client_errors():
            for chunk in self._stream(client, prompt, decoder):
                choice = chunk.choices[0] if chunk.choices else None
                yield _StreamChunk(
                    text=(choice and choice.delta and choice.delta.content) or "",
                    tokens=chunk.usage.completion_tokens if chunk.usage else None,
                    ended_by=choice.finish_reason if choice else None,
                )

    def _stream(self, client: InferenceClient, prompt: str, decoder: GenerationSettings) -> Any:
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
        if isinstance(self._at, ProviderSource):
            return InferenceClient(provider=self._at.provider, token=get_token(), timeout=seconds)  # type: ignore[arg-type]
        return InferenceClient(base_url=self._at.base_url, token=api_key_for(self._at.base_url), timeout=seconds)


def _served(base_url: str, seconds: float) -> list[str]:
    with translate_client_errors():
        return list_models(base_url, seconds=seconds)


def _refused_setting(error: BadRequestError) -> str:
    """OpenAI names it in ``error.param``."""
    try:
        return str(error.response.json()["error"]["param"])
    except (ValueError, KeyError, TypeError):
        return ""


def _single_model(names: list[str], base_url: str) -> str:
    if len(names) == 1:
        return names[0]
    if DEFAULT_RECIPE in names:
        return DEFAULT_RECIPE
    listed = f"it serves {', '.join(names)}" if names else "it does not tell which it serves"
    raise GenerationError(f"{base_url}: name the model, {base_url}#MODEL or --model MODEL; {listed}")
