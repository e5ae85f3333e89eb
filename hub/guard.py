"""Who may talk to the Hub at all: programs on this machine, and no web page from elsewhere.

A browser will send requests to 127.0.0.1 for any page that asks (and, with DNS rebinding, even read the answers), so
the `Host` must name this machine and this port, and an `Origin` must be the Hub's own.
"""

from __future__ import annotations

import secrets
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class LoopbackGuard:
    """Refuses strangers, numbers the answers, and routes by the address as it was sent.

    In `/tree/refs%2Fconvert%2Fparquet` the slashes belong to the revision. The clients show the number with
    an error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 403."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        port = (scope.get("server") or ("", 80))[1]
        hosts = {f"{name}:{port}" for name in LOOPBACK_NAMES} | (set(LOOPBACK_NAMES) if port == 80 else set())
        origin = headers.get("origin")
        if headers.get("host", "").casefold() not in hosts:
            await _refuse("the Host header must name this machine and this port", scope, receive, send)
        elif origin is not None and origin.casefold() not in {f"http://{host}" for host in hosts}:
            await _refuse(f"pages from {origin!r} may not use this Hub", scope, receive, send)
        else:
            request_id = secrets.token_hex(8).encode()

            async def send_numbered(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id)]
                await send(message)

            raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
            sent = {"path": raw_path.decode("ascii", errors="replace"), "query_string": _ascii(scope["query_string"])}
            await self._app({**scope, **sent}, receive, send_numbered)


def _ascii(query: bytes) -> bytes:
    """What is not ASCII has no place in an address; starlette would stumble over what is not even UTF-8."""
    return query.decode("ascii", errors="replace").encode("ascii", errors="replace")


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"X-Error-Message": reason.encode("ascii", errors="replace").decode()}
    await JSONResponse({"error": reason}, status_code=403, headers=headers)(scope, receive, send)
