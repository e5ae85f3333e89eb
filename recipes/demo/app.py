"""Build the demo page: tabs, language switch and theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from bonsai.builder.assets import load_table
from bonsai.builder.schema import TextGroup, TranslationGroup
from bonsai.recipes.demo.background import WAITING, ActiveRuns
from bonsai.recipes.demo.components import DemoContext, render
from bonsai.recipes.demo.tabs import ask_tab, browse_tab, compare_tab, qtq_tab
from bonsai.recipes.inference.generation import Engine
from bonsai.recipes.inference.labels import demo_labels

FILE_AGE = 3600
"""seconds until a file offered for download is deleted"""


def build_app(
    engines: Mapping[str, Engine], groups: Sequence[TextGroup | TranslationGroup], visitors: ActiveRuns
) -> gr.Blocks:
    """Build the page.

    Args:
        engines: by the name a visitor reads, at least one; the first is asked unless another is chosen.
        groups: the records to browse.
        visitors: the runs of the visitors, so that leaving stops them.
    """
    page = gr.Blocks(title="BONSAI 盆栽", analytics_enabled=False, delete_cache=(FILE_AGE, FILE_AGE), fill_width=True)
    with page:
        # 1. The head.
        with gr.Row(elem_id="bonsai-head"):
            gr.HTML('<h1 class="bonsai-title"><span lang="ja">盆栽</span> BONSAI</h1>')
            ui_language = gr.Radio(
                [("日本語", "ja"), ("English", "en")], value="ja", show_label=False, container=False, elem_id="tongue"
            )
        context = DemoContext(engines=engines, visitors=visitors, page=page, ui_language=ui_language)
        context.add(gr.HTML, {"value": lambda labels: render("notice", labels.welcome)})
        # 2. The tabs.
        builders: dict[str, Callable[[DemoContext], None]] = {
            "ask": ask_tab,
            "qtq": qtq_tab,
            "compare": compare_tab,
            "browse": partial(browse_tab, groups=groups),
        }
        with gr.Tabs():
            for name, build in builders.items():
                with context.add(gr.Tab, {"label": name}, id=name):
                    build(context)

        # 3. The language: that of the browser at first, then the one chosen.
        def relabel(chosen: str) -> list[Any]:
            return [one.update(demo_labels(chosen)) for one in context.localized]

        def preferred_language(request: gr.Request) -> str:
            """Choose Japanese for a browser that prefers it, English for all others."""
            preferred = request.headers.get("accept-language", "ja").strip().lower()
            return "ja" if preferred.startswith("ja") else "en"

        quietly: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        ui_language.change(relabel, ui_language, [one.component for one in context.localized], **quietly)
        page.load(preferred_language, None, ui_language, **quietly)
        page.unload(context.stop)
    page.queue(max_size=WAITING, api_open=False)
    return page


def theme() -> gr.themes.Base:
    """Return the theme of ``theme.toml``."""
    table = load_table(__package__, "theme.toml")
    made = gr.themes.Base(
        primary_hue=gr.themes.Color(*table["pine"]),
        neutral_hue=gr.themes.colors.stone,
        font=table["font"],
        font_mono=table["font_mono"],
    )
    return made.set(**table["set"])
