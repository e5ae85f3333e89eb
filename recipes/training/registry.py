"""Finding recipes: every module directly in `bonsai.recipes` is one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil

import bonsai.recipes
from bonsai.recipes.training.recipe import Recipe, RecipeError

DEFAULT_RECIPE = "seedling"
"""what is trained and asked where nothing is named: it needs no GPU"""


def recipe_names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(bonsai.recipes.__path__) if not module.ispkg)


def load_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        RecipeError: no such recipe; the nearest names are offered.
    """
    if name not in recipe_names():
        near = difflib.get_close_matches(name, recipe_names(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(recipe_names())}"
        raise RecipeError(f"no recipe is called {name!r}; {hint}")
    recipe = importlib.import_module(f"bonsai.recipes.{name}").RECIPE
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"recipes/{name}.py: RECIPE is a {type(recipe).__name__}; it must be a Recipe")
    return recipe
