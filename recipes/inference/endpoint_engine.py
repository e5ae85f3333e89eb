"""Run a model behind an OpenAI-compatible address or an Inference Provider, with retries.

A server with our chat template (`bonsai.builder.prompt`) renders messages back into the exact prompt: the system text
before the instruction, the question as the user's message, and the start of the answer, such as a reasoning from the
first pass, as the assistant's message to be continued. Any other model is told in the system text which parts to write,
and gets a reasoning below the question.

Servers do not say what they are, but llama.cpp and vLLM show, each in its own way, how they render a chat. That
identifies them and tells whether the template is ours. Any other server is assumed to have a template of its own.

Completions are always streamed: callers see them as they come, a stop string of any length ends them here, and a silent
server is told from a slow one. The server does the batching; a few requests are kept with it at a time.
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
from bonsai.hub.retry import RetryPolicy, is_transient, retry_after
from bonsai.recipes.inference.generation import (
    Completion,
    Engine,
    FinishReason,
    GenerationError,
    GenerationRequest,
    GenerationSettings,
    OnCompletion,
    find_stop_string,
)
from bonsai.recipes.inference.model_source import EndpointSource, ProviderSource, model_not_found_error
from bonsai.recipes.inference.parallel import RequestFailedError, RequestStream, complete_in_threads
from bonsai.recipes.training.recipe import DEFAULT_RECIPE

PARALLEL = 4
"""requests at a time"""
RETRY = RetryPolicy(tries=4, longest_wait=60.0, total=60.0)
SILENCE = 120.0
"""seconds without data after which a request counts as lost"""
CONNECT_TRIES = 2
"""tries while a person waits to learn whether there is a server at all"""
MESSAGE_CHARACTERS = 300
"""of a server's own message that are passed on"""
KEY = "OPENAI_API_KEY"
NO_KEY = "none"
"""sent without a key: given nothing, the client would send the Hub's token to any address"""
PENALTY_TOKENS = 1 << 17
"""that llama.cpp looks back for repetitions: all there are; it refuses -1, which once meant that"""
BOTH_PARTS = (
    "Answer in two parts, in the language of the question unless told otherwise. Write the line "
    f"`{REASONING_MARKER.strip()}` and below it the reasons that lead to the answer; then the line "
    f"`{RESPONSE_MARKER.strip()}` and below it the answer."
)
ANSWER_ALONE = (
    f"Below the question, after `{REASONING_MARKER.strip()}`, stand the reasons that lead to its answer. Go by them "
    "and write the answer alone, in the language of the question unless told otherwise."
)

_SETTINGS = {"max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "seed": "seed"}
"""by OpenAI's name, the field of `GenerationSettings`"""
_HUGGING_FACE = (".huggingface.co", ".huggingface.cloud")
_PROBE_QUESTION = "Why?"
_PROBE = f"{INSTRUCTION_MARKER}{_PROBE_QUESTION}{SECTION_BREAK}{REASONING_MARKER}"
_PROMPT_STATUSES = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ParsedPrompt:
    """The parts of a prompt."""

    system: str
    """the text before the first instruction, may be empty"""
    question: str
    """instruction and input"""
    started: str | None
    """the start of the answer from its first marker on, to be continued; None: the prompt has no marker of an answer"""


def parse_prompt(prompt: str) -> ParsedPrompt:
    """Split a prompt into system text, question, and the start of the answer."""
    system, marker, rest = prompt.partition(INSTRUCTION_MARKER)
    if not marker:
        return ParsedPrompt(system="", question=prompt, started=None)
    system = system.removesuffix(SECTION_BREAK)
    for first in (REASONING_MARKER, RESPONSE_MARKER):
        question, marker, started = rest.rpartition(SECTION_BREAK + first)
        if marker:
            return ParsedPrompt(system=system, question=question, started=first + started)
    return ParsedPrompt(system=system, question=rest, started=None)


def messages_for_own_template(prompt: str, *, adds_marker: bool) -> list[Message]:
    """Convert a prompt to messages that our template renders back into it; an assistant message is to be continued.

    Args:
        adds_marker: whether the server puts the marker of the reasoning before what is to be continued, as llama.cpp
            does; a response without reasoning cannot be asked for then, and gets an empty one.
    """
    parsed = parse_prompt(prompt)
    messages = [*_system_messages(parsed.system), Message(role="user", content=parsed.question)]
    if parsed.started is None or parsed.started == REASONING_MARKER:
        return messages
    started = parsed.started.removeprefix(REASONING_MARKER) if adds_marker else parsed.started
    return [*messages, Message(role="assistant", content=started)]


def messages_for_generic_model(prompt: str) -> list[Message]:
    """Convert a prompt to messages that say in words what our template says with markers."""
    parsed = parse_prompt(prompt)
    if parsed.started is None:
        return [*_system_messages(parsed.system), Message(role="user", content=parsed.question)]
    request, known = "", ""
    if parsed.started == REASONING_MARKER:
        request = BOTH_PARTS
    elif parsed.started.startswith(REASONING_MARKER):
        request, known = ANSWER_ALONE, SECTION_BREAK + parsed.started.removesuffix(RESPONSE_MARKER).rstrip()
    system = SECTION_BREAK.join(part for part in (parsed.system, request) if part)
    return [*_system_messages(system), Message(role="user", content=parsed.question + known)]


def strip_leading_marker(prompt: str, text: str) -> str:
    """Remove the marker that the prompt ends with from the start of a completion, where generic models repeat it."""
    for marker in (REASONING_MARKER, RESPONSE_MARKER):
        if prompt.endswith(marker):
            start = text.lstrip()
            if marker.strip().startswith(start):
                return ""  # so far only a part of the marker
            if start.startswith(marker.strip()):
                return start.removeprefix(marker.strip()).lstrip()
    return text


def _system_messages(text: str) -> list[Message]:
    return [Message(role="system", content=text)] if text else []


@dataclass(frozen=True, kw_only=True)
class Server:
    """What kind of server it is, and how to ask it."""

    kind: Literal["llama.cpp", "vLLM", "other"] = "other"
    has_our_template: bool = False

    def messages(self, prompt: str) -> list[Message]:
        """Convert a prompt to messages for this server."""
        if not self.has_our_template:
            return messages_for_generic_model(prompt)
        return messages_for_own_template(prompt, adds_marker=self.kind == "llama.cpp")

    def extra(self, decoder: GenerationSettings, messages: list[Message]) -> dict[str, Any]:
        """Return settings outside the OpenAI protocol; empty for a server that is not known to accept them."""
        if self.kind == "llama.cpp":
            return {
                "repeat_penalty": decoder.repetition_penalty,
                "repeat_last_n": PENALTY_TOKENS,
                "samplers": ["penalties", "temperature", "top_p"],  # in the order of our own engine
            }
        if self.kind == "vLLM":
            settings = {"repetition_penalty": decoder.repetition_penalty, "top_k": -1, "min_p": 0.0}
            if messages[-1]["role"] == "assistant":
                return settings | {"continue_final_message": True, "add_generation_prompt": False}
            return settings
        return {}

    def unsupported_settings(self, decoder: GenerationSettings) -> tuple[str, ...]:
        """Return the names of settings that this server does not accept."""
        is_supported = self.kind != "other" or decoder.repetition_penalty == 1
        return () if is_supported else ("repetition_penalty",)


def api_key_for(base_url: str) -> str:
    """Return the key for an address: the Hub's token for Hugging Face only, OPENAI_API_KEY for any other."""
    host = "." + httpx.URL(base_url).host
    token = get_token() if host.endswith(_HUGGING_FACE) else os.environ.get(KEY, "").strip()
    return token or NO_KEY


def list_models(base_url: str, *, seconds: float) -> list[str]:
    """List the models of a server; empty if the server does not list them.

    Raises:
        httpx.HTTPError: the server cannot be reached, refuses the key, or fails.
    """
    response = get_session().get(f"{base_url}/models", headers=_headers(base_url), timeout=seconds)
    if response.status_code in (404, 405):
        return []
    response.raise_for_status()
    body = response.json()
    return [str(model["id"]) for model in body.get("data") or []] if isinstance(body, dict) else []


def detect_server(base_url: str, model: str, *, seconds: float) -> Server:
    """Identify a server by how it renders a chat; one that does not show it is an unknown server.

    llama.cpp: https://github.com/ggml-org/llama.cpp/tree/master/tools/server, ``/apply-template``. vLLM: ``/tokenize``
    and ``/detokenize`` of https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
    """
    root = base_url.removesuffix("/v1")
    messages = [Message(role="user", content=_PROBE_QUESTION)]

    def post(path: str, body: dict[str, Any]) -> Any:
        try:
            response = get_session().post(root + path, json=body, headers=_headers(base_url), timeout=seconds)
            answer = response.json() if response.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return {}
        return answer if isinstance(answer, dict) else {}

    rendered = post("/apply-template", {"messages": messages}).get("prompt")
    if isinstance(rendered, str):
        return Server(kind="llama.cpp", has_our_template=rendered.endswith(_PROBE))
    tokens = post("/tokenize", {"model": model, "messages": messages}).get("tokens")
    if tokens:
        rendered = post("/detokenize", {"model": model, "tokens": tokens}).get("prompt")
        return Server(kind="vLLM", has_our_template=str(rendered).endswith(_PROBE))
    return Server()


def _headers(base_url: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key_for(base_url)}"}


class EndpointError(Exception):
    """A failed request, in a sentence for the user without key or headers."""

    def __init__(
        self, message: str, *, is_transient: bool, is_prompt_fault: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.is_transient = is_transient
        """whether another try may succeed"""
        self.is_prompt_fault = is_prompt_fault
        """whether other prompts may succeed"""
        self.wait = wait
        """seconds to wait, if the server says so"""


@contextlib.contextmanager
def translate_client_errors() -> Iterator[None]:
    """Raise errors of the clients, and answers in an unknown format, as `EndpointError`."""
    try:
        yield
    except TextGenerationError as error:  # in the middle of a stream
        raise EndpointError(
            f"the server gave up ({_first_line(error)})",
            is_transient=isinstance(error, OverloadedError),
            is_prompt_fault=True,
        ) from error
    except (httpx.HTTPError, OSError, ValueError) as error:
        is_prompt_fault = isinstance(error, HfHubHTTPError) and error.response.status_code in _PROMPT_STATUSES
        raise EndpointError(
            _describe(error), is_transient=is_transient(error), is_prompt_fault=is_prompt_fault, wait=retry_after(error)
        ) from error
    except (AttributeError, KeyError, TypeError) as error:  # the client does not check the format
        raise EndpointError("the server's answer does not follow the OpenAI protocol", is_transient=False) from error


def retry_request(step: Callable[[], T], policy: RetryPolicy, over: threading.Event | None = None) -> T:
    """Call ``step`` until it succeeds.

    Args:
        over: set when nobody waits for the result any more.

    Raises:
        RequestFailedError: the error was permanent, or all tries failed.
    """
    over = over or threading.Event()
    for count in range(1, policy.tries + 1):
        try:
            return step()
        except EndpointError as error:
            if not error.is_transient:
                raise RequestFailedError(str(error), for_all=not error.is_prompt_fault) from error
            wait = policy.wait(count - 1, error.wait)
            if count == policy.tries or wait > policy.total or over.wait(wait):
                longer = f", and asked for a pause of {wait:.0f} s" if wait > policy.total else ""
                times = "once" if count == 1 else f"{count} times"
                raise RequestFailedError(f"{error}{longer} (tried {times})", for_all=True) from error
    raise AssertionError("unreachable: the last try returns or raises")


def _describe(error: Exception) -> str:
    response = error.response if isinstance(error, HfHubHTTPError | httpx.HTTPStatusError) else None
    if response is not None:
        status = response.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return f"the server refused the key ({status}); set OPENAI_API_KEY, or HF_TOKEN for Hugging Face"
        # {"error": {"message": …}} as OpenAI writes it, and its variants
        try:
            body = response.json()
        except (ValueError, httpx.ResponseNotRead):
            body = ""
        for key in ("error", "message"):
            body = body.get(key, body) if isinstance(body, dict) else body
        message = _first_line(body)
        return f"the server answered {status} ({responses.get(status, 'unknown')})" + (
            f": {message}" if message else ""
        )
    if isinstance(error, httpx.TimeoutException | InferenceTimeoutError):
        return "the server was silent for too long; is the model too large for it, or the queue too long?"
    if isinstance(error, httpx.ConnectError):
        return "the server cannot be reached; check that it runs, and its address"
    if isinstance(error, httpx.TransportError):
        return "the connection to the server broke off"
    if isinstance(error, json.JSONDecodeError):
        return "the server's answer is not JSON; is this the address of an OpenAI-compatible server?"
    return _first_line(error)


def _first_line(text: object) -> str:
    return (str(text).strip().splitlines() or [""])[0][:MESSAGE_CHARACTERS].rstrip(".")


class _StreamChunk(NamedTuple):
    text: str
    tokens: int | None
    """generated so far, if the server says so"""
    finish_reason: str | None


class EndpointEngine(Engine):
    """Complete prompts through `huggingface_hub.InferenceClient`.

    A server with our chat template answers as the adapter would here. One with another template is asked in words to
    write reasoning and answer below our markers. The OpenAI protocol has no repetition penalty: llama.cpp and vLLM get
    it all the same, any other server does without (`unsupported_settings`).
    """

    def __init__(
        self,
        source: EndpointSource | ProviderSource,
        model: str,
        server: Server,
        *,
        retry: RetryPolicy = RETRY,
        silence: float = SILENCE,
        parallel: int = PARALLEL,
    ) -> None:
        if isinstance(source, ProviderSource):
            self.name = f"{model} @ {source.provider}"
        else:
            self.name = f"{model} @ {httpx.URL(source.base_url).netloc.decode()}"
        self._source = source
        self._model = model
        self._server = server
        self._retry = retry
        self._silence = silence
        self._parallel = parallel
        self._refused: set[str] = set()
        """settings that this model has turned out not to accept"""

    @classmethod
    def connect(
        cls,
        source: EndpointSource | ProviderSource,
        *,
        retry: RetryPolicy = RETRY,
        silence: float = SILENCE,
        parallel: int = PARALLEL,
    ) -> EndpointEngine:
        """Connect to a server or provider, find its model, and detect its kind.

        Raises:
            GenerationError: it cannot be reached, does not serve the model (similar names are offered), or asks for a
                key.
        """
        # 1. A provider only needs a token.
        if isinstance(source, ProviderSource):
            if not get_token():
                raise GenerationError(f"{source.provider} asks for a token; put yours from Hugging Face into HF_TOKEN")
            return cls(source, source.model, Server(), retry=retry, silence=silence, parallel=parallel)

        # 2. List the models of a server.
        base_url = source.base_url
        reach_loopback(httpx.URL(base_url).host)

        def list_names() -> list[str]:
            with translate_client_errors():
                return list_models(base_url, seconds=silence)

        try:
            names = retry_request(list_names, replace(retry, tries=CONNECT_TRIES))
        except RequestFailedError as error:
            raise GenerationError(f"{base_url}: {error}") from error

        # 3. Choose: the one asked for, the only one, or the default recipe.
        model = source.model or (names[0] if len(names) == 1 else DEFAULT_RECIPE if DEFAULT_RECIPE in names else None)
        if model is None:
            listed = f"it serves {', '.join(names)}" if names else "it does not list its models"
            raise GenerationError(f"{base_url}: name the model, {base_url}#MODEL or --model MODEL; {listed}")
        if names and model not in names and model.rpartition(":")[0] not in names:  # MODEL:PROVIDER of a router
            raise model_not_found_error(model, names, f"{base_url} serves no model called {model!r}")
        server = detect_server(base_url, model, seconds=silence)
        return cls(source, model, server, retry=retry, silence=silence, parallel=parallel)

    def unsupported_settings(self, decoder: GenerationSettings) -> tuple[str, ...]:
        """Return the names of settings that this server does not accept, as far as it has been asked."""
        return (*self._server.unsupported_settings(decoder), *sorted(self._refused - {"max_tokens"}))

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        """Complete the requests; after a lost connection a completion starts again.

        Raises:
            GenerationError: some failed; the message says how many did not, and why.
        """

        def answer(stream: RequestStream) -> Completion:
            return retry_request(lambda: self._answer(stream), self._retry, stream.over)

        complete_in_threads(self.name, requests, on_completion, answer, threads=self._parallel)

    def _answer(self, stream: RequestStream) -> Completion:
        prompt, decoder, _ = stream.request
        started = time.perf_counter()
        # a client for each request: it keeps a stream open until it is closed itself
        if isinstance(self._source, ProviderSource):
            client = InferenceClient(
                provider=self._source.provider,  # type: ignore[arg-type]
                token=get_token(),
                timeout=self._silence,
            )
        else:
            base_url = self._source.base_url
            client = InferenceClient(base_url=base_url, token=api_key_for(base_url), timeout=self._silence)
        raw, chunks, tokens, server_reason = "", 0, None, None
        reason: FinishReason | None = None
        text = ""
        with client:
            for chunk in self._stream(client, prompt, decoder):
                tokens, server_reason = chunk.tokens or tokens, chunk.finish_reason or server_reason
                if not chunk.text:
                    continue
                raw, chunks = raw + chunk.text, chunks + 1
                text = raw if self._server.has_our_template else strip_leading_marker(prompt, raw)
                if (stop := find_stop_string(text, decoder)) is not None:
                    text, reason = text[:stop], "stop_string"
                elif stream.should_stop(text):
                    reason = "watch"
                if reason:
                    break
        if reason is None and server_reason is None:
            raise EndpointError("the answer broke off", is_transient=True)
        return Completion(
            text=text,
            tokens=tokens or chunks,
            stopped_by=reason or ("length" if server_reason == "length" else "eos"),
            seconds=time.perf_counter() - started,
        )

    def _stream(self, client: InferenceClient, prompt: str, decoder: GenerationSettings) -> Iterator[_StreamChunk]:
        """Stream one completion, without the settings that this model refuses."""
        messages = self._server.messages(prompt)
        stream: Any = None
        with translate_client_errors():
            # 1. Ask; some models refuse a setting that all others accept, and are asked again without it.
            while stream is None:
                settings: dict[str, Any] = {
                    name: getattr(decoder, field) for name, field in _SETTINGS.items() if name not in self._refused
                }
                extra = self._server.extra(decoder, messages)
                if "max_tokens" in self._refused:
                    extra["max_completion_tokens"] = decoder.max_new_tokens
                try:
                    stream = client.chat_completion(
                        [dict(message) for message in messages],
                        model=self._model,
                        stream=True,
                        stream_options=ChatCompletionInputStreamOptions(include_usage=True),
                        extra_body=extra,
                        **settings,
                    )
                except BadRequestError as error:
                    try:
                        refused = str(error.response.json()["error"]["param"])  # where OpenAI names the setting
                    except (ValueError, KeyError, TypeError):
                        refused = ""
                    if refused not in settings:
                        raise
                    self._refused.add(refused)

            # 2. Pass on its chunks.
            for chunk in stream:
                choice = chunk.choices[0] if chunk.choices else None
                yield _StreamChunk(
                    text=(choice and choice.delta and choice.delta.content) or "",
                    tokens=chunk.usage.completion_tokens if chunk.usage else None,
                    finish_reason=choice.finish_reason if choice else None,
                )
