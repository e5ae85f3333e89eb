"""A request tried again, with bounds, and the sentence for what no further try gets over."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OverloadedError, TextGenerationError

from bonsai.hub.client.session import httpx
from bonsai.hub.client.trouble import asked_to_wait, passes
from bonsai.recipes.inference.models.parallel import UnansweredError

T = TypeVar("T")

_ABOUT_THE_PROMPT = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
WORDS = 300
"""characters of a server's own words that are passed on"""


class TroubleError(Exception):
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
def as_trouble() -> Iterator[None]:
    """Errors of the clients, and answers in no known form, as `TroubleError`."""
    try:
        yield
    except TextGenerationError as error:  # in the midst of a stream
        raise TroubleError(
            f"the server gave up ({_first_line(error)})",
            passes=isinstance(error, OverloadedError),
            about_the_prompt=True,
        ) from error
    except (httpx.HTTPError, OSError, ValueError) as error:
        about_the_prompt = isinstance(error, HfHubHTTPError) and error.response.status_code in _ABOUT_THE_PROMPT
        raise TroubleError(
            _said(error), passes=passes(error), about_the_prompt=about_the_prompt, wait=asked_to_wait(error)
        ) from error
    except (AttributeError, KeyError, TypeError) as error:  # the client takes the form of an answer for granted
        raise TroubleError("what the server answers is not the OpenAI protocol", passes=False) from error


@dataclass(frozen=True, kw_only=True)
class Tries:
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
            except TroubleError as error:
                if not error.passes:
                    raise UnansweredError(str(error), for_all=not error.about_the_prompt) from error
                wait = min(pause, self.longest_wait) if error.wait is None else error.wait
                if count == self.count or wait > self.longest_wait or over.wait(wait):
                    longer = f", and asked for a pause of {wait:.0f} s" if wait > self.longest_wait else ""
                    times = "once" if count == 1 else f"{count} times"
                    raise UnansweredError(f"{error}{longer} (tried {times})", for_all=True) from error
                pause *= 2
        raise AssertionError("unreachable: the last try returns or raises")


def _said(error: Exception) -> str:
    response = error.response if isinstance(error, HfHubHTTPError | httpx.HTTPStatusError) else None
    if response is not None:
        status = response.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return f"the server refused the key ({status}); set OPENAI_API_KEY, or HF_TOKEN for Hugging Face"
        words = _its_words(response)
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


def _its_words(response: httpx.Response) -> str:
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
