"""Making, renaming, deleting and hiding repositories, and checking their cards."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.accounts import require_owner, require_user
from bonsai.hub.card_check import check_card
from bonsai.hub.errors import BadRequestError, ConflictError
from bonsai.hub.names import RepoKind, RepoName
from bonsai.hub.visit import Visit, base_url, hub_of, read_json, text_field, user_of, visit_of


async def create(request: Request) -> Response:
    """A repository that exists is answered 409 with its address: the client's `exist_ok` reads it from there."""
    hub, user = hub_of(request), require_user(user_of(request))
    body = await read_json(request)
    repo = _named(body, user)
    require_owner(user, repo.namespace)
    sdk = text_field(body, "sdk", default="") or None
    answer = {"url": f"{base_url(request)}/{repo.url_path}", "name": repo.id}
    private = _privacy(body) or False
    try:
        await run_in_threadpool(hub.storage.create, repo, author=user, private=private, sdk=sdk)
    except ConflictError as error:
        message = f"You already created this {repo.kind} repo: {repo.id}"
        return JSONResponse({**answer, "error": message}, status_code=error.status)
    return JSONResponse(answer)


async def delete(request: Request) -> Response:
    """Removes a repository and its large files."""
    user = require_user(user_of(request))
    hub = hub_of(request)
    repo = hub.storage.spelled(_named(await read_json(request), user))
    visit = Visit(hub=hub, user=user, repo=repo, revision="", path="", base_url="")

    def remove() -> None:
        visit.require_owner()
        visit.hub.storage.delete(repo)

    await run_in_threadpool(remove)
    return JSONResponse({})


async def move(request: Request) -> Response:
    """Renames a repository within the namespaces of its owner."""
    hub, user = hub_of(request), require_user(user_of(request))
    body = await read_json(request)
    kind = RepoKind.parse(body.get("type"))
    source, target = (_full_name(kind, text_field(body, field)) for field in ("fromRepo", "toRepo"))

    source = hub.storage.spelled(source)

    def rename() -> None:
        Visit(hub=hub, user=user, repo=source, revision="", path="", base_url="").require_owner()
        require_owner(user, target.namespace)
        hub.storage.move(source, target)

    await run_in_threadpool(rename)
    return JSONResponse({})


async def settings(request: Request) -> Response:
    """Makes a repository private or public."""
    visit = visit_of(request)
    body = await read_json(request)
    if body.get("gated", False) is not False:
        raise BadRequestError("this small Hub has no gated repositories; make it private instead")
    private = _privacy(body)

    def change() -> None:
        visit.require_owner()
        if private is not None:
            visit.hub.storage.change(visit.repo, private=private)

    await run_in_threadpool(change)
    return JSONResponse({"private": private, "gated": False})


async def validate_yaml(request: Request) -> Response:
    """The client raises on status 400 and warns of `warnings`."""
    user_of(request)
    body = await read_json(request)
    verdict = check_card(text_field(body, "content", default=""), RepoKind.parse(body.get("repoType")))
    answer = {key: [{"message": message} for message in getattr(verdict, key)] for key in ("errors", "warnings")}
    return JSONResponse(answer, status_code=400 if verdict.errors else 200)


def _named(body: dict[str, Any], user: str) -> RepoName:
    namespace = text_field(body, "organization", default=user)
    return RepoName(kind=RepoKind.parse(body.get("type")), namespace=namespace, name=text_field(body, "name"))


def _full_name(kind: RepoKind, text: str) -> RepoName:
    namespace, _, name = text.partition("/")
    return RepoName(kind=kind, namespace=namespace, name=name)


def _privacy(body: dict[str, Any]) -> bool | None:
    """From `visibility`, or from `private`, which older clients send; None if neither is there."""
    if "visibility" in body:
        if body["visibility"] not in ("public", "private"):
            raise BadRequestError(f"visibility {body['visibility']!r} is unknown; use public or private")
        return bool(body["visibility"] == "private")
    if not isinstance(body.get("private"), bool | None):
        raise BadRequestError("'private' must be true or false")
    private: bool | None = body.get("private")
    return private
