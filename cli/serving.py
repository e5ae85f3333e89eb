"""The Hub that a command's recipes meet while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bonsai.hub.client.destination import check_cache, local_hub
from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.registry import load_recipe

if TYPE_CHECKING:
    from bonsai.hub.client.push import Pushed


@contextlib.contextmanager
def hub_for(recipes: Sequence[str], out: Path) -> Iterator[None]:
    """Serve the Hub on this machine for as long as the block lasts if the recipes' bases come in packages.

    One Hub for all that happens inside: the clients read its address once, when they are imported.

    Raises:
        RecipeError: some bases come in packages and some from the real Hub, and one process can't ask two Hubs.
    """
    packaged = {load_recipe(name).base_model_package is not None for name in recipes}
    if len(packaged) > 1:
        raise RecipeError(f"{', '.join(recipes)}: their base models lie on two Hubs; give each recipe its own command")
    if packaged != {True}:
        if recipes:
            check_cache()
        yield
        return
    with local_hub(out / "hub") as home:
        home.settle(out / "cache")
        yield


def ensure_bases(recipes: Sequence[str]) -> list[Pushed]:
    """Put the recipes' bases that come in packages on the Hub of this machine, inside `hub_for`.

    Returns:
        Those that were not there yet.

    Raises:
        RecipeError: a package that carries a base is not installed.
    """
    packaged = [recipe for recipe in map(load_recipe, recipes) if recipe.base_model_package is not None]
    if not packaged:
        return []
    from huggingface_hub import HfApi

    from bonsai.recipes.training.base_model import ensure_on_hub

    return [pushed for recipe in packaged if (pushed := ensure_on_hub(recipe, HfApi()))]
