"""Serves the demo: models opened once, the page guarded, until somebody ends it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import fastapi
import gradio as gr
import uvicorn
from starlette.types import ASGIApp

from bonsai.builder.reader import default_records, read_groups
from bonsai.builder.schema import TextGroup, TranslationGroup
from bonsai.recipes.inference.demo.app import blocks, theme
from bonsai.recipes.inference.demo.compared import Figures
from bonsai.recipes.inference.demo.errors import DemoError
from bonsai.recipes.inference.demo.guard import LOOPBACK, OwnPageOnly, check_listening
from bonsai.recipes.inference.demo.parts import style
from bonsai.recipes.inference.demo.running import Visitors
from bonsai.recipes.inference.generation.engine import Engine
from bonsai.recipes.inference.models.opening import OUT, Models

GRACE = 2
"""seconds that open pages are given at the end; a page listens as long as it is open"""


def application(
    engines: Mapping[str, Engine],
    groups: Sequence[TextGroup | TranslationGroup],
    visitors: Visitors,
    figures: Figures,
    *,
    names: Collection[str] = (),
    behind_proxy: bool = False,
) -> ASGIApp:
    """The page as an ASGI application.

    Args:
        engines: by the name a visitor reads.
        groups: the records to browse.
        visitors: who has something running.
        figures: measures what a visitor had compared.
        names: host names under which others reach it, without port; loopback's own always do.
        behind_proxy: whether a proxy hands on the requests and has looked at the name they were sent to.
    """
    page = fastapi.FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        page,
        blocks(engines, groups, visitors, figures),
        path="/",
        theme=theme(),
        css=style(),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        app_kwargs={"openapi_url": None},
    )
    return OwnPageOnly(page, names={*LOOPBACK, *names}, behind_proxy=behind_proxy)


def serve(
    sources: Sequence[str],
    *,
    figures: Figures,
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
        sources: models as `bonsai.recipes.inference.models.opening.open_model` takes them.
        figures: as in `application`.
        out: where adapters grown here lie.
        records: folder of the records to browse; None: those that came with this installation.
        host: address to listen on; another than loopback needs ``names``.
        port: 0 lets the system choose one.
        names: host names under which others reach it.
        behind_proxy: as in `application`.
        on_ready: told the page's address once it answers.

    Raises:
        DemoError: no model is named, or the page would be open to others without a name.
        GenerationError: a model cannot be opened.
        RecordError: the records cannot be read.
    """
    if not sources:
        raise DemoError("no model is named; name one, such as seedling")
    check_listening(host, names)
    groups = [located.group for located in read_groups(records or default_records())]
    visitors = Visitors()
    with Models(out=out) as models:
        engines = {shown_name(source): models.open(source) for source in sources}
        config = uvicorn.Config(
            application(engines, groups, visitors, figures, names=names, behind_proxy=behind_proxy),
            host=host,
            port=port,
            log_level="warning",
            ws="none",
            timeout_graceful_shutdown=GRACE,
        )
        try:
            _Server(config, on_ready).run()
        finally:
            visitors.stop_all()


def shown_name(source: str) -> str:
    """What visitors read: a folder here is called by its name alone, an address by its model."""
    model = source.partition("#")[2] if source.startswith(("http://", "https://")) else ""
    return model or (Path(source).name if Path(source).exists() else source)


class _Server(uvicorn.Server):
    """Says where it is as soon as it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self._on_ready is not None and self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            name = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self._on_ready(f"http://{name}:{port}/")
