"""Changing what is in a repository: what to upload how, commits, branches, tags."""

from __future__ import annotations

import base64
import binascii
import tempfile
from typing import IO, Any

from dulwich.objects import Commit
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.accounts import require_user
from bonsai.hub.commit import branch_head, make_commit, swap, write_commit
from bonsai.hub.commit_request import Header
from bonsai.hub.errors import BadRequestError, EntryNotFoundError, TooLargeError
from bonsai.hub.names import branch_ref, check_path
from bonsai.hub.ranges import CHUNK
from bonsai.hub.references import create_branch, create_tag, delete_branch, delete_tag
from bonsai.hub.repository import Repository
from bonsai.hub.upload_mode import UploadRules, upload_rules
from bonsai.hub.visit import Visit, read_json, text_field, visit_of

COMMIT_LIMIT = 2_000_000_000
"""Bytes of one commit's body, which waits on disk while it arrives; large files travel outside of it."""


async def preupload(request: Request) -> Response:
    """Tells for each file whether it is large, unwanted, or here already."""
    visit = visit_of(request)
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
    visit = visit_of(request)
    await run_in_threadpool(visit.require_owner)
    _refuse_pull_request(request)
    with tempfile.TemporaryFile(dir=visit.hub.storage.scratch()) as spool:
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


def _commit(visit: Visit, spool: IO[bytes]) -> str:
    with visit.writing() as repository:
        author = require_user(visit.user)
        return write_commit(repository, spool, branch=visit.revision, author=author, kind=visit.repo.kind).id.decode()


def _refuse_pull_request(request: Request) -> None:
    if request.query_params.get("create_pr") in ("1", "true", "True"):
        raise BadRequestError("this small Hub has no pull requests; commit to a branch instead (revision=…)")


async def branch(request: Request) -> Response:
    """Makes or deletes a branch."""
    visit = visit_of(request)
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
    visit = visit_of(request)
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
    visit = visit_of(request)
    body = await read_json(request)
    header = Header(summary=text_field(body, "message", default=f"Super-squash branch '{visit.revision}'"))

    def squash() -> None:
        with visit.writing() as repository:
            head = branch_head(repository, visit.revision)
            squashed = make_commit(repository.git, head.tree, header, author=require_user(visit.user), parent=None)
            swap(repository, branch_ref(visit.revision), head, squashed)

    await run_in_threadpool(squash)
    return JSONResponse({})
