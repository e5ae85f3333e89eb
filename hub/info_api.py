"""Who one is, what one repository is, and which there are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.accounts import require_user
from bonsai.hub.card import derived_tags, read_metadata
from bonsai.hub.errors import BadRequestError, EntryNotFoundError, RefusedError
from bonsai.hub.names import RepoKind, RepoName
from bonsai.hub.pages import flag_parameter, number_parameter, page_of, page_response
from bonsai.hub.read_api import describe_nodes, timestamp
from bonsai.hub.repository import DEFAULT_BRANCH, Repository
from bonsai.hub.storage import RepoSettings
from bonsai.hub.visit import Hub, Visit, hub_of, kind_of, user_of, visit_of

_LIST_PAGE = 1000


async def whoami(request: Request) -> Response:
    """The user behind the token."""
    user = require_user(user_of(request))
    token = {"displayName": "bonsai", "role": "write", "createdAt": "2026-01-01T00:00:00.000Z"}
    return JSONResponse(
        {
            "type": "user",
            "id": _stable_id(user),
            "name": user,
            "fullname": user,
            "email": f"{user}@users.noreply.localhost",
            "canPay": False,
            "isPro": False,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


async def auth_check(request: Request) -> Response:
    """Whether the visitor may read, or write, the repository: an answer without content."""
    visit = visit_of(request)

    def check() -> None:
        with visit.reading():
            pass
        if request.url.path.endswith("/write"):
            visit.require_owner()

    await run_in_threadpool(check)
    return JSONResponse({})


async def repo_info(request: Request) -> Response:
    """One repository at one revision; `blobs` adds sizes and hashes, `expand` picks fields."""
    visit = visit_of(request)
    info = await run_in_threadpool(_info_at, visit, with_blobs=flag_parameter(request, "blobs"))
    wanted = [*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")]
    if wanted:
        info = {key: value for key, value in info.items() if key in ("_id", "id", "modelId", *wanted)}
    return JSONResponse(info, headers={"X-Repo-Commit": info["sha"]} if "sha" in info else {})


async def list_repos(request: Request) -> Response:
    """All repositories of a kind that the visitor may see, newest first, by `search`, `author` and `filter` (tags)."""
    hub, user = hub_of(request), user_of(request)
    kind = kind_of(request)
    query = request.query_params
    start, limit = (
        number_parameter(request, "cursor", 0),
        max(1, number_parameter(request, "limit", _LIST_PAGE, largest=_LIST_PAGE)),
    )
    wanted_tags = {tag for text in query.getlist("filter") for tag in text.split(",") if tag}
    wanted_tags.update(query.getlist("pipeline_tag"))
    search = [word.casefold() for word in query.getlist("search")]
    with_files = flag_parameter(request, "full")

    def matching() -> Iterator[dict[str, Any]]:
        for repo in hub.storage.list(kind):
            if query.get("author", repo.namespace) == repo.namespace and all(
                word in repo.id.casefold() for word in search
            ):
                info = _visible_info(hub, user, repo)
                if info and wanted_tags <= set(info["tags"]):
                    yield info if with_files else {key: value for key, value in info.items() if key != "siblings"}

    def listed() -> tuple[list[dict[str, Any]], bool]:
        key = "createdAt" if query.get("sort") in ("createdAt", "created_at") else "lastModified"
        return page_of(sorted(matching(), key=lambda info: str(info[key]), reverse=True), start=start, size=limit)

    entries, more = await run_in_threadpool(listed)
    return page_response(request, entries, cursor=str(start + limit) if more else None)


def _visible_info(hub: Hub, user: str | None, repo: RepoName) -> dict[str, Any] | None:
    visit = Visit(hub=hub, user=user, repo=repo, revision=DEFAULT_BRANCH, path="", base_url="")
    try:
        return _info_at(visit, with_blobs=False)
    except RefusedError:
        return None


def _info_at(visit: Visit, *, with_blobs: bool) -> dict[str, Any]:
    with visit.reading() as repository:
        settings = visit.hub.storage.settings(visit.repo)
        return _info(visit, repository, settings, with_blobs=with_blobs)


def _info(visit: Visit, repository: Repository, settings: RepoSettings, *, with_blobs: bool) -> dict[str, Any]:
    repo = visit.repo
    commit = repository.commit(visit.revision)
    nodes = [node for node in repository.children(repository.node(commit, ""), recursive=True) if not node.is_folder]
    nodes.sort(key=lambda node: node.path)
    siblings: list[dict[str, Any]] = [{"rfilename": node.path} for node in nodes]
    if with_blobs:
        for sibling, entry in zip(siblings, describe_nodes(repository, commit, nodes, expand=False), strict=True):
            sibling |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}
    try:
        metadata = read_metadata(repository.content(repository.node(commit, "README.md")).decode(errors="replace"))
    except (EntryNotFoundError, BadRequestError):
        metadata = {}
    info: dict[str, Any] = {
        "_id": _stable_id(str(repo)),
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.id.decode(),
        "lastModified": timestamp(commit),
        "createdAt": settings.created,
        "private": settings.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": derived_tags(metadata, repo.kind),
        "cardData": metadata,
        "siblings": siblings,
    }
    if repo.kind is RepoKind.MODEL:
        library, task = metadata.get("library_name"), metadata.get("pipeline_tag")
        info |= {"modelId": repo.id, "library_name": library, "pipeline_tag": task}
    if repo.kind is RepoKind.SPACE:
        info["sdk"] = settings.sdk
    return info


def _stable_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
