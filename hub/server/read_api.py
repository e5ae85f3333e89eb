"""Serve what clients read: repo info, file listings, paths, and the files themselves.

Large files are answered in place where the Hub redirects to its storage; the clients take both, and read the hash of
the content from `X-Linked-Etag`.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote

from dulwich.objects import Commit
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.errors import BadRequestError, EntryNotFoundError, RefusedError
from bonsai.hub.server.card_validation import derived_tags, read_metadata
from bonsai.hub.server.git import DEFAULT_BRANCH, Repository, TreeEntry, commit_message, commit_time
from bonsai.hub.server.names import RepoKind, RepoName
from bonsai.hub.server.request import (
    Hub,
    RequestContext,
    authenticated_user,
    get_hub,
    read_body,
    read_json,
    repo_kind,
    request_context,
    require_user,
)
from bonsai.hub.server.responses import Body, flag_parameter, number_parameter, page_of, page_response, send
from bonsai.hub.server.storage import RepoSettings

_TREE_PAGE, _EXPANDED_PAGE, _COMMITS_PAGE, _PATHS_LIMIT = 1000, 50, 50, 1000


async def tree(request: Request) -> Response:
    """A folder's content. The cursor names the commit, so that a list read in pages is of one piece."""
    visit = request_context(request)
    expand, recursive = flag_parameter(request, "expand"), flag_parameter(request, "recursive")
    largest = _EXPANDED_PAGE if expand else _TREE_PAGE
    size = max(1, number_parameter(request, "limit", largest, largest=largest))
    revision, _, offset = request.query_params.get("cursor", f"{visit.revision}:0").rpartition(":")
    if not offset.isdecimal() or len(offset) > 18:
        raise BadRequestError("the cursor is not one of this server's")

    def listed() -> tuple[list[dict[str, Any]], str | None]:
        with visit.reading() as repository:
            commit = repository.commit(revision)
            folder = repository.node(commit, visit.path)
            if not folder.is_folder:
                raise EntryNotFoundError(f"{visit.path!r} is a file, not a folder", commit=commit.id.decode())
            nodes, more = page_of(repository.children(folder, recursive=recursive), start=int(offset), size=size)
            cursor = f"{commit.id.decode()}:{int(offset) + size}" if more else None
            return describe_nodes(repository, commit, nodes, expand=expand), cursor

    entries, cursor = await run_in_threadpool(listed)
    return page_response(request, entries, cursor=cursor)


async def paths_info(request: Request) -> Response:
    """What is known of some paths; those that do not exist are left out.

    huggingface_hub sends a form, other clients JSON.
    """
    visit = request_context(request)
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await read_json(request)
        paths, expand = body.get("paths", []), body.get("expand") is True
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise BadRequestError("'paths' must be a list of texts")
    else:
        form = parse_qs((await read_body(request)).decode(errors="replace"))
        paths, expand = form.get("paths", []), form.get("expand", [""])[-1].casefold() == "true"
    if len(paths) > _PATHS_LIMIT:
        raise BadRequestError(f"{len(paths)} paths at once; ask for at most {_PATHS_LIMIT}")

    def found() -> list[dict[str, Any]]:
        with visit.reading() as repository:
            commit = repository.commit(visit.revision)
            nodes = [node for path in paths if (node := _node_or_none(repository, commit, path.strip("/")))]
            return describe_nodes(repository, commit, nodes, expand=expand)

    return JSONResponse(await run_in_threadpool(found))


def describe_nodes(
    repository: Repository, commit: Commit, nodes: list[TreeEntry], *, expand: bool
) -> list[dict[str, Any]]:
    """Files and folders in the words of the API; `expand` adds the commit that last changed each."""
    described = [_describe(repository, node) for node in nodes]
    if expand:
        changes = repository.last_changes(commit, [node.path for node in nodes])
        for entry in described:
            newest = changes[entry["path"]]
            title, date = commit_message(newest)[0], timestamp(newest)
            entry["lastCommit"] = {"id": newest.id.decode(), "title": title, "date": date}
    return described


def _describe(repository: Repository, node: TreeEntry) -> dict[str, Any]:
    if node.is_folder:
        return {"type": "directory", "oid": node.oid, "size": 0, "path": node.path}
    facts = repository.facts(node)
    entry: dict[str, Any] = {"type": "file", "oid": node.oid, "size": facts.size, "path": node.path}
    if facts.pointer:
        entry["lfs"] = {"oid": facts.pointer.oid, "size": facts.size, "pointerSize": facts.stored}
    return entry


def _node_or_none(repository: Repository, commit: Commit, path: str) -> TreeEntry | None:
    try:
        return repository.node(commit, path) if path else None
    except EntryNotFoundError:
        return None


async def refs(request: Request) -> Response:
    """Branches and tags with their commits."""
    return JSONResponse(await run_in_threadpool(_refs, request_context(request)))


def _refs(visit: RequestContext) -> dict[str, list[dict[str, str]]]:
    with visit.reading() as repository:
        found: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
        for group, prefix in (("branches", "refs/heads/"), ("tags", "refs/tags/")):
            for name in sorted(
                ref.decode() for ref in repository.git.refs.allkeys() if ref.startswith(prefix.encode())
            ):
                commit = repository.commit(name)
                found[group].append(
                    {"name": name.removeprefix(prefix), "ref": name, "targetCommit": commit.id.decode()}
                )
        return found


async def commits(request: Request) -> Response:
    """The history of a revision, newest first."""
    visit = request_context(request)
    start = number_parameter(request, "cursor", 0)
    size = max(1, number_parameter(request, "limit", _COMMITS_PAGE, largest=1000))
    formatted = "formatted" in request.query_params.getlist("expand[]")

    def listed() -> tuple[list[dict[str, Any]], bool]:
        with visit.reading() as repository:
            page, more = page_of(repository.history(repository.commit(visit.revision)), start=start, size=size)
            return [_describe_commit(commit, formatted=formatted) for commit in page], more

    entries, more = await run_in_threadpool(listed)
    return page_response(request, entries, cursor=str(start + size) if more else None)


def _describe_commit(commit: Commit, *, formatted: bool) -> dict[str, Any]:
    title, message = commit_message(commit)
    author = commit.author.partition(b" <")[0].decode(errors="replace")
    entry: dict[str, Any] = {
        "id": commit.id.decode(),
        "title": title,
        "message": message,
        "authors": [{"user": author}],
        "date": timestamp(commit),
    }
    if formatted:
        entry["formatted"] = {"title": title, "message": message}
    return entry


def timestamp(commit: Commit) -> str:
    """In the one format the clients parse."""
    return commit_time(commit).strftime("%Y-%m-%dT%H:%M:%S.000Z")


_LIST_PAGE = 1000


async def whoami(request: Request) -> Response:
    """The user behind the token."""
    user = require_user(authenticated_user(request))
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
    visit = request_context(request)

    def check() -> None:
        with visit.reading():
            pass
        if request.url.path.endswith("/write"):
            visit.require_owner()

    await run_in_threadpool(check)
    return JSONResponse({})


async def repo_info(request: Request) -> Response:
    """One repository at one revision; `blobs` adds sizes and hashes, `expand` picks fields."""
    visit = request_context(request)
    info = await run_in_threadpool(_info_at, visit, with_blobs=flag_parameter(request, "blobs"))
    wanted = [*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")]
    if wanted:
        info = {key: value for key, value in info.items() if key in ("_id", "id", "modelId", *wanted)}
    return JSONResponse(info, headers={"X-Repo-Commit": info["sha"]} if "sha" in info else {})


async def list_repos(request: Request) -> Response:
    """All repositories of a kind that the visitor may see, newest first, by `search`, `author` and `filter` (tags)."""
    hub, user = get_hub(request), authenticated_user(request)
    kind = repo_kind(request)
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
    visit = RequestContext(hub=hub, user=user, repo=repo, revision=DEFAULT_BRANCH, path="", base_url="")
    try:
        return _info_at(visit, with_blobs=False)
    except RefusedError:
        return None


def _info_at(visit: RequestContext, *, with_blobs: bool) -> dict[str, Any]:
    with visit.reading() as repository:
        settings = visit.hub.storage.settings(visit.repo)
        return _info(visit, repository, settings, with_blobs=with_blobs)


def _info(visit: RequestContext, repository: Repository, settings: RepoSettings, *, with_blobs: bool) -> dict[str, Any]:
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


async def resolve(request: Request) -> Response:
    """A file as its author knows it."""
    visit = request_context(request)
    body, headers = await run_in_threadpool(_look_up, visit, follow_pointer=True)
    return send(request, body, headers)


async def raw(request: Request) -> Response:
    """A file as git keeps it."""
    visit = request_context(request)
    body, headers = await run_in_threadpool(_look_up, visit, follow_pointer=False)
    return send(request, body, headers)


def _look_up(visit: RequestContext, *, follow_pointer: bool) -> tuple[Body, dict[str, str]]:
    with visit.reading() as repository:
        commit = repository.commit(visit.revision)
        commit_id = commit.id.decode()
        node = repository.node(commit, visit.path)
        if node.is_folder:
            raise EntryNotFoundError(f"{visit.path!r} is a folder, not a file", commit=commit_id)
        facts = repository.facts(node)
        headers = {
            "X-Repo-Commit": commit_id,
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(node.path.rpartition('/')[2])}",
            "Access-Control-Expose-Headers": "X-Repo-Commit, X-Linked-Size, X-Linked-Etag, ETag, Content-Range",
            "Content-Type": "text/plain; charset=utf-8",
        }
        if not (facts.pointer and follow_pointer):
            return Body(size=facts.stored, source=repository.content(node)), {**headers, "ETag": f'"{node.oid}"'}
        if repository.lfs.size(facts.pointer.oid) is None:
            raise EntryNotFoundError(f"the LFS object of {node.path!r} is not here", commit=commit_id)
        return Body(size=facts.pointer.size, source=repository.lfs.path(facts.pointer.oid)), {
            **headers,
            "Content-Type": mimetypes.guess_type(node.path)[0] or "application/octet-stream",
            "ETag": f'"{facts.pointer.oid}"',
            "X-Linked-Etag": f'"{facts.pointer.oid}"',
            "X-Linked-Size": str(facts.pointer.size),
        }
