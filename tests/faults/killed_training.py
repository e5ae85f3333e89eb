"""A training killed (kill -9): that a rerun ends in the same losses and bytes as one left in peace."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bonsai.recipes.training.checkpoints import find_latest_valid_checkpoint
from bonsai.recipes.training.run_record import read_record
from tests.faults.killed_work import forked

Train = Callable[[Path], object]
"""trains into ``adapter`` of a working directory, going on from a checkpoint in its ``checkpoints``"""


class Trained(NamedTuple):
    """What must be the same to the last bit."""

    adapter: str
    """sha256 of the weights"""
    losses: tuple[float, ...]
    """of every step, in nats a token"""


@dataclass(frozen=True, kw_only=True)
class Killed:
    """One kill and what the rerun made of it."""

    seconds: float
    """from the start of the training to the kill"""
    left: str
    """``no checkpoint``, ``a checkpoint`` or ``the adapter``"""
    step: int
    """of the newest whole checkpoint, from which the rerun went on; 0: from the start"""
    next_step_loss: float | None
    """of the rerun, in nats a token; None: no step was left"""
    wrong: str | None
    """what was not as in a run left in peace"""


def trained(place: Path) -> Trained:
    """What the training in this working directory ended in."""
    weights = (place / "adapter" / "adapter_model.safetensors").read_bytes()
    return Trained(
        adapter=hashlib.sha256(weights).hexdigest(),
        losses=tuple(point.loss for point in read_record(place / "adapter").losses),
    )


def kill_and_rerun(train: Train, place: Path, wanted: Trained, *, kill_after: float) -> Killed:
    """Kill a training in ``place`` after so many seconds, run it again, and compare; the folder is removed."""
    forked(lambda: train(place), kill_after=kill_after)
    wrong, found = None, find_latest_valid_checkpoint(place / "checkpoints")
    left = "a checkpoint" if found else "no checkpoint"
    if (place / "adapter").exists():
        left = "the adapter"
        if trained(place) != wanted:
            wrong = "the adapter that the kill left"
    step = found.step if found else 0
    loss = None
    if not forked(lambda: train(place)):
        wrong = wrong or "the rerun did not end"
    else:
        rerun = trained(place)
        loss = rerun.losses[step] if step < len(rerun.losses) else None
        wrong = wrong or _difference(rerun, wanted, step)
    shutil.rmtree(place)
    return Killed(seconds=kill_after, left=left, step=step, next_step_loss=loss, wrong=wrong)


def _difference(rerun: Trained, wanted: Trained, step: int) -> str | None:
    if rerun.losses[step : step + 1] != wanted.losses[step : step + 1]:
        return "the loss of the next step"
    if rerun.losses != wanted.losses:
        return "the losses"
    return None if rerun.adapter == wanted.adapter else "the adapter's bytes"
