"""Implement `bonsai demo`: serve a page to ask models, follow questions, compare answers and browse records."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from bonsai.builder.errors import DemoError
from bonsai.cli.common import OUT, Out, console, quiet_libraries
from bonsai.cli.hub import ensure_base_models, local_hub_for
from bonsai.hub.target import with_namespace
from bonsai.recipes.training.recipe import DEFAULT_RECIPE, load_recipe, recipe_names


def demo(
    models: Annotated[list[str] | None, typer.Argument(help="As for ask; the first is the default. モデル。")] = None,
    records: Annotated[Path | None, typer.Option(help="Records to browse; else the built-in ones. レコード。")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. 待ち受けるアドレス。")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free port. 0なら空きポート。")] = 7860,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A host name it is reached under; repeatable. ホスト名。")
    ] = None,
    out: Out = OUT,
) -> None:
    """A page: Ask, QtQ, Compare, Browse. ブラウザーで試す。"""
    if importlib.util.find_spec("gradio") is None:
        raise DemoError("the demo needs gradio; install it with: pip install 'qeu-bonsai[demo]'")
    # 1. Which models: a recipe alone brings its base model along, to be compared with.
    sources = list(dict.fromkeys(models or [])) or [DEFAULT_RECIPE]
    recipes = [source for source in sources if source in recipe_names()]
    if sources == recipes[:1]:
        recipe = load_recipe(sources[0])
        sources.append(f"{with_namespace(recipe.base_model)}@{recipe.base_model_revision}")
    quiet_libraries()
    with local_hub_for(recipes, out):
        # gradio takes seconds to import, and the Hub's clients read their settings when they are imported
        from bonsai.recipes.demo.server import serve

        # 2. Serve until Ctrl-C.
        console.print(f"opening {', '.join(sources)} … モデルを開いています")
        ensure_base_models(recipes)
        serve(
            sources, out=out, records=records, host=host, port=port, names=name or [],
            on_ready=lambda url: console.print(f"{url}  (Ctrl-C ends it. Ctrl-Cで終わります。)", soft_wrap=True),
        )  # fmt: skip
