"""Who may talk to the page: its own origin, under its own name, with small requests.

A page elsewhere could otherwise let its visitor's browser ask the model here (by a forged origin, or by a name that is
made to point at this machine, "DNS rebinding").
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonsai.recipes.inference.demo.errors import DemoError
from bonsai.recipes.inference.demo.limits import MOST_BYTES

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""gradio writes scripts and styles into the page itself; from elsewhere nothing is loaded"""


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""names under which only this machine reaches itself"""


def check_listening(host: str, names: Collection[str]) -> None:
    """Whether it is said who may come.

    Raises:
        DemoError: other machines could reach the page, and no name for it is given.
    """
    if host not in LOOPBACK and not names:
        raise DemoError(f"{host} is open to other machines; say under which names they reach this page (--name)")


class OwnPageOnly:
    """ASGI middleware around a page with these names (hosts without port).

    Behind a proxy the name a request was sent to is the proxy's affair; the origin is looked at all the same.
    """

    def __init__(self, app: ASGIApp, *, names: Collection[str], behind_proxy: bool) -> None:
        self._app = app
        self._names = names
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what may not pass, hand on the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                sent["Content-Security-Policy"] = POLICY
                sent["X-Content-Type-Options"] = "nosniff"
                sent["Referrer-Policy"] = "same-origin"
            await send(message)

        await self._app(scope, receive, with_policy)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if not self._behind_proxy and _hostname(f"//{host}") not in self._names:
            return PlainTextResponse("This page has another name.\n", 421)
        origin = headers.get("origin")
        if origin is not None:
            own = _hostname(origin) in self._names if self._behind_proxy else origin.partition("://")[2] == host
            if not own:
                return PlainTextResponse("Only this page itself may ask.\n", 403)
        if method in ("POST", "PUT", "PATCH"):
            length = headers.get("content-length", "")
            if not length.isdigit():
                return PlainTextResponse("Say how long the request is.\n", 411)
            if int(length) > MOST_BYTES:
                return PlainTextResponse(f"More than {MOST_BYTES} bytes.\n", 413)
        return None


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # such as a bracket that nothing closes
        return ""
