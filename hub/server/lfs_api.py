"""Git LFS: the batch endpoint, and the transfer of the objects themselves.

Protocol: github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, transfer `basic`. The clients send no token with the
object itself, for on the Hub it goes to another machine; so the address carries a signature that is good for one object
and a while.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bonsai.hub.errors import BadRequestError, EntryNotFoundError, ForbiddenError, RepoNotFoundError
from bonsai.hub.server.lfs_store import LfsStore, Pointer, check_oid
from bonsai.hub.server.names import RepoName
from bonsai.hub.server.request import RequestContext, get_hub, read_json, repo_kind, request_context
from bonsai.hub.server.responses import CHUNK, Body, send
from bonsai.hub.server.storage import Storage

_SIGNATURE_SECONDS = 6 * 3600
_BATCH_LIMIT = 1000


async def batch(request: Request) -> Response:
    """Where to send or get each object; one that is here already needs no upload."""
    visit = request_context(request)
    body = await read_json(request)
    operation, objects = body.get("operation"), body.get("objects")
    if operation not in ("upload", "download") or not isinstance(objects, list) or len(objects) > _BATCH_LIMIT:
        raise BadRequestError(f"'operation' must be upload or download, 'objects' a list of at most {_BATCH_LIMIT}")
    if "basic" not in body.get("transfers", ["basic"]) or body.get("hash_algo", "sha256") != "sha256":
        raise BadRequestError("this small Hub knows only the transfer 'basic' and the hash sha256")
    pointers = [_pointer(entry) for entry in objects]

    def planned() -> list[dict[str, Any]]:
        if operation == "upload":
            visit.require_owner()
        with visit.reading() as repository:
            return [_plan(visit, repository.lfs, operation, pointer) for pointer in pointers]

    answer = {"transfer": "basic", "objects": await run_in_threadpool(planned), "hash_algo": "sha256"}
    return JSONResponse(answer, media_type="application/vnd.git-lfs+json")


def _plan(visit: RequestContext, store: LfsStore, operation: str, pointer: Pointer) -> dict[str, Any]:
    entry: dict[str, Any] = {"oid": pointer.oid, "size": pointer.size, "authenticated": True}
    here = store.size(pointer.oid) == pointer.size
    if operation == "download" and not here:
        return {**entry, "error": {"code": 404, "message": "the object does not exist"}}
    if operation == "upload" and here:
        return entry
    git_url = f"{visit.base_url}/{visit.repo.url_path}.git/lfs"
    method = "PUT" if operation == "upload" else "GET"
    expires = int(time.time()) + _SIGNATURE_SECONDS
    signature = _sign(visit.hub.storage, method, visit.repo, pointer, expires)
    query = urlencode({"size": pointer.size, "expires": expires, "signature": signature})
    actions = {operation: {"href": f"{git_url}/{pointer.oid}?{query}", "expires_in": _SIGNATURE_SECONDS}}
    if operation == "upload":
        actions["verify"] = {"href": f"{git_url}/verify"}
    return {**entry, "actions": actions}


async def upload(request: Request) -> Response:
    """Receives an object: kept if length and SHA-256 are as announced, forgotten otherwise."""
    store, pointer = await run_in_threadpool(_signed, request, "PUT")
    incoming = await run_in_threadpool(store.receive, pointer)
    try:
        waiting = bytearray()
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= CHUNK:
                await run_in_threadpool(incoming.write, bytes(waiting))
                waiting.clear()
        await run_in_threadpool(incoming.write, bytes(waiting))
        await run_in_threadpool(incoming.keep)
    finally:
        incoming.close()
    return Response(headers={"ETag": f'"{pointer.oid}"'})


async def download(request: Request) -> Response:
    """Sends an object to git-lfs; the Hub's own clients use `resolve`."""
    store, pointer = await run_in_threadpool(_signed, request, "GET")
    if store.size(pointer.oid) is None:
        raise EntryNotFoundError("the object does not exist")
    return send(request, Body(size=pointer.size, source=store.path(pointer.oid)), {"ETag": f'"{pointer.oid}"'})


async def verify(request: Request) -> Response:
    """Whether an object arrived."""
    visit = request_context(request)
    pointer = _pointer(await read_json(request))

    def look() -> int | None:
        visit.require_owner()
        with visit.reading() as repository:
            return repository.lfs.size(pointer.oid)

    if await run_in_threadpool(look) != pointer.size:
        raise EntryNotFoundError(f"the object {pointer.oid} of {pointer.size} bytes is not here")
    return JSONResponse({})


def _signed(request: Request, method: str) -> tuple[LfsStore, Pointer]:
    """The store and the object of a signed address.

    Raises:
        ForbiddenError: if it was not signed here, or too long ago.
    """
    query, parameters = request.query_params, request.path_params
    repo = RepoName(kind=repo_kind(request), namespace=parameters["namespace"], name=parameters["name"])
    size, expires = query.get("size", ""), query.get("expires", "")
    if not (size.isdecimal() and expires.isdecimal() and len(size) <= 18 and len(expires) <= 18):
        raise ForbiddenError("the address of the object is not signed")
    pointer = Pointer(oid=check_oid(parameters["oid"]), size=int(size))
    storage = get_hub(request).storage
    expected = _sign(storage, method, repo, pointer, int(expires))
    given = query.get("signature", "").encode(errors="replace")
    if not hmac.compare_digest(expected.encode(), given) or int(expires) < time.time():
        raise ForbiddenError("the address of the object is not signed here, or too old; ask for a new one")
    if not storage.exists(repo):
        raise RepoNotFoundError("Repository not found")
    with storage.open(repo) as repository:
        return repository.lfs, pointer


def _sign(storage: Storage, method: str, repo: RepoName, pointer: Pointer, expires: int) -> str:
    message = f"{method} {repo} {pointer.oid} {pointer.size} {expires}"
    return hmac.new(storage.secret(), message.encode(), hashlib.sha256).hexdigest()


def _pointer(entry: Any) -> Pointer:
    if not isinstance(entry, dict) or not isinstance(entry.get("size"), int) or entry["size"] < 0:
        raise BadRequestError("an object needs 'oid' and 'size'")
    return Pointer(oid=check_oid(entry.get("oid")), size=entry["size"])
