"""Implement `bonsai demo`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bonsai.builder.errors import DemoError
from bonsai.cli.common import ensure_base_models, local_hub_for, quiet_libraries
from bonsai.hub.target import with_namespace
from bonsai.recipes.training.recipe import DEFAULT_RECIPE, load_recipe, recipe_names

PORT = 7860


def demo(
    models: Sequence[str],
    *,
    out: Path,
    console: Console,
    records: Path | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    names: Sequence[str] = (),
) -> None:
    """Serve the demo until Ctrl-C.

    Args:
        models: as `bonsai ask` takes them, none: seedling; the first is asked unless a visitor chooses another. A
            recipe alone brings its base model along, to be compared with.
        out: where adapters were grown.
        records: folder of the records to browse; None: those of this installation.
        host: address to listen on.
        port: 0: any that is free.
        names: host names under which other machines reach it; needed if ``host`` is not loopback.

    Raises:
        DemoError: gradio is not installed, or others could reach the page and no name is given.
        GenerationError: a model cannot be opened.
        RecipeError: a package that carries a base is not installed.
        RecordError: the records cannot be read.
    """
    if importlib.util.find_spec("gradio") is None:
        raise DemoError("the demo needs gradio; install it with: pip install 'qeu-bonsai[demo]'")
    wanted = list(dict.fromkeys(models)) or [DEFAULT_RECIPE]
    recipes = [name for name in wanted if name in recipe_names()]
    if wanted == recipes[:1]:
        recipe = load_recipe(wanted[0])
        wanted.append(f"{with_namespace(recipe.base_model)}@{recipe.base_model_revision}")
    quiet_libraries()
    with local_hub_for(recipes, out):
        # gradio takes seconds to import, and the Hub's clients read their settings when they are imported
        from bonsai.recipes.demo.server import serve
        from bonsai.recipes.evaluation.comparison.report import render_figures

        console.print(f"opening {', '.join(wanted)} … モデルを開いています")
        ensure_base_models(recipes)
        serve(
            wanted,
            figures=render_figures,
            out=out,
            records=records,
            host=host,
            port=port,
            names=names,
            on_ready=lambda address: console.print(
                f"{address}  (Ctrl-C ends it. Ctrl-Cで終わります。)", soft_wrap=True
            ),
        )
