"""Serve the demo, to requests from its own origin only.

Otherwise a page elsewhere could make its visitor's browser ask the model here, by a cross-site request or through a
name that is made to resolve to this machine ("DNS rebinding").
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import fastapi
import gradio as gr
import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonsai.builder.assets import load_text
from bonsai.builder.errors import DemoError
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import TextGroup, TranslationGroup
from bonsai.recipes.demo.app import build_app, theme
from bonsai.recipes.demo.background import MOST_BYTES, ActiveRuns
from bonsai.recipes.inference.generation import Engine
from bonsai.recipes.inference.models import OUT, ModelPool

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""gradio writes scripts and styles into the page itself; from elsewhere nothing is loaded"""


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""names that only this machine can use for itself"""


def check_host(host: str, names: Collection[str]) -> None:
    """Refuse to listen to other machines unless a name for the page is given.

    Raises:
        DemoError: other machines could reach the page, and no name for it is given.
    """
    if host not in LOOPBACK and not names:
        raise DemoError(f"{host} is open to other machines; say under which names they reach this page (--name)")


class SameOriginMiddleware:
    """Refuse requests from other origins; ASGI middleware around a page with these names (hosts without port).

    Behind a proxy it is the proxy that checks the host name; the origin is checked here all the same.
    """

    def __init__(self, app: ASGIApp, *, names: Collection[str], behind_proxy: bool) -> None:
        self._app = app
        self._names = names
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may not pass, hand on the rest."""
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


SHUTDOWN_SECONDS = 2
"""seconds until open pages are cut off at the end; a page keeps its connection as long as it is open"""


def application(
    engines: Mapping[str, Engine],
    groups: Sequence[TextGroup | TranslationGroup],
    visitors: ActiveRuns,
    *,
    names: Collection[str] = (),
    behind_proxy: bool = False,
) -> ASGIApp:
    """Build the page as an ASGI application.

    Args:
        engines: by the name a visitor reads.
        groups: the records to browse.
        visitors: the runs of the visitors.
        names: host names under which others reach it, without port; loopback's own always do.
        behind_proxy: whether a proxy hands on the requests and has looked at the name they were sent to.
    """
    page = fastapi.FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        page,
        build_app(engines, groups, visitors),
        path="/",
        theme=theme(),
        css=load_text(__package__, "demo.css"),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        app_kwargs={"openapi_url": None},
    )
    return SameOriginMiddleware(page, names={*LOOPBACK, *names}, behind_proxy=behind_proxy)


def serve(
    sources: Sequence[str],
    *,
    out: Path = OUT,
    records: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    names: Collection[str] = (),
    behind_proxy: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Open the models and serve until interrupted.

    Args:
        sources: models as `bonsai.recipes.inference.models.open_model` takes them.
        out: where adapters trained here are.
        records: folder of the records to browse; None: those that came with this installation.
        host: address to listen on; another than loopback needs ``names``.
        port: 0 lets the system choose one.
        names: host names under which others reach it.
        behind_proxy: as in `application`.
        on_ready: called with the page's address once it answers.

    Raises:
        DemoError: no model is named, the page would be open to others without a name, or the port cannot be used.
        GenerationError: a model cannot be opened.
        RecordError: the records cannot be read.
    """
    # 1. Refuse what can't be served before a model is opened.
    if not sources:
        raise DemoError("no model is named; name one, such as seedling")
    check_host(host, names)
    groups = [located.group for located in read_groups(records or default_records_dir())]
    try:  # opening models takes minutes: a port that is taken is to be known before
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DemoError(
            f"port {port} of {host} cannot be used ({reason}); stop the other program, or choose another port with "
            "--port, or --port 0 for a free one"
        ) from error
    # 2. Open the models, and serve until interrupted; then nobody's run holds up the end.
    visitors = ActiveRuns()
    with listening, ModelPool(out=out) as models:
        engines = {shown_name(source): models.open(source) for source in sources}
        config = uvicorn.Config(
            application(engines, groups, visitors, names=names, behind_proxy=behind_proxy),
            host=host,
            port=port,
            log_level="warning",
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        try:
            ReportingServer(config, on_ready).run([listening])
        finally:
            visitors.stop_all()


def shown_name(source: str) -> str:
    """Shorten a source to what visitors read: a folder to its name, an address to its model."""
    model = source.partition("#")[2] if source.startswith(("http://", "https://")) else ""
    return model or (Path(source).name if Path(source).exists() else source)


class ReportingServer(uvicorn.Server):
    """A server that reports its address as soon as it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Listen, then report the port, which the system may have chosen."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self._on_ready is not None and self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            name = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self._on_ready(f"http://{name}:{port}/")
