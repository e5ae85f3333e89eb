"""Which of several training processes this is; `accelerate launch` starts one for each GPU and sets these variables."""

from __future__ import annotations

import os

from bonsai.recipes.training.recipe import Recipe


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process speaks and writes; the others only compute."""
    return int(os.environ.get("RANK", "0")) == 0


def local_rank() -> int:
    """The number of this process's GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def accumulation_steps(recipe: Recipe, processes: int | None = None) -> int:
    """Micro-batches a process adds up: a step learns from as many records as on one GPU, as far as it divides.

    Args:
        processes: as many as train together; None: those that do now.
    """
    return max(1, recipe.gradient_accumulation_steps // (processes or world_size()))
