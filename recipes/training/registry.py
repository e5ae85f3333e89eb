"""Finding recipes: a module directly in `bonsai.recipes`, in the checkout's folder ``recipes``, or in ``./recipes``.

An editable installation links the files there were when it was made; a recipe written since lies in the checkout alone.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import re
import traceback
from pathlib import Path
from types import ModuleType

import bonsai.recipes
from bonsai.recipes.training.recipe import Recipe, RecipeError, RecipeFieldError, nearest

HOME = Path(__file__).resolve().parents[1]
"""the checkout's folder ``recipes``, or the installed package"""
_FIELDS = [field.name for field in dataclasses.fields(Recipe)]

DEFAULT_RECIPE = "seedling"
"""what is trained and asked where nothing is named: it needs no GPU"""


def recipe_names() -> list[str]:
    """The names of all recipes, sorted; a module that never says RECIPE is none."""
    return sorted(name for name, (path, *_) in _modules().items() if "RECIPE" in path.read_text("utf-8", "replace"))


def load_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        RecipeError: no such recipe (the nearest names are offered), or its module cannot be read; with file and line.
    """
    modules = _modules()
    if name not in modules:
        names = recipe_names()
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        places = " or ".join(dict.fromkeys(map(_short, (HOME, Path("recipes")))))
        raise RecipeError(f"no recipe is called {name!r}{hint}; a recipe is a file NAME.py in {places}")
    path, *others = modules[name]
    for other in others:
        if other.read_bytes() != path.read_bytes():
            raise RecipeError(f"two recipes are called {name!r}, {path} and {other}, and they differ; rename one")
    module = _imported(name, path)
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        got = f"RECIPE is a {type(recipe).__name__}" if hasattr(module, "RECIPE") else "it defines no RECIPE"
        raise RecipeError(f"{_short(path)}: {got}; write RECIPE = Recipe(…), as in recipes/seedling.py")
    return recipe


def _folders() -> list[Path]:
    """Where recipes lie: the installed package, its checkout, the working directory."""
    places = [*map(Path, bonsai.recipes.__path__), HOME, Path.cwd() / "recipes"]
    return list(dict.fromkeys(places))


def _modules() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.py")):
            if path.stem.isidentifier() and not path.stem.startswith("_") and path.is_file():
                found.setdefault(path.stem, []).append(path)
    return found


def _imported(name: str, path: Path) -> ModuleType:
    known = f"bonsai.recipes.{name}"
    try:
        if str(path.parent) in bonsai.recipes.__path__:
            return importlib.import_module(known)
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None  # of a .py there always is one
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except Exception as error:  # a recipe is a person's code, and may raise whatever it likes
        raise RecipeError(_sentence(path, error)) from error


def _sentence(path: Path, error: Exception) -> str:
    """What is wrong with a recipe, with its file and line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    line = lines[-1] if lines else None
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        line, message = error.lineno, f"not Python: {error.msg}"
    elif isinstance(error, RecipeFieldError):
        line, message = _line_of(path, error.field) or line, str(error)
    elif isinstance(error, RecipeError):
        message = str(error)
    elif isinstance(error, TypeError) and (unknown := re.search(r"unexpected keyword argument '(\w+)'", str(error))):
        line = _line_of(path, unknown[1]) or line
        message = f"a Recipe has no field {unknown[1]!r}" + (
            nearest(unknown[1], _FIELDS) or f"; it has {', '.join(_FIELDS)}"
        )
    elif isinstance(error, TypeError) and (missing := re.search(r"missing .* arguments?: (.*)", str(error))):
        message = f"the Recipe lacks {missing[1]}; every recipe has to say it"
    elif isinstance(error, ImportError):
        message = f"{error}; a recipe needs `from bonsai.recipes.training.recipe import Recipe` and nothing else"
    return f"{_short(path)}{f':{line}' if line else ''}: {message}"


def _line_of(path: Path, field: str) -> int | None:
    """Where a recipe gives this field."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    given = (word for call in ast.walk(tree) if isinstance(call, ast.Call) for word in call.keywords)
    return next((word.value.lineno for word in given if word.arg == field), None)


def _short(path: Path) -> str:
    """As a person in the working directory would name it; the checkout's file for what is linked to it."""
    path = path.resolve()
    return f"{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else str(path)
