"""What a repository holds: trees, paths, refs and history."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from dulwich.objects import Commit
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.errors import BadRequestError, EntryNotFoundError
from bonsai.hub.pages import flag_parameter, number_parameter, page_of, page_response
from bonsai.hub.repository import Node, Repository, commit_message, commit_time
from bonsai.hub.visit import Visit, read_body, read_json, visit_of

_TREE_PAGE, _EXPANDED_PAGE, _COMMITS_PAGE, _PATHS_LIMIT = 1000, 50, 50, 1000


async def tree(request: Request) -> Response:
    """A folder's content. The cursor names the commit, so that a list read in pages is of one piece."""
    visit = visit_of(request)
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
    visit = visit_of(request)
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


def describe_nodes(repository: Repository, commit: Commit, nodes: list[Node], *, expand: bool) -> list[dict[str, Any]]:
    """Files and folders in the words of the API; `expand` adds the commit that last changed each."""
    described = [_describe(repository, node) for node in nodes]
    if expand:
        changes = repository.last_changes(commit, [node.path for node in nodes])
        for entry in described:
            newest = changes[entry["path"]]
            title, date = commit_message(newest)[0], timestamp(newest)
            entry["lastCommit"] = {"id": newest.id.decode(), "title": title, "date": date}
    return described


def _describe(repository: Repository, node: Node) -> dict[str, Any]:
    if node.is_folder:
        return {"type": "directory", "oid": node.oid, "size": 0, "path": node.path}
    facts = repository.facts(node)
    entry: dict[str, Any] = {"type": "file", "oid": node.oid, "size": facts.size, "path": node.path}
    if facts.pointer:
        entry["lfs"] = {"oid": facts.pointer.oid, "size": facts.size, "pointerSize": facts.stored}
    return entry


def _node_or_none(repository: Repository, commit: Commit, path: str) -> Node | None:
    try:
        return repository.node(commit, path) if path else None
    except EntryNotFoundError:
        return None


async def refs(request: Request) -> Response:
    """Branches and tags with their commits."""
    return JSONResponse(await run_in_threadpool(_refs, visit_of(request)))


def _refs(visit: Visit) -> dict[str, list[dict[str, str]]]:
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
    visit = visit_of(request)
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
