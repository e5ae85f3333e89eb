"""Serve Git LFS: the batch endpoint, and the transfer of the objects themselves.

Protocol: github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, transfer `basic`. Clients send no token with an
object, because on the Hub it goes to another server; the URL carries a signature for one object and a limited time.
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
from bonsai.hub.server.request import get_hub, repo_kind, request_context, with_json, write_body
from bonsai.hub.server.responses import Body, send
from bonsai.hub.server.storage import Storage

_SIGNATURE_SECONDS = 6 * 3600
_BATCH_LIMIT = 1000


@with_json
def batch(request: Request, body: dict[str, Any]) -> Response:
    """Return the URL to send or get each object; one that is stored already needs no upload."""
    # 1. Check the request.
    context = request_context(request)
    operation, objects = body.get("operation"), body.get("objects")
    if operation not in ("upload", "download") or not isinstance(objects, list) or len(objects) > _BATCH_LIMIT:
        raise BadRequestError(f"'operation' must be upload or download, 'objects' a list of at most {_BATCH_LIMIT}")
    if "basic" not in body.get("transfers", ["basic"]) or body.get("hash_algo", "sha256") != "sha256":
        raise BadRequestError("this small Hub knows only the transfer 'basic' and the hash sha256")
    pointers = [_pointer(entry) for entry in objects]
    is_upload = operation == "upload"
    git_url = f"{context.base_url}/{context.repo.url_path}.git/lfs"

    # 2. Plan the transfer of each object.
    entries: list[dict[str, Any]] = []
    if is_upload:
        context.require_owner()
    with context.reading() as repository:
        for pointer in pointers:
            entry: dict[str, Any] = {"oid": pointer.oid, "size": pointer.size, "authenticated": True}
            is_stored = repository.lfs.size(pointer.oid) == pointer.size
            if not is_upload and not is_stored:
                entry["error"] = {"code": 404, "message": "the object does not exist"}
            elif not (is_upload and is_stored):
                expires = int(time.time()) + _SIGNATURE_SECONDS
                method = "PUT" if is_upload else "GET"
                signature = _sign(context.hub.storage, method, context.repo, pointer, expires)
                query = urlencode({"size": pointer.size, "expires": expires, "signature": signature})
                url = f"{git_url}/{pointer.oid}?{query}"
                entry["actions"] = {operation: {"href": url, "expires_in": _SIGNATURE_SECONDS}}
                if is_upload:
                    entry["actions"]["verify"] = {"href": f"{git_url}/verify"}
            entries.append(entry)
    answer = {"transfer": "basic", "objects": entries, "hash_algo": "sha256"}
    return JSONResponse(answer, media_type="application/vnd.git-lfs+json")


async def upload(request: Request) -> Response:
    """Receive an object; store it if length and SHA-256 are as announced, discard it otherwise."""
    store, pointer = await run_in_threadpool(_check_signature, request, "PUT")
    incoming = await run_in_threadpool(store.receive, pointer)
    try:
        await write_body(request, incoming.write)
        await run_in_threadpool(incoming.keep)
    finally:
        incoming.close()
    return Response(headers={"ETag": f'"{pointer.oid}"'})


def download(request: Request) -> Response:
    """Send an object to git-lfs; the Hub's own clients use `resolve`."""
    store, pointer = _check_signature(request, "GET")
    if store.size(pointer.oid) is None:
        raise EntryNotFoundError("the object does not exist")
    return send(request, Body(size=pointer.size, source=store.path(pointer.oid)), {"ETag": f'"{pointer.oid}"'})


@with_json
def verify(request: Request, body: dict[str, Any]) -> Response:
    """Confirm that an object was stored."""
    context = request_context(request)
    pointer = _pointer(body)
    context.require_owner()
    with context.reading() as repository:
        stored = repository.lfs.size(pointer.oid)
    if stored != pointer.size:
        raise EntryNotFoundError(f"the object {pointer.oid} of {pointer.size} bytes is not here")
    return JSONResponse({})


def _check_signature(request: Request, method: str) -> tuple[LfsStore, Pointer]:
    """Return the store and the object of a signed URL.

    Raises:
        ForbiddenError: if it was not signed by this Hub, or too long ago.
    """
    query, parameters = request.query_params, request.path_params
    repo = RepoName(kind=repo_kind(request), namespace=parameters["namespace"], name=parameters["name"])
    size, expires = query.get("size", ""), query.get("expires", "")
    if not (size.isdecimal() and expires.isdecimal() and len(size) <= 18 and len(expires) <= 18):
        raise ForbiddenError("the address of the object is not signed")
    pointer = Pointer(oid=check_oid(parameters["oid"]), size=int(size))
    storage = get_hub(request).storage
    expected = _sign(storage, method, repo, pointer, int(expires))
    signature = query.get("signature", "").encode(errors="replace")
    if not hmac.compare_digest(expected.encode(), signature) or int(expires) < time.time():
        raise ForbiddenError("the address of the object was not signed by this Hub, or has expired; ask for a new one")
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
