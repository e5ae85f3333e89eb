"""Serve what clients write: repos, commits, branches and tags."""

from __future__ import annotations

import base64
import binascii
import tempfile
import time
from typing import IO, Any

from dulwich.objects import Commit, Tag
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.errors import (
    BadRequestError,
    ConflictError,
    EntryNotFoundError,
    ForbiddenError,
    RevisionNotFoundError,
    TooLargeError,
)
from bonsai.hub.server.card_validation import check_card
from bonsai.hub.server.commits import Header, branch_head, make_commit, swap, write_commit
from bonsai.hub.server.git import DEFAULT_BRANCH, Repository, UploadRules, upload_rules
from bonsai.hub.server.names import RepoKind, RepoName, branch_ref, check_path, tag_ref
from bonsai.hub.server.request import (
    RequestContext,
    authenticated_user,
    base_url,
    get_hub,
    read_json,
    request_context,
    require_owner,
    require_user,
    text_field,
)
from bonsai.hub.server.responses import CHUNK


def create_branch(repository: Repository, name: str, *, start: str | None) -> None:
    """Starts a branch at a revision, by default at the head of main.

    Raises:
        ConflictError: if there is one of this name, or one whose name is a folder of this one.
    """
    ref, commit = branch_ref(name), repository.commit(start or DEFAULT_BRANCH)
    _refuse_overlap(repository, "heads", name)
    if not repository.git.refs.add_if_new(ref, commit.id):
        raise ConflictError(f"Reference {ref.decode()} already exists")


def delete_branch(repository: Repository, name: str) -> None:
    """Raises ForbiddenError for main, RevisionNotFoundError if there is no such branch."""
    if name == DEFAULT_BRANCH:
        raise ForbiddenError("Cannot delete refs/heads/main")
    ref = branch_ref(name)
    if repository.git.refs.read_ref(ref) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {ref.decode()}")
    repository.git.refs.remove_if_equals(ref, None)


def create_tag(repository: Repository, name: str, *, revision: str, message: str, tagger: str) -> None:
    """Tags a revision; with a message the tag is an object of its own, as in git.

    Raises:
        ConflictError: if there is a tag of this name: a tag does not move.
    """
    commit, ref = repository.commit(revision), tag_ref(name)
    _refuse_overlap(repository, "tags", name)
    target = commit.id
    if message:
        tag = Tag()
        tag.name = name.encode()
        tag.tagger = f"{tagger} <{tagger}@users.noreply.localhost>".encode()
        tag.tag_time = int(time.time())
        tag.tag_timezone = 0
        tag.object = (Commit, commit.id)
        tag.message = message.encode(errors="replace")
        repository.git.object_store.add_object(tag)
        target = tag.id
    if not repository.git.refs.add_if_new(ref, target):
        raise ConflictError(f"Reference {ref.decode()} already exists")


def delete_tag(repository: Repository, name: str) -> None:
    """Raises RevisionNotFoundError if there is no such tag."""
    ref = tag_ref(name)
    if repository.git.refs.read_ref(ref) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {ref.decode()}")
    repository.git.refs.remove_if_equals(ref, None)


def _refuse_overlap(repository: Repository, group: str, name: str) -> None:
    """Git keeps `a` as a file and `a/b` as a file in the folder `a`: the two cannot be side by side."""
    for other in repository.git.refs.allkeys():
        taken = other.decode().removeprefix(f"refs/{group}/")
        if taken != other.decode() and (taken.startswith(f"{name}/") or name.startswith(f"{taken}/")):
            raise ConflictError(f"'{name}' cannot be beside '{taken}': one is a folder of the other")


COMMIT_LIMIT = 2_000_000_000
"""Bytes of one commit's body, which waits on disk while it arrives; large files travel outside of it."""


async def preupload(request: Request) -> Response:
    """Tells for each file whether it is large, unwanted, or here already."""
    visit = request_context(request)
    _refuse_pull_request(request)
    body = await read_json(request)
    files, gitignore = body.get("files"), body.get("gitIgnore")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise BadRequestError("'files' must be a list of objects with 'path', 'size' and 'sample'")
    if not isinstance(gitignore, str | None):
        raise BadRequestError("'gitIgnore' must be a text")

    def decided() -> list[dict[str, Any]]:
        visit.require_owner()
        with visit.reading() as repository:
            commit = repository.commit(visit.revision)
            rules = upload_rules(repository, commit, gitignore=gitignore)
            return [_upload_mode(repository, commit, rules, file) for file in files]

    return JSONResponse({"files": await run_in_threadpool(decided)})


def _upload_mode(repository: Repository, commit: Commit, rules: UploadRules, file: dict[str, Any]) -> dict[str, Any]:
    path, size = check_path(file.get("path")), file.get("size")
    if not isinstance(size, int) or size < 0:
        raise BadRequestError(f"'size' of {path!r} must be a whole number")
    try:
        sample = base64.b64decode(file.get("sample") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise BadRequestError(f"'sample' of {path!r} is not base64") from None
    mode = "lfs" if rules.is_large(path, size=size, sample=sample) else "regular"
    decision = {"path": path, "uploadMode": mode, "shouldIgnore": rules.ignores(path)}
    try:
        node = repository.node(commit, path)
    except EntryNotFoundError:
        return decision
    if not node.is_folder:
        pointer = repository.facts(node).pointer
        decision["oid"] = pointer.oid if pointer else node.oid
    return decision


async def commit(request: Request) -> Response:
    """The body is kept on disk until it is complete: what arrives only in part is never looked at."""
    visit = request_context(request)
    await run_in_threadpool(visit.require_owner)
    _refuse_pull_request(request)
    with tempfile.TemporaryFile(dir=visit.hub.storage.temp_dir()) as spool:
        await _spool(request, spool)
        created = await run_in_threadpool(_commit, visit, spool)
    url = f"{visit.base_url}/{visit.repo.url_path}/commit/{created}"
    return JSONResponse({"success": True, "commitOid": created, "commitUrl": url, "hookOutput": ""})


async def _spool(request: Request, spool: IO[bytes]) -> None:
    received = 0
    waiting = bytearray()
    async for chunk in request.stream():
        received += len(chunk)
        if received > COMMIT_LIMIT:
            raise TooLargeError(f"the commit is larger than {COMMIT_LIMIT} bytes; upload large files as LFS")
        waiting += chunk
        if len(waiting) >= CHUNK:
            await run_in_threadpool(spool.write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(spool.write, bytes(waiting))
    spool.seek(0)


def _commit(visit: RequestContext, spool: IO[bytes]) -> str:
    with visit.writing() as repository:
        author = require_user(visit.user)
        return write_commit(repository, spool, branch=visit.revision, author=author, kind=visit.repo.kind).id.decode()


def _refuse_pull_request(request: Request) -> None:
    if request.query_params.get("create_pr") in ("1", "true", "True"):
        raise BadRequestError("this small Hub has no pull requests; commit to a branch instead (revision=…)")


async def branch(request: Request) -> Response:
    """Makes or deletes a branch."""
    visit = request_context(request)
    body = await read_json(request) if request.method == "POST" else {}
    start = text_field(body, "startingPoint", default="")

    def change() -> None:
        with visit.writing() as repository:
            if request.method == "DELETE":
                delete_branch(repository, visit.revision)
            else:
                create_branch(repository, visit.revision, start=start or None)

    await run_in_threadpool(change)
    return JSONResponse({})


async def tag(request: Request) -> Response:
    """Makes or deletes a tag."""
    visit = request_context(request)
    body = await read_json(request) if request.method == "POST" else {}

    def change() -> None:
        with visit.writing() as repository:
            if request.method == "DELETE":
                delete_tag(repository, visit.revision)
            else:
                message = text_field(body, "message", default="")
                name, tagger = text_field(body, "tag"), require_user(visit.user)
                create_tag(repository, name, revision=visit.revision, message=message, tagger=tagger)

    await run_in_threadpool(change)
    return JSONResponse({})


async def super_squash(request: Request) -> Response:
    """Replaces a branch's history by one commit with its files."""
    visit = request_context(request)
    body = await read_json(request)
    header = Header(summary=text_field(body, "message", default=f"Super-squash branch '{visit.revision}'"))

    def squash() -> None:
        with visit.writing() as repository:
            head = branch_head(repository, visit.revision)
            squashed = make_commit(repository.git, head.tree, header, author=require_user(visit.user), parent=None)
            swap(repository, branch_ref(visit.revision), head, squashed)

    await run_in_threadpool(squash)
    return JSONResponse({})


async def create(request: Request) -> Response:
    """A repository that exists is answered 409 with its address: the client's `exist_ok` reads it from there."""
    hub, user = get_hub(request), require_user(authenticated_user(request))
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
    user = require_user(authenticated_user(request))
    hub = get_hub(request)
    repo = hub.storage.canonical_name(_named(await read_json(request), user))
    visit = RequestContext(hub=hub, user=user, repo=repo, revision="", path="", base_url="")

    def remove() -> None:
        visit.require_owner()
        visit.hub.storage.delete(repo)

    await run_in_threadpool(remove)
    return JSONResponse({})


async def move(request: Request) -> Response:
    """Renames a repository within the namespaces of its owner."""
    hub, user = get_hub(request), require_user(authenticated_user(request))
    body = await read_json(request)
    kind = RepoKind.parse(body.get("type"))
    source, target = (_full_name(kind, text_field(body, field)) for field in ("fromRepo", "toRepo"))

    source = hub.storage.canonical_name(source)

    def rename() -> None:
        RequestContext(hub=hub, user=user, repo=source, revision="", path="", base_url="").require_owner()
        require_owner(user, target.namespace)
        hub.storage.move(source, target)

    await run_in_threadpool(rename)
    return JSONResponse({})


async def settings(request: Request) -> Response:
    """Makes a repository private or public."""
    visit = request_context(request)
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
    authenticated_user(request)
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
