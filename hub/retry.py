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

from bonsai.hub.errors import FULL, HubError
from bonsai.hub.target import httpx

PASSING_STATUS = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504})
"""what another try may get over; 409 and 423: somebody else holds the repository for a moment"""
_RATE_LIMIT_RESET = re.compile(r";\s*t=(\d+)")


class PushError(HubError):
    """A release that was refused or could not be finished; the message says how the repository stands."""


class TransientError(HubError):
    """Something that another try will get over, found by ourselves rather than by the client."""


def is_transient(error: BaseException) -> bool:
    """Whether another try may get over it."""
    if isinstance(error, TransientError):
        return True
    status = _status(error)
    if status is not None:
        return status in PASSING_STATUS
    for link in _chain(error):
        if isinstance(link, httpx.TransportError | LocalEntryNotFoundError | json.JSONDecodeError):
            return True
        if isinstance(link, OSError):
            return link.errno is None  # the client's own, such as a download that ended early; the machine's have one
    return False


def retry_after(error: BaseException) -> float | None:
    """Seconds the Hub asked for, in ``Retry-After`` (seconds or a date) or its rate-limit header; None: it did not."""
    for link in _chain(error):
        if isinstance(link, HfHubHTTPError | httpx.HTTPStatusError) and link.response is not None:
            return _wait_of(link.response)
    return None


def _wait_of(response: httpx.Response) -> float | None:
    asked = response.headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    if asked:
        try:
            return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
        except ValueError:
            return None
    reset = _RATE_LIMIT_RESET.search(response.headers.get("ratelimit", ""))
    return float(reset[1]) if reset and response.status_code == HTTPStatus.TOO_MANY_REQUESTS else None


def describe_error(error: BaseException) -> str:
    """What happened, in words for the person at the keyboard: no address, for an upload's address is a key."""
    status = _status(error)
    if isinstance(error, HubError):
        return str(error)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"the Hub refused the token ({status}): check HF_TOKEN, and that it may write to BONSAI_NAMESPACE"
    if status is not None:
        reason = _reason(error)
        return f"the Hub answered {status} ({responses.get(status, 'unknown')})" + (f": {reason}" if reason else "")
    for link in _chain(error):
        if isinstance(link, httpx.TimeoutException):
            return "the Hub was silent for too long"
        if isinstance(link, httpx.ConnectError):
            return f"{link.request.url.copy_with(raw_path=b'')} cannot be reached"
        if isinstance(link, httpx.TransportError):
            return f"the connection to the Hub broke off ({type(link).__name__})"
        if isinstance(link, OSError) and link.errno in FULL:
            return f"{link.filename or tempfile.gettempdir()}: no room is left on this disk"
        if isinstance(link, OSError) and link.errno is not None:
            return f"{link.filename or 'this machine'}: {link.strerror}"
    return str(error).split("\n", 1)[0]


def is_stale_parent(error: BaseException) -> bool:
    """Whether the branch had moved on when a commit arrived."""
    return _status(error) == HTTPStatus.PRECONDITION_FAILED


def may_have_committed(error: BaseException) -> bool:
    """Whether a commit may have been made all the same: its answer was lost, or came from something in between."""
    status = _status(error)
    if status == HTTPStatus.INSUFFICIENT_STORAGE:  # the Hub's own word
        return False
    return not isinstance(error, RuntimeError) and (status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR)


def _status(error: BaseException) -> int | None:
    for link in _chain(error):
        if isinstance(link, HfHubHTTPError | httpx.HTTPStatusError) and link.response is not None:
            return int(link.response.status_code)
    return None


def _reason(error: BaseException) -> str:
    """What the Hub itself wrote into its answer."""
    for link in _chain(error):
        if isinstance(link, HfHubHTTPError):
            return (link.server_message or "").split("\n", 1)[0].strip().rstrip(".")
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it; only stated causes, for a context may be an older, settled story."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long one step of a release is tried."""

    tries: int = 6
    first_wait: float = 1.0
    """seconds before the second try; doubled each time"""
    longest_wait: float = 30.0
    total: float = 300.0
    """seconds after which no further try is begun, and the longest pause the Hub may ask for"""

    def run(self, step: Callable[[], T], *, state: Callable[[], str]) -> T:
        """Do ``step``, which must be safe to do twice, until it succeeds.

        Args:
            state: asked when all is in vain: how the repository stands and what to do.

        Raises:
            PushError: what did not pass, or not in time.
            HubError, OSError: of this machine or of ours, as they are.
        """
        started = time.monotonic()
        pause = self.first_wait
        for count in range(1, self.tries + 1):
            try:
                return step()
            except Exception as error:
                if not is_transient(error):
                    if _is_ours(error):
                        raise
                    raise PushError(f"{describe_error(error)}; {state()}") from error
                wait = retry_after(error)
                wait = pause if wait is None else wait
                spent = time.monotonic() - started
                if count == self.tries or spent + wait > self.total:
                    asked = f" and asked for a pause of {wait:.0f} s" if wait > self.total else ""
                    raise PushError(
                        f"{describe_error(error)}{asked} ({_times(count)}, {spent:.0f} s); {state()}"
                    ) from error
                if not isinstance(error, TransientError):
                    time.sleep(wait)
                    pause = min(pause * 2, self.longest_wait)
        raise AssertionError("unreachable: the last try returns or raises")


DEFAULT_RETRY = RetryPolicy()


def _is_ours(error: Exception) -> bool:
    """A sentence already, or a fault in this program, whose traceback is wanted."""
    return isinstance(error, HubError) or not _from_the_clients(error)


def _from_the_clients(error: Exception) -> bool:
    return isinstance(error, OSError | RuntimeError) or type(error).__module__.startswith(("httpx", "huggingface_hub"))


def _times(count: int) -> str:
    return "tried once" if count == 1 else f"tried {count} times"
