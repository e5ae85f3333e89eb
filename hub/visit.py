"""One request in the Hub's own terms: which repository, which revision, who asks, and may they."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from bonsai.hub.accounts import Accounts, require_owner
from bonsai.hub.errors import BadRequestError, RepoNotFoundError, TooLargeError
from bonsai.hub.names import RepoKind, RepoName
from bonsai.hub.repository import DEFAULT_BRANCH, Repository
from bonsai.hub.storage import Storage

JSON_LIMIT = 16_000_000
"""Bytes of a JSON body: 256 files of a preupload with their samples stay below 1 MB."""


@dataclass(frozen=True, kw_only=True)
class Hub:
    """What every request needs."""

    storage: Storage
    accounts: Accounts


@dataclass(frozen=True, kw_only=True)
class Visit:
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


def hub_of(request: Request) -> Hub:
    """The Hub this request came to."""
    hub: Hub = request.app.state.hub
    return hub


def user_of(request: Request) -> str | None:
    """Raises UnauthorizedError for a token nobody has."""
    return hub_of(request).accounts.identify(request.headers.get("authorization"))


def visit_of(request: Request) -> Visit:
    """Reads the repository's name, the revision and the path from the address.

    Raises:
        RefusedError: as the checks of names and tokens do.
    """
    hub = hub_of(request)
    parameters = {key: unquote(value, errors="replace") for key, value in request.path_params.items()}
    repo = RepoName(kind=kind_of(request), namespace=parameters["namespace"], name=parameters["name"])
    return Visit(
        hub=hub,
        user=user_of(request),
        repo=hub.storage.spelled(repo),
        revision=parameters.get("revision", DEFAULT_BRANCH),
        path=parameters.get("path", "").strip("/"),
        base_url=base_url(request),
    )


def kind_of(request: Request) -> RepoKind:
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
