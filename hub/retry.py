"""Classify Hub errors as transient or final, and retry the transient ones.

The clients have no error class of their own for most of it: a lost connection may come as httpx's error, as an OSError
without a number, as a LocalEntryNotFoundError of a download, or as the cause of a RuntimeError.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import responses
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bonsai.hub.errors import DISK_FULL_ERRNOS, HubError
from bonsai.hub.http_client import httpx

TRANSIENT_STATUS = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504})
"""statuses that another try may overcome; 409 and 423: somebody else holds the repository for a moment"""
_RATE_LIMIT_RESET = re.compile(r";\s*t=(\d+)")

T = TypeVar("T")


class PushError(HubError):
    """A release that was refused or could not be finished; the message describes the state of the repository."""


class TransientError(HubError):
    """A failure found by this package rather than by the client, which another try may overcome."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and for how long, a step is retried."""

    tries: int = 6
    first_wait: float = 1.0
    """seconds before the second try; doubled each time"""
    longest_wait: float = 30.0
    total: float = 300.0
    """seconds after which no further try begins, and the longest pause the Hub may ask for"""

    def wait(self, pauses: int, requested: float | None) -> float:
        """Return the seconds before the next try: those the server requested, or an exponential backoff.

        Args:
            pauses: how many pauses went before.
            requested: see `retry_after`.
        """
        return min(self.first_wait * 2**pauses, self.longest_wait) if requested is None else requested

    def run(self, step: Callable[[], T], *, state: Callable[[], str]) -> T:
        """Call ``step``, which must be safe to repeat, until it succeeds.

        Args:
            state: called when all tries failed; describes the repository and what to do next.

        Raises:
            PushError: a final error, or a transient one that lasted too long.
            HubError: raised by ``step`` itself, unchanged.
            Exception: a fault of this program, unchanged, because its traceback is needed.
        """
        started = time.monotonic()
        pauses = 0
        for count in range(1, self.tries + 1):
            try:
                return step()
            except Exception as error:
                # 1. A final error: ours pass unchanged, those of the clients and the machine become a sentence.
                if not is_transient(error):
                    is_client_error = isinstance(error, OSError | RuntimeError) or type(error).__module__.startswith(
                        ("httpx", "huggingface_hub")
                    )
                    if isinstance(error, HubError) or not is_client_error:
                        raise
                    raise PushError(f"{describe_error(error)}; {state()}") from error
                # 2. A transient error for the last time.
                wait = self.wait(pauses, retry_after(error))
                spent = time.monotonic() - started
                if count == self.tries or spent + wait > self.total:
                    requested = f" and asked for a pause of {wait:.0f} s" if wait > self.total else ""
                    times = "tried once" if count == 1 else f"tried {count} times"
                    raise PushError(
                        f"{describe_error(error)}{requested} ({times}, {spent:.0f} s); {state()}"
                    ) from error
                # 3. Pause, but not for a `TransientError`: the Hub itself is well, it only gave an unexpected answer.
                if not isinstance(error, TransientError):
                    time.sleep(wait)
                    pauses += 1
        raise AssertionError("unreachable: the last try returns or raises")


DEFAULT_RETRY = RetryPolicy()


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed."""
    if isinstance(error, TransientError):
        return True
    status = _status(error)
    if status is not None:
        return status in TRANSIENT_STATUS
    for cause in _causes(error):
        if isinstance(cause, httpx.TransportError | LocalEntryNotFoundError | json.JSONDecodeError):
            return True
        if isinstance(cause, OSError):
            return cause.errno is None  # the client's own, such as a download that ended early; the machine's have one
    return False


def retry_after(error: BaseException) -> float | None:
    """Return the seconds the Hub asked to wait, from ``Retry-After`` or its rate-limit header; None: it did not ask.

    ``Retry-After`` holds seconds or a date (RFC 9110, 10.2.3); the rate-limit header counts only with status 429.
    """
    response = _response(error)
    if response is None:
        return None
    requested = response.headers.get("retry-after", "").strip()
    if requested.isdecimal():
        return float(requested)
    if requested:
        try:
            return max(0.0, parsedate_to_datetime(requested).timestamp() - time.time())
        except ValueError:
            return None
    reset = _RATE_LIMIT_RESET.search(response.headers.get("ratelimit", ""))
    return float(reset[1]) if reset and response.status_code == HTTPStatus.TOO_MANY_REQUESTS else None


def describe_error(error: BaseException) -> str:
    """Explain the error to the user, without addresses: an upload's address is a key."""
    if isinstance(error, HubError):
        return str(error)
    status = _status(error)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"the Hub refused the token ({status}): check HF_TOKEN, and that it may write to BONSAI_NAMESPACE"
    if status is not None:
        messages = (cause.server_message or "" for cause in _causes(error) if isinstance(cause, HfHubHTTPError))
        reason = next(messages, "").split("\n", 1)[0].strip().rstrip(".")
        return f"the Hub answered {status} ({responses.get(status, 'unknown')})" + (f": {reason}" if reason else "")
    for cause in _causes(error):
        if isinstance(cause, httpx.TimeoutException):
            return "the Hub was silent for too long"
        if isinstance(cause, httpx.ConnectError):
            return f"{cause.request.url.copy_with(raw_path=b'')} cannot be reached"
        if isinstance(cause, httpx.TransportError):
            return f"the connection to the Hub broke off ({type(cause).__name__})"
        if isinstance(cause, OSError) and cause.errno in DISK_FULL_ERRNOS:
            return f"{cause.filename or tempfile.gettempdir()}: no room is left on this disk"
        if isinstance(cause, OSError) and cause.errno is not None:
            return f"{cause.filename or 'this machine'}: {cause.strerror}"
    return str(error).split("\n", 1)[0]


def is_stale_parent(error: BaseException) -> bool:
    """Whether a commit was refused because the branch had moved on."""
    return _status(error) == HTTPStatus.PRECONDITION_FAILED


def may_have_committed(error: BaseException) -> bool:
    """Whether the commit may exist in spite of the error: its answer was lost, or came from a proxy on the way."""
    status = _status(error)
    if status == HTTPStatus.INSUFFICIENT_STORAGE:  # only the Hub itself answers so
        return False
    return not isinstance(error, RuntimeError) and (status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR)


def _response(error: BaseException) -> httpx.Response | None:
    for cause in _causes(error):
        if isinstance(cause, HfHubHTTPError | httpx.HTTPStatusError) and cause.response is not None:
            return cause.response
    return None


def _status(error: BaseException) -> int | None:
    response = _response(error)
    return None if response is None else int(response.status_code)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its explicit causes; a mere context may be an older, settled error."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__
