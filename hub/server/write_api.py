"""Serve the write routes of the Hub's API: repos, commits, branches and tags.

Handlers are named after their routes (`preupload` serves `/api/datasets/{namespace}/{name}/preupload/{revision}`),
those below `/api/repos` after the method of `HfApi` that calls them.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
import time
from typing import Any

from dulwich.objects import Commit, ObjectID, Tag
from dulwich.refs import Ref
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.errors import BadRequestError, ConflictError, ForbiddenError, RevisionNotFoundError, TooLargeError
from bonsai.hub.server.accounts import require_owner, require_user
from bonsai.hub.server.card_validation import check_card
from bonsai.hub.server.commits import Header, branch_head, make_commit, swap, write_commit
from bonsai.hub.server.git import DEFAULT_BRANCH, Repository, upload_rules
from bonsai.hub.server.names import RepoKind, RepoName, branch_ref, check_path, tag_ref
from bonsai.hub.server.request import (
    RequestContext,
    authenticated_user,
    base_url,
    get_hub,
    request_context,
    text_field,
    with_json,
    write_body,
)

COMMIT_LIMIT = 2_000_000_000
"""Bytes of one commit's body, which is spooled to disk; large files travel outside of it."""


@with_json
def preupload(request: Request, body: dict[str, Any]) -> Response:
    """Decide for each file whether it goes to LFS, is ignored, or is already there."""
    context = request_context(request)
    _refuse_pull_request(request)
    files, gitignore = body.get("files"), body.get("gitIgnore")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise BadRequestError("'files' must be a list of objects with 'path', 'size' and 'sample'")
    if not isinstance(gitignore, str | None):
        raise BadRequestError("'gitIgnore' must be a text")

    decisions = []
    context.require_owner()
    with context.reading() as repository:
        commit = repository.commit(context.revision)
        rules = upload_rules(repository, commit, gitignore=gitignore)
        for file in files:
            # 1. Check what the client says of the file.
            path, size = check_path(file.get("path")), file.get("size")
            if not isinstance(size, int) or size < 0:
                raise BadRequestError(f"'size' of {path!r} must be a whole number")
            try:
                sample = base64.b64decode(file.get("sample") or "", validate=True)
            except (binascii.Error, ValueError, TypeError):
                raise BadRequestError(f"'sample' of {path!r} is not base64") from None

            # 2. Choose how it travels.
            mode = "lfs" if rules.is_large(path, size=size, sample=sample) else "regular"
            decision = {"path": path, "uploadMode": mode, "shouldIgnore": rules.ignores(path)}

            # 3. Name the content at this path, so that the client does not send the same again.
            node = repository.find(commit, path)
            if node and not node.is_folder:
                pointer = repository.facts(node).pointer
                decision["oid"] = pointer.oid if pointer else node.oid
            decisions.append(decision)
    return JSONResponse({"files": decisions})


async def commit(request: Request) -> Response:
    """Commit the operations in the body, which is spooled to disk: a body that breaks off is never parsed."""
    context = request_context(request)
    await run_in_threadpool(context.require_owner)
    _refuse_pull_request(request)
    with tempfile.TemporaryFile(dir=context.hub.storage.temp_dir()) as spool:

        def spool_chunk(chunk: bytes) -> None:
            if spool.tell() + len(chunk) > COMMIT_LIMIT:
                raise TooLargeError(f"the commit is larger than {COMMIT_LIMIT} bytes; upload large files as LFS")
            spool.write(chunk)

        def commit_spool() -> str:
            spool.seek(0)
            with context.writing() as repository:
                author, kind = require_user(context.user), context.repo.kind
                return write_commit(repository, spool, branch=context.revision, author=author, kind=kind).id.decode()

        await write_body(request, spool_chunk)
        oid = await run_in_threadpool(commit_spool)
    url = f"{context.base_url}/{context.repo.url_path}/commit/{oid}"
    return JSONResponse({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def _refuse_pull_request(request: Request) -> None:
    if request.query_params.get("create_pr") in ("1", "true", "True"):
        raise BadRequestError("this small Hub has no pull requests; commit to a branch instead (revision=…)")


@with_json
def branch(request: Request, body: dict[str, Any]) -> Response:
    """Create a branch at `startingPoint`, by default the head of main; or delete it."""
    context = request_context(request)
    start = text_field(body, "startingPoint", default="")
    with context.writing() as repository:
        if request.method == "DELETE":
            if context.revision == DEFAULT_BRANCH:
                raise ForbiddenError("Cannot delete refs/heads/main")
            _delete_ref(repository, branch_ref(context.revision))
        else:
            ref, commit = branch_ref(context.revision), repository.commit(start or DEFAULT_BRANCH)
            _add_ref(repository, ref, commit.id)
    return JSONResponse({})


@with_json
def tag(request: Request, body: dict[str, Any]) -> Response:
    """Tag a revision; with a message the tag is an object of its own, as in git. Or delete a tag: it never moves."""
    context = request_context(request)
    with context.writing() as repository:
        if request.method == "DELETE":
            _delete_ref(repository, tag_ref(context.revision))
            return JSONResponse({})
        message = text_field(body, "message", default="")
        name, tagger = text_field(body, "tag"), require_user(context.user)
        commit, ref = repository.commit(context.revision), tag_ref(name)
        target = commit.id
        if message:
            annotated = Tag()
            annotated.name = name.encode()
            annotated.tagger = f"{tagger} <{tagger}@users.noreply.localhost>".encode()
            annotated.tag_time = int(time.time())
            annotated.tag_timezone = 0
            annotated.object = (Commit, commit.id)
            annotated.message = message.encode(errors="replace")
            repository.git.object_store.add_object(annotated)
            target = annotated.id
        _add_ref(repository, ref, target)
    return JSONResponse({})


def _add_ref(repository: Repository, ref: Ref, target: ObjectID) -> None:
    """Create a branch or tag.

    Raises:
        ConflictError: if it exists, or its name is a folder of another: git stores `a` as a file and `a/b` as a file in
            the folder `a`, so the two exclude each other.
    """
    group, name = ref.decode().removeprefix("refs/").split("/", 1)
    for other in repository.git.refs.allkeys():
        taken = other.decode().removeprefix(f"refs/{group}/")
        if taken != other.decode() and (taken.startswith(f"{name}/") or name.startswith(f"{taken}/")):
            raise ConflictError(f"'{name}' cannot be beside '{taken}': one is a folder of the other")
    if not repository.git.refs.add_if_new(ref, target):
        raise ConflictError(f"Reference {ref.decode()} already exists")


def _delete_ref(repository: Repository, ref: Ref) -> None:
    if repository.git.refs.read_ref(ref) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {ref.decode()}")
    repository.git.refs.remove_if_equals(ref, None)


@with_json
def super_squash(request: Request, body: dict[str, Any]) -> Response:
    """Replace a branch's history by one commit with its files."""
    context = request_context(request)
    header = Header(summary=text_field(body, "message", default=f"Super-squash branch '{context.revision}'"))
    with context.writing() as repository:
        head = branch_head(repository, context.revision)
        squashed = make_commit(repository.git, head.tree, header, author=require_user(context.user), parent=None)
        swap(repository, branch_ref(context.revision), head, squashed)
    return JSONResponse({})


@with_json
def create_repo(request: Request, body: dict[str, Any]) -> Response:
    """Create a repository. One that exists is answered 409 with its URL, which the client's `exist_ok` reads."""
    hub, user = get_hub(request), require_user(authenticated_user(request))
    repo = _repo_name(body, user)
    require_owner(user, repo.namespace)
    sdk = text_field(body, "sdk", default="") or None
    answer = {"url": f"{base_url(request)}/{repo.url_path}", "name": repo.id}
    private = _is_private(body) or False
    try:
        hub.storage.create(repo, author=user, private=private, sdk=sdk)
    except ConflictError as error:
        message = f"You already created this {repo.kind} repo: {repo.id}"
        return JSONResponse({**answer, "error": message}, status_code=error.status)
    return JSONResponse(answer)


@with_json
def delete_repo(request: Request, body: dict[str, Any]) -> Response:
    """Delete a repository and its large files."""
    user = require_user(authenticated_user(request))
    hub = get_hub(request)
    repo = hub.storage.canonical_name(_repo_name(body, user))
    RequestContext(hub=hub, user=user, repo=repo).require_owner()
    hub.storage.delete(repo)
    return JSONResponse({})


@with_json
def move_repo(request: Request, body: dict[str, Any]) -> Response:
    """Rename a repository within the namespaces of its owner."""
    hub, user = get_hub(request), require_user(authenticated_user(request))
    kind = RepoKind.parse(body.get("type"))
    names = [text_field(body, field).partition("/") for field in ("fromRepo", "toRepo")]
    source, target = (RepoName(kind=kind, namespace=namespace, name=name) for namespace, _, name in names)
    source = hub.storage.canonical_name(source)
    RequestContext(hub=hub, user=user, repo=source).require_owner()
    require_owner(user, target.namespace)
    hub.storage.move(source, target)
    return JSONResponse({})


@with_json
def settings(request: Request, body: dict[str, Any]) -> Response:
    """Make a repository private or public."""
    context = request_context(request)
    if body.get("gated", False) is not False:
        raise BadRequestError("this small Hub has no gated repositories; make it private instead")
    private = _is_private(body)
    context.require_owner()
    if private is not None:
        context.hub.storage.change(context.repo, private=private)
    return JSONResponse({"private": private, "gated": False})


@with_json
def validate_yaml(request: Request, body: dict[str, Any]) -> Response:
    """Validate a card; the client raises on status 400 and warns of `warnings`."""
    authenticated_user(request)
    verdict = check_card(text_field(body, "content", default=""), RepoKind.parse(body.get("repoType")))
    answer = {key: [{"message": message} for message in getattr(verdict, key)] for key in ("errors", "warnings")}
    return JSONResponse(answer, status_code=400 if verdict.errors else 200)


def _repo_name(body: dict[str, Any], user: str) -> RepoName:
    namespace = text_field(body, "organization", default=user)
    return RepoName(kind=RepoKind.parse(body.get("type")), namespace=namespace, name=text_field(body, "name"))


def _is_private(body: dict[str, Any]) -> bool | None:
    """Read `visibility`, or `private`, which older clients send; None if both are missing."""
    if "visibility" in body:
        if body["visibility"] not in ("public", "private"):
            raise BadRequestError(f"visibility {body['visibility']!r} is unknown; use public or private")
        return bool(body["visibility"] == "private")
    private = body.get("private")
    if not isinstance(private, bool | None):
        raise BadRequestError("'private' must be true or false")
    return private
