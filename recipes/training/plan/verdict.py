"""Whether a run fits a GPU, and if not the nearest setting that does, as a change to the recipe that can be typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from bonsai.recipes.training.data import TrainingRows
from bonsai.recipes.training.plan.kernel_time import measured_runs
from bonsai.recipes.training.plan.memory import GIB, WORKSPACE, Setting, held_with_graph, peak
from bonsai.recipes.training.plan.packing import Length, Rows, rows_of
from bonsai.recipes.training.plan.records import lengths
from bonsai.recipes.training.plan.shapes import STANDS_IN_THE_WAY, Shape, UnknownBaseError, base_of
from bonsai.recipes.training.recipe import Recipe, RecipeError

CONTEXT_GIB = 0.5
"""what CUDA and its libraries take beside PyTorch's tensors; assumed, `max_memory_allocated` doesn't count it"""
_STEP = 128
_SMALLER_RANKS = (8, 4)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The fields of a recipe that memory depends on."""

    r: int
    target_modules: tuple[str, ...] | Literal["all-linear"]
    max_length: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    packing: bool
    gradient_checkpointing: bool

    @classmethod
    def of(cls, recipe: Recipe) -> Settings:
        """Those of a recipe."""
        return cls(
            r=recipe.r,
            target_modules=recipe.target_modules,
            max_length=recipe.max_length,
            per_device_train_batch_size=recipe.per_device_train_batch_size,
            gradient_accumulation_steps=recipe.gradient_accumulation_steps,
            packing=recipe.packing,
            gradient_checkpointing=getattr(recipe, "gradient_checkpointing", False),
        )

    def rows(self, records: Sequence[Length]) -> Rows:
        """The rows these records make."""
        return rows_of(records, self.max_length, packing=self.packing, batch=self.per_device_train_batch_size)

    def for_memory(self) -> Setting:
        """As the count of memory wants it."""
        return Setting(
            r=self.r,
            target_modules=self.target_modules,
            accumulates=self.gradient_accumulation_steps > 1,
            checkpointing=self.gradient_checkpointing,
        )


@cache
def slack() -> float:
    """The most that PyTorch's allocator reserved over what was allocated, in the measured runs without a graph."""
    runs = [run for run in measured_runs() if run["variant"] == "+ optimizer"]
    return float(max(run["peak_reserved_gib"] / run["peak_gib"] for run in runs))


def needed_gib(
    shape: Shape, settings: Settings, rows: Rows, *, graph: bool = False, workspace: int = WORKSPACE
) -> float:
    """GiB of GPU memory a run needs: its peak, the allocator's slack and the CUDA context."""
    if graph:
        tensors = held_with_graph(shape, settings.for_memory(), rows, workspace=workspace)
    else:
        tensors = peak(shape, settings.for_memory(), rows, workspace=workspace).bytes
    return tensors / GIB * slack() + CONTEXT_GIB


def nearest_that_fits(
    shape: Shape, settings: Settings, records: Sequence[Length], memory_gib: float
) -> tuple[Settings, float] | None:
    """The first of `_nearer` that fits, and what it needs; None: none does."""
    for changed in _nearer(settings, max(record.whole for record in records)):
        needed = needed_gib(shape, changed, changed.rows(records))
        if needed <= memory_gib:
            return changed, needed
    return None


def _nearer(settings: Settings, longest: int) -> Iterator[Settings]:
    """What changes least first: the same gradient, then shorter rows, then slower steps, then a smaller adapter."""
    batch = settings.per_device_train_batch_size
    one = replace(
        settings,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.gradient_accumulation_steps * batch,
    )
    if batch > 1:
        yield one
    shorter = range((settings.max_length - 1) // _STEP * _STEP, longest - 1, -_STEP)
    ranks = [settings.r, *(rank for rank in _SMALLER_RANKS if rank < settings.r)]
    for r in ranks:
        for checkpointing in sorted({settings.gradient_checkpointing, True}):
            start = replace(one, r=r, gradient_checkpointing=checkpointing)
            yield start
            if settings.packing:
                for max_length in shorter:
                    yield replace(start, max_length=max_length)


def as_typed(settings: Settings, changed: Settings) -> str:
    """The fields that differ, as they are written into a recipe."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "gradient_checkpointing", "r")
    return ", ".join(
        f"{name}={getattr(changed, name)}" for name in names if getattr(changed, name) != getattr(settings, name)
    )


def told(
    name: str, base: str, shape: Shape, settings: Settings, records: Sequence[Length], where: str, memory_gib: float
) -> str | None:
    """The refusal in words, or None: it fits."""
    needed = needed_gib(shape, settings, settings.rows(records))
    if needed <= memory_gib:
        return None
    said = f"{name} ({base}) needs {needed:.1f} GiB of GPU memory and {where} has {memory_gib:.1f}"
    found = nearest_that_fits(shape, settings, records, memory_gib)
    if found is None:
        return (
            f"{said}; no shorter row, smaller rank or checkpointing makes it fit: take a larger GPU or a smaller base"
        )
    changed, then = found
    return (
        f"{said}; the nearest setting that fits: write {as_typed(settings, changed)} into the recipe ({then:.1f} GiB)"
    )


def refuse_if_too_big(name: str, recipe: Recipe, rows: TrainingRows, gpu_memory_bytes: int) -> None:
    """Stop a run before anything is downloaded; a base of unknown sizes is let through.

    Args:
        gpu_memory_bytes: the device's whole memory.

    Raises:
        RecipeError: it can't fit, in the plan's words, or this base can't be trained here at all.
    """
    refuse_impossible(recipe.base_model)
    try:
        base = base_of(recipe.base_model, recipe.base_model_revision)
    except UnknownBaseError:
        return
    records = lengths(rows, base.vocabulary)
    refusal = told(
        name, recipe.base_model, base.shape, Settings.of(recipe), records, "this GPU", gpu_memory_bytes / GIB
    )
    if refusal:
        raise RecipeError(refusal)


def refuse_impossible(base_model: str) -> None:
    """Stop at a base that no setting makes trainable.

    Raises:
        RecipeError: and why.
    """
    reasons = STANDS_IN_THE_WAY.get(base_model)
    if reasons:
        raise RecipeError(f"{base_model} can't be trained here: {'; '.join(reasons)}")
