"""Resolve a request's repo, revision and user, and check its permissions.

A browser sends requests to 127.0.0.1 for any page that asks (and, with DNS rebinding, lets it read the answers), so the
`Host` must name this machine and this port, and an `Origin` must be the Hub's own.
"""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonsai.hub.errors import BadRequestError, RepoNotFoundError, TooLargeError
from bonsai.hub.server.accounts import Accounts, require_owner
from bonsai.hub.server.git import DEFAULT_BRANCH, Repository
from bonsai.hub.server.names import RepoKind, RepoName
from bonsai.hub.server.responses import CHUNK
from bonsai.hub.server.storage import Storage

JSON_LIMIT = 16_000_000
"""Bytes of a JSON body: 256 files of a preupload with their samples stay below 1 MB."""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The state shared by all requests."""

    storage: Storage
    accounts: Accounts


@dataclass(frozen=True, kw_only=True)
class RequestContext:
    """The user, repository, revision and path of a request. Its methods read the disk: call them in a thread."""

    hub: Hub
    user: str | None
    repo: RepoName
    revision: str = DEFAULT_BRANCH
    path: str = ""
    base_url: str = ""
    """Scheme, host and port that the client used, without a trailing slash."""

    @contextmanager
    def reading(self) -> Iterator[Repository]:
        """Open the repository for a user who may see it.

        Raises:
            RepoNotFoundError: also for somebody else's private repository.
        """
        self._check_visible()
        with self.hub.storage.open(self.repo) as repository:
            yield repository

    @contextmanager
    def writing(self) -> Iterator[Repository]:
        """Open the repository for its owner, locked against other writers.

        Raises:
            UnauthorizedError, ForbiddenError, RepoNotFoundError: for anybody else.
        """
        self.require_owner()
        with self.hub.storage.writing(self.repo) as repository:
            yield repository

    def require_owner(self) -> None:
        """Raise what `writing` raises, without taking the lock."""
        if self.user is not None and self.user != self.repo.namespace:
            self._check_visible()
        require_owner(self.user, self.repo.namespace)
        self.hub.storage.settings(self.repo)

    def _check_visible(self) -> None:
        if self.hub.storage.settings(self.repo).private and self.user != self.repo.namespace:
            raise RepoNotFoundError("Repository not found")


def get_hub(request: Request) -> Hub:
    """Return the Hub that serves this request."""
    hub: Hub = request.app.state.hub
    return hub


def authenticated_user(request: Request) -> str | None:
    """Return the user of the request's token, or None without one; raise UnauthorizedError for an unknown token."""
    return get_hub(request).accounts.identify(request.headers.get("authorization"))


def request_context(request: Request) -> RequestContext:
    """Read the repository, revision and path from the URL, and the user from the token.

    Raises:
        RefusedError: an invalid name or token.
    """
    hub = get_hub(request)
    parameters = {key: unquote(value, errors="replace") for key, value in request.path_params.items()}
    repo = RepoName(kind=repo_kind(request), namespace=parameters["namespace"], name=parameters["name"])
    return RequestContext(
        hub=hub,
        user=authenticated_user(request),
        repo=hub.storage.canonical_name(repo),
        revision=parameters.get("revision", DEFAULT_BRANCH),
        path=parameters.get("path", "").strip("/"),
        base_url=base_url(request),
    )


def repo_kind(request: Request) -> RepoKind:
    """Return the kind in a URL such as `/datasets/…` or `/api/datasets/…`; a URL without a kind means a model."""
    first = request.scope["path"].removeprefix("/api").split("/")[1]
    return next((kind for kind in RepoKind if kind.plural == first), RepoKind.MODEL)


def base_url(request: Request) -> str:
    """Return scheme, host and port as the client wrote them."""
    return f"{request.url.scheme}://{request.url.netloc}"


def with_body(handler: Callable[[Request, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Make a route of a handler that takes the request's body, of at most `JSON_LIMIT` bytes, and runs in a thread."""

    @functools.wraps(handler)
    async def route(request: Request) -> Response:
        authenticated_user(request)  # an unknown token is refused before its body is read
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > JSON_LIMIT:
                raise TooLargeError(f"the body is larger than {JSON_LIMIT} bytes")
        return await run_in_threadpool(handler, request, bytes(body))

    return route


def with_json(handler: Callable[[Request, dict[str, Any]], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Make a route of a handler that takes the request's body as a JSON object."""
    return with_body(functools.wraps(handler)(lambda request, body: handler(request, parse_json(body))))


async def write_body(request: Request, write: Callable[[bytes], object]) -> None:
    """Pass the body to `write`, which runs in a thread, in chunks of `CHUNK` bytes or more."""
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) >= CHUNK:
            await run_in_threadpool(write, bytes(buffer))
            buffer.clear()
    await run_in_threadpool(write, bytes(buffer))


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse a body, an empty one as `{}`; raise BadRequestError if it is not a JSON object."""
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object")
    return value


def text_field(body: dict[str, Any], field: str, *, default: str | None = None) -> str:
    """Return a text field; raise BadRequestError if it is missing, without a default, or not a text."""
    value = body.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not value:
        raise BadRequestError(f"'{field}' must be a text")
    return value


class LoopbackOnlyMiddleware:
    """Refuse requests from other hosts and pages, add `X-Request-Id`, and route by the undecoded URL.

    Undecoded, because in `/tree/refs%2Fconvert%2Fparquet` the slashes belong to the revision. Clients show the request
    id with an error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        port = (scope.get("server") or ("", 80))[1]
        hosts = {f"{name}:{port}" for name in LOOPBACK_NAMES} | (set(LOOPBACK_NAMES) if port == 80 else set())
        origin = headers.get("origin")
        if headers.get("host", "").casefold() not in hosts:
            await _refuse("the Host header must name this machine and this port", scope, receive, send)
        elif origin is not None and origin.casefold() not in {f"http://{host}" for host in hosts}:
            await _refuse(f"pages from {origin!r} may not use this server", scope, receive, send)
        else:
            request_id = secrets.token_hex(8).encode()

            async def send_with_id(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id)]
                await send(message)

            raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
            # A URL is ASCII; a query string that is not even UTF-8 would crash starlette.
            query = scope["query_string"].decode("ascii", errors="replace").encode("ascii", errors="replace")
            undecoded = {"path": raw_path.decode("ascii", errors="replace"), "query_string": query}
            await self._app({**scope, **undecoded}, receive, send_with_id)


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"X-Error-Message": reason.encode("ascii", errors="replace").decode()}
    await JSONResponse({"error": reason}, status_code=403, headers=headers)(scope, receive, send)
