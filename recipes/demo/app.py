"""Build the demo page: tabs, language switch and theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from bonsai.builder.schema import TextGroup, TranslationGroup
from bonsai.recipes.demo import render
from bonsai.recipes.demo.background import WAITING, ActiveRuns
from bonsai.recipes.demo.components import DemoContext, LocalizedComponent
from bonsai.recipes.demo.tabs import ask_tab, browse_tab, compare_tab, qtq_tab
from bonsai.recipes.evaluation.comparison.report import Figures
from bonsai.recipes.inference.generation import Engine
from bonsai.recipes.inference.labels import DEMO_JA, DemoLabels, demo_labels

FILE_AGE = 3600
"""seconds until a file offered for download is deleted"""


def build_app(
    engines: Mapping[str, Engine],
    groups: Sequence[TextGroup | TranslationGroup],
    visitors: ActiveRuns,
    figures: Figures,
) -> gr.Blocks:
    """Build the page.

    Args:
        engines: by the name a visitor reads, at least one; the first is asked unless another is chosen.
        groups: the records to browse.
        visitors: the runs of the visitors, so that leaving stops them.
        figures: renders the measures of a visitor's comparison.
    """
    page = gr.Blocks(title="BONSAI 盆栽", analytics_enabled=False, delete_cache=(FILE_AGE, FILE_AGE), fill_width=True)
    with page:
        # 1. The head.
        with gr.Row(elem_id="bonsai-head"):
            gr.HTML('<h1 class="bonsai-title"><span lang="ja">盆栽</span> BONSAI</h1>')
            ui_language = gr.Radio(
                [("日本語", "ja"), ("English", "en")], value="ja", show_label=False, container=False, elem_id="tongue"
            )
        welcome = gr.HTML(render.render_notice(DEMO_JA.welcome))
        context = DemoContext(engines=engines, visitors=visitors, page=page, ui_language=ui_language, figures=figures)
        labelled = [LocalizedComponent(welcome, lambda new: gr.update(value=render.render_notice(new.welcome)))]
        # 2. The tabs.
        with gr.Tabs():
            browse = partial(browse_tab, groups=groups)
            builders: dict[str, Callable[[DemoContext], list[LocalizedComponent]]] = {
                "ask": ask_tab,
                "qtq": qtq_tab,
                "compare": compare_tab,
                "browse": browse,
            }
            for name, build in builders.items():
                with gr.Tab(getattr(DEMO_JA, name), id=name) as tab:
                    labelled += build(context)
                labelled.append(LocalizedComponent(tab, partial(_tab_label, name)))

        # 3. The language: that of the browser at first, then the one chosen.
        def relabel(chosen: str) -> list[Any]:
            return [one.update(demo_labels(chosen)) for one in labelled]

        def preferred_language(request: gr.Request) -> str:
            """Choose Japanese for a browser that prefers it, English for all others."""
            preferred = request.headers.get("accept-language", "ja").strip().lower()
            return "ja" if preferred.startswith("ja") else "en"

        ui_language.change(
            relabel,
            ui_language,
            [one.component for one in labelled],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        page.load(preferred_language, None, ui_language, queue=False, show_progress="hidden", api_visibility="private")
        page.unload(context.stop)
    page.queue(max_size=WAITING, api_open=False)
    return page


def _tab_label(name: str, labels: DemoLabels) -> Any:
    return gr.update(label=getattr(labels, name))


def theme() -> gr.themes.Base:
    """Return the theme: pine on paper, in the visitor's own fonts, so that nothing is fetched from elsewhere."""
    pine = gr.themes.Color(
        "#f0f7f3", "#dcede4", "#badbca", "#8fc3a9", "#5fa683", "#3f8a67", "#2c6e54", "#265b47", "#20493a", "#1b3c31",
        "#0f241d",
    )  # fmt: skip
    letters = ["system-ui", "Hiragino Sans", "Noto Sans JP", "Noto Sans CJK JP", "Yu Gothic UI", "sans-serif"]
    made = gr.themes.Base(
        primary_hue=pine, neutral_hue=gr.themes.colors.stone, font=letters, font_mono=["ui-monospace", "monospace"]
    )
    return made.set(
        body_background_fill="#f6f3ea",
        body_background_fill_dark="#151a17",
        body_text_color="#26302b",
        body_text_color_dark="#e7eae4",
        body_text_color_subdued="#5f6b64",
        body_text_color_subdued_dark="#a3aea7",
        background_fill_secondary="#efe8d8",
        background_fill_secondary_dark="#262e29",
        block_background_fill="#fffdf8",
        block_background_fill_dark="#1d2420",
        block_radius="*radius_lg",
        border_color_primary="#ddd7c8",
        border_color_primary_dark="#353f39",
        input_background_fill="#fffdf8",
        input_background_fill_dark="#151a17",
        input_border_width="1px",
        input_radius="*radius_md",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
        button_secondary_background_fill="#efe8d8",
        button_secondary_background_fill_dark="#2b342f",
        button_secondary_background_fill_hover="#e4dbc6",
        button_secondary_background_fill_hover_dark="#35403a",
        checkbox_label_background_fill="#efe8d8",
        checkbox_label_background_fill_dark="#2b342f",
        checkbox_label_background_fill_hover="#e4dbc6",
        checkbox_label_background_fill_hover_dark="#35403a",
    )
