"""Serve the read routes of the Hub's API: repo info, file listings, history, and the files themselves.

Handlers are named after their routes; starlette runs those that await nothing in a thread. Large files are answered
directly where the Hub redirects to its storage; the clients accept both, and read the hash of the content from
`X-Linked-Etag`.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote

from dulwich.objects import Commit
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.errors import BadRequestError, EntryNotFoundError, RefusedError
from bonsai.hub.server.accounts import require_user
from bonsai.hub.server.card_validation import derived_tags, read_metadata
from bonsai.hub.server.git import Repository, TreeEntry, commit_message
from bonsai.hub.server.names import RepoKind
from bonsai.hub.server.request import (
    RequestContext,
    authenticated_user,
    get_hub,
    parse_json,
    repo_kind,
    request_context,
    with_body,
)
from bonsai.hub.server.responses import Body, flag_parameter, number_parameter, page_of, page_response, send

# The Hub's own page sizes: an expanded tree page walks the history, so it is shorter.
_TREE_PAGE, _EXPANDED_PAGE, _COMMITS_PAGE, _LIST_PAGE = 1000, 50, 50, 1000
_PATHS_LIMIT = 1000


def tree(request: Request) -> Response:
    """List a folder. The cursor names the commit, so that all pages of a listing agree."""
    context = request_context(request)
    expand, recursive = flag_parameter(request, "expand"), flag_parameter(request, "recursive")
    largest = _EXPANDED_PAGE if expand else _TREE_PAGE
    size = max(1, number_parameter(request, "limit", largest, largest=largest))
    revision, _, offset = request.query_params.get("cursor", f"{context.revision}:0").rpartition(":")
    if not offset.isdecimal() or len(offset) > 18:
        raise BadRequestError("the cursor is not one of this server's")

    with context.reading() as repository:
        commit = repository.commit(revision)
        folder = repository.node(commit, context.path)
        if not folder.is_folder:
            raise EntryNotFoundError(f"{context.path!r} is a file, not a folder", commit=commit.id.decode())
        nodes, more = page_of(repository.children(folder, recursive=recursive), start=int(offset), size=size)
        cursor = f"{commit.id.decode()}:{int(offset) + size}" if more else None
        return page_response(request, describe_nodes(repository, commit, nodes, expand=expand), cursor=cursor)


@with_body
def paths_info(request: Request, sent: bytes) -> Response:
    """Describe files and folders by path; paths that do not exist are left out.

    huggingface_hub sends a form, other clients JSON.
    """
    context = request_context(request)
    if request.headers.get("content-type", "").startswith("application/json"):
        body = parse_json(sent)
        paths, expand = body.get("paths", []), body.get("expand") is True
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise BadRequestError("'paths' must be a list of texts")
    else:
        form = parse_qs(sent.decode(errors="replace"))
        paths, expand = form.get("paths", []), form.get("expand", [""])[-1].casefold() == "true"
    if len(paths) > _PATHS_LIMIT:
        raise BadRequestError(f"{len(paths)} paths at once; ask for at most {_PATHS_LIMIT}")

    with context.reading() as repository:
        commit = repository.commit(context.revision)
        names = filter(None, (path.strip("/") for path in paths))
        nodes = [node for name in names if (node := repository.find(commit, name))]
        return JSONResponse(describe_nodes(repository, commit, nodes, expand=expand))


def describe_nodes(
    repository: Repository, commit: Commit, nodes: list[TreeEntry], *, expand: bool
) -> list[dict[str, Any]]:
    """Return the API's JSON for files and folders; `expand` adds the commit that last changed each."""
    entries: list[dict[str, Any]] = []
    changes = repository.last_changes(commit, [node.path for node in nodes]) if expand else {}
    for node in nodes:
        if node.is_folder:
            entry: dict[str, Any] = {"type": "directory", "oid": node.oid, "size": 0, "path": node.path}
        else:
            facts = repository.facts(node)
            entry = {"type": "file", "oid": node.oid, "size": facts.size, "path": node.path}
            if facts.pointer:
                entry["lfs"] = {"oid": facts.pointer.oid, "size": facts.size, "pointerSize": facts.stored}
        if expand:
            newest = changes[node.path]
            title, date = commit_message(newest)[0], timestamp(newest)
            entry["lastCommit"] = {"id": newest.id.decode(), "title": title, "date": date}
        entries.append(entry)
    return entries


def refs(request: Request) -> Response:
    """List branches and tags with their commits."""
    groups: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    with request_context(request).reading() as repository:
        for ref in sorted(ref.decode() for ref in repository.git.refs.allkeys()):
            for group, prefix in (("branches", "refs/heads/"), ("tags", "refs/tags/")):
                if ref.startswith(prefix):
                    oid = repository.commit(ref).id.decode()
                    groups[group].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid})
    return JSONResponse(groups)


def commits(request: Request) -> Response:
    """List the history of a revision, newest first."""
    context = request_context(request)
    start = number_parameter(request, "cursor", 0)
    size = max(1, number_parameter(request, "limit", _COMMITS_PAGE, largest=1000))
    formatted = "formatted" in request.query_params.getlist("expand[]")
    entries: list[dict[str, Any]] = []
    with context.reading() as repository:
        page, more = page_of(repository.history(repository.commit(context.revision)), start=start, size=size)
        for commit in page:
            title, message = commit_message(commit)
            author = commit.author.partition(b" <")[0].decode(errors="replace")
            entry = {
                "id": commit.id.decode(),
                "title": title,
                "message": message,
                "authors": [{"user": author}],
                "date": timestamp(commit),
            }
            entries.append(entry | ({"formatted": {"title": title, "message": message}} if formatted else {}))
    return page_response(request, entries, cursor=str(start + size) if more else None)


def timestamp(commit: Commit) -> str:
    """Return the time of a commit in the one format the clients parse."""
    return datetime.fromtimestamp(commit.commit_time, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def whoami(request: Request) -> Response:
    """Describe the user of the token."""
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


def auth_check(request: Request) -> Response:
    """Check that the user may read, or write, the repository; the answer is empty."""
    context = request_context(request)
    with context.reading():
        pass
    if request.url.path.endswith("/write"):
        context.require_owner()
    return JSONResponse({})


def repo_info(request: Request) -> Response:
    """Describe one repository at one revision; `blobs` adds sizes and hashes, `expand` picks fields."""
    info = _repo_info(request_context(request), with_blobs=flag_parameter(request, "blobs"))
    wanted = [*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")]
    if wanted:
        info = {key: value for key, value in info.items() if key in ("_id", "id", "modelId", *wanted)}
    return JSONResponse(info, headers={"X-Repo-Commit": info["sha"]} if "sha" in info else {})


def list_repos(request: Request) -> Response:
    """List the repositories of a kind that the user may see, newest first; filter by name, author and tags."""
    hub, user = get_hub(request), authenticated_user(request)
    kind = repo_kind(request)
    query = request.query_params
    start = number_parameter(request, "cursor", 0)
    limit = max(1, number_parameter(request, "limit", _LIST_PAGE, largest=_LIST_PAGE))
    wanted_tags = {tag for text in query.getlist("filter") for tag in text.split(",") if tag}
    wanted_tags.update(query.getlist("pipeline_tag"))
    words = [word.casefold() for word in query.getlist("search")]
    with_files = flag_parameter(request, "full")

    def matching() -> Iterator[dict[str, Any]]:
        for repo in hub.storage.list(kind):
            by_author = query.get("author", repo.namespace) == repo.namespace
            if not by_author or not all(word in repo.id.casefold() for word in words):
                continue
            context = RequestContext(hub=hub, user=user, repo=repo)
            try:
                info = _repo_info(context, with_blobs=False)
            except RefusedError:  # private, or deleted meanwhile
                continue
            if wanted_tags <= set(info["tags"]):
                yield info if with_files else {key: value for key, value in info.items() if key != "siblings"}

    key = "createdAt" if query.get("sort") in ("createdAt", "created_at") else "lastModified"
    newest_first = sorted(matching(), key=lambda info: str(info[key]), reverse=True)
    entries, more = page_of(newest_first, start=start, size=limit)
    return page_response(request, entries, cursor=str(start + limit) if more else None)


def _repo_info(context: RequestContext, *, with_blobs: bool) -> dict[str, Any]:
    repo = context.repo
    with context.reading() as repository:
        # 1. The files, by path.
        settings = context.hub.storage.settings(repo)
        commit = repository.commit(context.revision)
        root = repository.node(commit, "")
        nodes = [node for node in repository.children(root, recursive=True) if not node.is_folder]
        nodes.sort(key=lambda node: node.path)
        siblings: list[dict[str, Any]] = [{"rfilename": node.path} for node in nodes]
        if with_blobs:
            for sibling, entry in zip(siblings, describe_nodes(repository, commit, nodes, expand=False), strict=True):
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if "lfs" in entry:
                    sibling["lfs"] = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}

        # 2. The card's metadata; an invalid card does not hide the repository.
        try:
            metadata = read_metadata(repository.read_file(commit, "README.md").decode(errors="replace"))
        except BadRequestError:
            metadata = {}

    # 3. The fields of huggingface_hub's ModelInfo, DatasetInfo and SpaceInfo.
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


def resolve(request: Request) -> Response:
    """Send a file; of a large one its content, from the LFS store."""
    return _send_file(request, follow_pointer=True)


def raw(request: Request) -> Response:
    """Send a file as git stores it: of a large one, its pointer."""
    return _send_file(request, follow_pointer=False)


def _send_file(request: Request, *, follow_pointer: bool) -> Response:
    context = request_context(request)
    with context.reading() as repository:
        commit = repository.commit(context.revision)
        commit_id = commit.id.decode()
        node = repository.node(commit, context.path)
        if node.is_folder:
            raise EntryNotFoundError(f"{context.path!r} is a folder, not a file", commit=commit_id)
        facts = repository.facts(node)
        headers = {
            "X-Repo-Commit": commit_id,
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(node.path.rpartition('/')[2])}",
            "Access-Control-Expose-Headers": "X-Repo-Commit, X-Linked-Size, X-Linked-Etag, ETag, Content-Range",
            "Content-Type": "text/plain; charset=utf-8",
        }
        if not (facts.pointer and follow_pointer):
            content = Body(size=facts.stored, source=repository.content(node))
            return send(request, content, {**headers, "ETag": f'"{node.oid}"'})
        if repository.lfs.size(facts.pointer.oid) is None:
            raise EntryNotFoundError(f"the LFS object of {node.path!r} is not here", commit=commit_id)
        headers |= {
            "Content-Type": mimetypes.guess_type(node.path)[0] or "application/octet-stream",
            "ETag": f'"{facts.pointer.oid}"',
            "X-Linked-Etag": f'"{facts.pointer.oid}"',
            "X-Linked-Size": str(facts.pointer.size),
        }
        return send(request, Body(size=facts.pointer.size, source=repository.lfs.path(facts.pointer.oid)), headers)
