"""Serve the Hub on this machine: the `bonsai hub` command, and the Hub that other commands open for themselves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bonsai.cli.common import OUT, Out
from bonsai.hub.target import check_cache, local_hub, namespace
from bonsai.recipes.training.recipe import RecipeError, load_recipe

if TYPE_CHECKING:
    from bonsai.hub.publish import PublishResult


def hub(
    port: Annotated[int, typer.Option(help="0: any free port. 0なら空きポート。")] = 8420,
    user: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A user, token local-NAME; repeatable. ユーザー（トークンはlocal-NAME）。"),
    ] = None,
    out: Out = OUT,
) -> None:
    """Serve the Hub on this machine until Ctrl-C. この端末のHubを開く。"""
    from bonsai.hub.server.accounts import USERS
    from bonsai.hub.server.serve import main as serve

    users = user or ([] if os.environ.get(USERS) else [namespace()])
    raise SystemExit(
        serve(["--root", str(out / "hub"), "--port", str(port), *(part for name in users for part in ("--user", name))])
    )


@contextlib.contextmanager
def local_hub_for(recipes: Sequence[str], out: Path) -> Iterator[None]:
    """Serve the Hub on this machine for the duration of the block if the recipes' base models come in packages.

    One Hub serves the whole block: the clients read its address once, when they are imported.

    Raises:
        RecipeError: some bases come in packages and some from the real Hub, and one process can't ask two Hubs.
    """
    from_package = {load_recipe(name).base_model_package is not None for name in recipes}
    if len(from_package) > 1:
        raise RecipeError(f"{', '.join(recipes)}: their base models are on two Hubs; give each recipe its own command")
    if from_package != {True}:
        if recipes:
            check_cache()
        yield
        return
    with local_hub(out / "hub") as target:
        target.settle(out / "cache")
        yield


def ensure_base_models(recipes: Sequence[str]) -> list[PublishResult]:
    """Put the recipes' base models that come in packages on the Hub of this machine, inside `local_hub_for`.

    Returns:
        Those that were not there yet.

    Raises:
        RecipeError: a package that carries a base is not installed.
    """
    packaged = [recipe for recipe in map(load_recipe, recipes) if recipe.base_model_package is not None]
    if not packaged:
        return []
    from huggingface_hub import HfApi

    from bonsai.recipes.training.gguf import publish_packaged_base

    return [result for recipe in packaged if (result := publish_packaged_base(recipe, HfApi()))]
