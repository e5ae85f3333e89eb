"""Assemble the local Hub's ASGI application: routes, middleware and error answers."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from bonsai.hub.errors import DISK_FULL_ERRNOS, HubDiskFullError, RefusedError, RepoNotFoundError
from bonsai.hub.server import lfs_api, read_api, write_api
from bonsai.hub.server.accounts import Accounts
from bonsai.hub.server.names import RepoKind
from bonsai.hub.server.request import Hub, LoopbackOnlyMiddleware
from bonsai.hub.server.storage import Storage


def create_app(root: Path, users: Mapping[str, str]) -> Starlette:
    """Create the Hub over the storage at `root`, which is created if it is missing.

    Raises:
        BadRequestError: if `users` (token by name) holds an invalid name or token.
    """
    app = Starlette(
        routes=list(_routes()),
        middleware=[Middleware(LoopbackOnlyMiddleware)],
        exception_handlers={
            RefusedError: _refused,
            HTTPException: _not_served,
            ClientDisconnect: _client_disconnected,
            OSError: _disk_full,
            Exception: _internal_error,
        },
    )
    app.state.hub = Hub(storage=Storage(root), accounts=Accounts(users=users))
    return app


def _routes() -> Iterator[BaseRoute]:
    yield Route("/", index)
    yield Route("/api/whoami-v2", read_api.whoami)
    yield Route("/api/validate-yaml", write_api.validate_yaml, methods=["POST"])
    yield Route("/api/repos/create", write_api.create_repo, methods=["POST"])
    yield Route("/api/repos/delete", write_api.delete_repo, methods=["DELETE"])
    yield Route("/api/repos/move", write_api.move_repo, methods=["POST"])
    for kind in RepoKind:
        api = f"/api/{kind.plural}/{{namespace}}/{{name}}"
        yield Route(f"/api/{kind.plural}", read_api.list_repos)
        yield Route(api, read_api.repo_info)
        yield Route(f"{api}/revision/{{revision}}", read_api.repo_info)
        yield Route(f"{api}/auth-check", read_api.auth_check)
        yield Route(f"{api}/auth-check/write", read_api.auth_check)
        yield Route(f"{api}/settings", write_api.settings, methods=["PUT"])
        yield Route(f"{api}/refs", read_api.refs)
        yield Route(f"{api}/commits/{{revision}}", read_api.commits)
        yield Route(f"{api}/tree/{{revision}}", read_api.tree)
        yield Route(f"{api}/tree/{{revision}}/{{path:path}}", read_api.tree)
        yield Route(f"{api}/paths-info/{{revision}}", read_api.paths_info, methods=["POST"])
        yield Route(f"{api}/preupload/{{revision}}", write_api.preupload, methods=["POST"])
        yield Route(f"{api}/commit/{{revision}}", write_api.commit, methods=["POST"])
        yield Route(f"{api}/branch/{{revision}}", write_api.branch, methods=["POST", "DELETE"])
        yield Route(f"{api}/tag/{{revision}}", write_api.tag, methods=["POST", "DELETE"])
        yield Route(f"{api}/super-squash/{{revision}}", write_api.super_squash, methods=["POST"])
        yield Route(f"{api}/xet-write-token/{{revision}}", xet_write_token)
        repo = f"/{kind.url_prefix}{{namespace}}/{{name}}"
        yield Route(f"{repo}/resolve/{{revision}}/{{path:path}}", read_api.resolve)
        yield Route(f"{repo}/raw/{{revision}}/{{path:path}}", read_api.raw)
        yield Route(f"{repo}.git/info/lfs/objects/batch", lfs_api.batch, methods=["POST"])
        yield Route(f"{repo}.git/lfs/verify", lfs_api.verify, methods=["POST"])
        yield Route(f"{repo}.git/lfs/{{oid}}", lfs_api.upload, methods=["PUT"])
        yield Route(f"{repo}.git/lfs/{{oid}}", lfs_api.download)
        # A name without a namespace is one of the Hub's old canonical ones, such as `gpt2`, which this Hub lacks.
        yield Route(f"/api/{kind.plural}/{{name}}", _no_namespace)
        for resource in ("commit", "commits", "paths-info", "preupload", "revision", "tree"):
            address = f"/api/{kind.plural}/{{name}}/{resource}/{{rest:path}}"
            yield Route(address, _no_namespace, methods=["GET", "POST"])
        yield Route(f"/{kind.url_prefix}{{name}}/resolve/{{revision}}/{{path:path}}", _no_namespace)


async def index(request: Request) -> Response:
    """Greet a person who opens the address in a browser."""
    return PlainTextResponse("The local Hub of BONSAI. Set HF_ENDPOINT to this address and use the usual clients.\n")


async def _no_namespace(request: Request) -> Response:
    raise RepoNotFoundError(f"Repository not found: {request.path_params['name']}; name it as namespace/name")


async def xet_write_token(request: Request) -> Response:
    """Refuse Xet. hf_xet shows its user only the last URL of an answer, so the URL is the message."""
    return RedirectResponse("/Xet-is-not-spoken-here--set-HF_HUB_DISABLE_XET=1-before-Python-starts", status_code=307)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise error
    # huggingface_hub chooses its error class by the code, and caches a missing file by the commit.
    headers = {"X-Error-Message": _header_text(error.message)}
    if error.code:
        headers["X-Error-Code"] = error.code
    if error.commit:
        headers["X-Repo-Commit"] = error.commit
    return JSONResponse({"error": error.message}, status_code=error.status, headers=headers)


async def _not_served(request: Request, error: Exception) -> Response:
    """Answer 404 and 405 of the router: without `X-Error-Code`, because no repository is missing."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    reason = f"{request.method} {request.url.path} is not part of this small Hub"
    return JSONResponse({"error": reason}, status_code=status, headers={"X-Error-Message": _header_text(reason)})


async def _disk_full(request: Request, error: Exception) -> Response:
    if not isinstance(error, OSError) or error.errno not in DISK_FULL_ERRNOS | {errno.EFBIG}:
        raise error
    return await _refused(request, HubDiskFullError("the disk of this Hub is full; make room there and try again"))


async def _client_disconnected(request: Request, error: Exception) -> Response:
    """Answer a client that hung up while sending its body, and so never reads this."""
    return Response(status_code=400)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer 500; the traceback goes to the server's log."""
    return JSONResponse({"error": "Internal Error - the server's log says more"}, status_code=500)


def _header_text(message: str) -> str:
    """Escape what does not fit into a header, which is one line of printable ASCII; the body has the full message."""
    return "".join(letter if " " <= letter <= "~" else ascii(letter)[1:-1] for letter in message).strip()
