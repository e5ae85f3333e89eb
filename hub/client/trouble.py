"""What goes wrong between here and a Hub: what passes by itself, how long to wait, and the sentence for the rest.

The clients have no error class of their own for most of it: a lost connection may come as httpx's error, as an OSError
without a number, as a LocalEntryNotFoundError of a download, or as the cause of a RuntimeError.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import responses

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bonsai.hub.client.session import httpx
from bonsai.hub.errors import FULL, HubError

PASSING_STATUS = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504})
"""what another try may get over; 409 and 423: somebody else holds the repository for a moment"""
_RATE_LIMIT_RESET = re.compile(r";\s*t=(\d+)")


class PushError(HubError):
    """A release that was refused or could not be finished; the message says how the repository stands."""


class TryAgainError(HubError):
    """Something that another try will get over, found by ourselves rather than by the client."""


def passes(error: BaseException) -> bool:
    """Whether another try may get over it."""
    if isinstance(error, TryAgainError):
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


def asked_to_wait(error: BaseException) -> float | None:
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


def told(error: BaseException) -> str:
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


def may_have_arrived(error: BaseException) -> bool:
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
