"""Resolve a request's repo, revision and user, and check its permissions.

A browser will send requests to 127.0.0.1 for any page that asks (and, with DNS rebinding, even read the answers), so
the `Host` must name this machine and this port, and an `Origin` must be the Hub's own.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonsai.hub.errors import BadRequestError, ForbiddenError, RepoNotFoundError, TooLargeError, UnauthorizedError
from bonsai.hub.server.git import DEFAULT_BRANCH, Repository
from bonsai.hub.server.names import RepoKind, RepoName, check_user_name
from bonsai.hub.server.storage import Storage

USERS = "BONSAI_HUB_USERS"
"""environment variable: `NAME:TOKEN`, several with a space between; what stands in argv is everybody's to read"""


def default_token(name: str) -> str:
    """The token of a user who has no secret one: it guards nothing, it only makes the clients behave as on the Hub."""
    return f"local-{name}"


DEFAULT_USERS: Mapping[str, str] = {"qeu": default_token("qeu")}


def parse_users(text: str) -> Mapping[str, str]:
    """Token by name, as the environment variable gives them.

    Raises:
        BadRequestError: a name without a token.
    """
    users = {}
    for number, entry in enumerate(text.split(), 1):
        name, _, token = entry.partition(":")
        if not token:
            raise BadRequestError(
                f"{USERS}: entry {number} has no token; write NAME:TOKEN, several with spaces between"
            )
        users[name] = token
    return users


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """The users of a Hub, checked once."""

    users: Mapping[str, str] = field(repr=False)
    """Token by user name. A user's namespace is its own name; there are no organisations."""

    def __post_init__(self) -> None:
        if not self.users:
            raise BadRequestError("a Hub without users can be read by nobody's token; give at least one NAME:TOKEN")
        for name, token in self.users.items():
            check_user_name(name)
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise BadRequestError(f"the token of '{name}' must be printable ASCII without spaces")

    def identify(self, authorization: str | None) -> str | None:
        """The user behind an `Authorization` header, or None if there is no header.

        Raises:
            UnauthorizedError: for a token nobody has; as on the Hub it is refused even where none was needed.
        """
        if not authorization:
            return None
        scheme, _, token = authorization.partition(" ")
        found = None
        for name, expected in self.users.items():
            if scheme.casefold() == "bearer" and hmac.compare_digest(token.strip().encode(), expected.encode()):
                found = name
        if found is None:
            raise UnauthorizedError("Invalid credentials in Authorization header")
        return found


def require_user(user: str | None) -> str:
    """`user`, for what nobody may do without a name.

    Raises:
        UnauthorizedError: without a token.
    """
    if user is None:
        raise UnauthorizedError("Invalid username or password.")
    return user


def require_owner(user: str | None, namespace: str) -> str:
    """`user`, if the namespace is theirs.

    Raises:
        UnauthorizedError: without a token.
        ForbiddenError: with somebody else's.
    """
    if require_user(user) != namespace:
        raise ForbiddenError(f"you are '{user}' and have no right to write into the namespace '{namespace}'")
    return namespace


JSON_LIMIT = 16_000_000
"""Bytes of a JSON body: 256 files of a preupload with their samples stay below 1 MB."""


@dataclass(frozen=True, kw_only=True)
class Hub:
    """What every request needs."""

    storage: Storage
    accounts: Accounts


@dataclass(frozen=True, kw_only=True)
class RequestContext:
    """Built once a request. The methods that touch the disk belong into a thread."""

    hub: Hub
    user: str | None
    repo: RepoName
    revision: str
    path: str
    base_url: str
    """Scheme, host and port the client used, without a slash at the end."""

    @contextmanager
    def reading(self) -> Iterator[Repository]:
        """The repository, for those who may see it.

        Raises:
            RepoNotFoundError: also for a private one that belongs to somebody else.
        """
        self._check_visible()
        with self.hub.storage.open(self.repo) as repository:
            yield repository

    @contextmanager
    def writing(self) -> Iterator[Repository]:
        """The repository, locked against other writers, for its owner.

        Raises:
            UnauthorizedError, ForbiddenError, RepoNotFoundError: for anybody else.
        """
        self.require_owner()
        with self.hub.storage.writing(self.repo) as repository:
            yield repository

    def require_owner(self) -> None:
        """Raises what `writing` raises, without taking the lock."""
        if self.user is not None and self.user != self.repo.namespace:
            self._check_visible()
        require_owner(self.user, self.repo.namespace)
        self.hub.storage.settings(self.repo)

    def _check_visible(self) -> None:
        if self.hub.storage.settings(self.repo).private and self.user != self.repo.namespace:
            raise RepoNotFoundError("Repository not found")


def get_hub(request: Request) -> Hub:
    """The Hub this request came to."""
    hub: Hub = request.app.state.hub
    return hub


def authenticated_user(request: Request) -> str | None:
    """Raises UnauthorizedError for a token nobody has."""
    return get_hub(request).accounts.identify(request.headers.get("authorization"))


def request_context(request: Request) -> RequestContext:
    """Reads the repository's name, the revision and the path from the address.

    Raises:
        RefusedError: as the checks of names and tokens do.
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
    """From the address: `/datasets/…` and `/api/datasets/…`; what names no kind is a model."""
    first = request.scope["path"].removeprefix("/api").split("/")[1]
    return next((kind for kind in RepoKind if kind.plural == first), RepoKind.MODEL)


def base_url(request: Request) -> str:
    """Scheme, host and port as the client wrote them."""
    return f"{request.url.scheme}://{request.url.netloc}"


async def read_body(request: Request, *, limit: int = JSON_LIMIT) -> bytes:
    """Raises TooLargeError as soon as more than `limit` bytes have come."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes")
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    """Raises BadRequestError if the body is not a JSON object."""
    body = await read_body(request)
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object")
    return value


def text_field(body: dict[str, Any], field: str, *, default: str | None = None) -> str:
    """Raises BadRequestError if the field is missing or not a text."""
    value = body.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not value:
        raise BadRequestError(f"'{field}' must be a text")
    return value


LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class LoopbackOnlyMiddleware:
    """Refuses strangers, numbers the answers, and routes by the address as it was sent.

    In `/tree/refs%2Fconvert%2Fparquet` the slashes belong to the revision. The clients show the number with
    an error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 403."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        port = (scope.get("server") or ("", 80))[1]
        hosts = {f"{name}:{port}" for name in LOOPBACK_NAMES} | (set(LOOPBACK_NAMES) if port == 80 else set())
        origin = headers.get("origin")
        if headers.get("host", "").casefold() not in hosts:
            await _refuse("the Host header must name this machine and this port", scope, receive, send)
        elif origin is not None and origin.casefold() not in {f"http://{host}" for host in hosts}:
            await _refuse(f"pages from {origin!r} may not use this Hub", scope, receive, send)
        else:
            request_id = secrets.token_hex(8).encode()

            async def send_numbered(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id)]
                await send(message)

            raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
            sent = {"path": raw_path.decode("ascii", errors="replace"), "query_string": _ascii(scope["query_string"])}
            await self._app({**scope, **sent}, receive, send_numbered)


def _ascii(query: bytes) -> bytes:
    """What is not ASCII has no place in an address; starlette would stumble over what is not even UTF-8."""
    return query.decode("ascii", errors="replace").encode("ascii", errors="replace")


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"X-Error-Message": reason.encode("ascii", errors="replace").decode()}
    await JSONResponse({"error": reason}, status_code=403, headers=headers)(scope, receive, send)
