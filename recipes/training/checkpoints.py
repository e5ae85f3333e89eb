"""Save checkpoints by time, seal them with hashes, find the newest complete one, and keep unfinished runs aside.

A checkpoint is Transformers' own (adapter, optimizer, scheduler, random states, position in the data) with a manifest
of hashes, written last. One without a manifest, or with a file that differs from it, is damaged, and the one before it
is used; `transformers.trainer_utils.get_last_checkpoint` would take it. Transformers saves every so many steps, however
long they take; saving by time bounds what an interrupted run loses.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bonsai.builder.files import atomic_write_text
from bonsai.recipes.training.recipe import Recipe, RecipeError

MANIFEST = "bonsai.json"
SAVE_TOTAL_LIMIT = 2
"""checkpoints on disk at a time: the newest and, in case it is damaged, the one before"""
KEPT_ASIDE = 2
"""unfinished runs of a recipe that are kept aside at a time"""
_ASIDE = re.compile(r"-step\d+-(?P<since>\d{8}-\d{6})")
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""Ctrl-C, a runtime that shuts down, a terminal that is closed, and Ctrl-Break on Windows"""


class TrainingInterruptedError(RecipeError):
    """Training was interrupted by one of `SIGNALS`, after saving what it had."""


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """State of a run that Transformers does not store."""

    identity: str
    """`run_fingerprint`: a checkpoint of another run is not resumed"""
    validation_loss_before: float
    seconds: float
    """spent in the training loop so far"""


@dataclass(frozen=True, kw_only=True)
class ResumableCheckpoint:
    """A complete checkpoint, and the damaged newer ones that were skipped."""

    path: Path
    step: int
    progress: RunProgress
    damaged: tuple[Path, ...]


def run_fingerprint(
    recipe: Recipe, dataset_hash: str, base_commit: str, max_steps: int | None, *, with_engine: bool = True
) -> str:
    """Hash everything that determines a run's steps: only a checkpoint with the same hash may be resumed."""
    engine = [] if with_engine else ["no engine"]  # the engine's optimizer state has another layout
    inputs = json.dumps([asdict(recipe), dataset_hash, base_commit, max_steps, *engine], sort_keys=True)
    return hashlib.sha256(inputs.encode()).hexdigest()


def find_latest_valid_checkpoint(folder: Path) -> ResumableCheckpoint | None:
    """Find the newest checkpoint whose files all match its manifest; None: there is none."""
    damaged: list[Path] = []
    for step, path in sorted(((int(p.name.rpartition("-")[2]), p) for p in folder.glob("checkpoint-*")), reverse=True):
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if all(_sha256(path / name) == digest for name, digest in manifest["files"].items()):
                progress = RunProgress(**manifest["progress"])
                return ResumableCheckpoint(path=path, step=step, progress=progress, damaged=tuple(damaged))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no manifest, a torn one, or a file is missing
        damaged.append(path)
    return None


def write_manifest(path: Path, progress: RunProgress) -> None:
    """Seal a checkpoint: from now on it counts as complete."""
    files = {
        file.relative_to(path).as_posix(): _sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    atomic_write_text(path / MANIFEST, json.dumps({"progress": asdict(progress), "files": files}))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(folder: Path, found: ResumableCheckpoint) -> Path:
    """Move the checkpoints of an unfinished run out of the way, to ``<folder>-step<N>-<date>-<time>``."""
    while (target := folder.with_name(f"{folder.name}-step{found.step}-{time.strftime('%Y%m%d-%H%M%S')}")).exists():
        time.sleep(0.1)  # until the next second
    os.rename(folder, target)
    return target


def drop_oldest(folder: Path) -> list[Path]:
    """Remove all but the newest ``KEPT_ASIDE`` runs that were kept aside, and return what was removed."""
    removed = kept_aside(folder)[KEPT_ASIDE:]
    for old in removed:
        shutil.rmtree(old)
    return removed


def kept_aside(folder: Path) -> list[Path]:
    """List what `set_aside` moved out of the way of ``folder``, the newest first."""
    dated = [
        (match["since"], path)
        for path in folder.parent.glob("*-step*-*")
        if path.name.startswith(folder.name) and (match := _ASIDE.fullmatch(path.name.removeprefix(folder.name)))
    ]
    return [path for _, path in sorted(dated, reverse=True)]


def take_back(folder: Path, identity: str) -> tuple[Path, ResumableCheckpoint] | None:
    """Move a run that was kept aside back into ``folder`` if it is this run and got further than what is there.

    Runs of one identity take the same steps to the last bit, so the shorter one holds nothing that the longer lacks.

    Returns:
        Where it was kept, and its checkpoint; None: none got further.
    """
    here = find_latest_valid_checkpoint(folder)
    same = here is not None and here.progress.identity == identity
    further = [
        (found.step, aside)
        for aside in kept_aside(folder)
        if (found := find_latest_valid_checkpoint(aside)) is not None
        and found.progress.identity == identity
        and not (same and here and found.step <= here.step)
    ]
    if not further:
        return None
    _, aside = max(further)
    if here is not None and not same:
        set_aside(folder, here)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(aside, folder)
    back = find_latest_valid_checkpoint(folder)
    return None if back is None else (aside, back)


class InterruptHandler:
    """Handle `SIGNALS`: in the training loop, finish the step and save; elsewhere, stop at once.

    A KeyboardInterrupt that some library swallowed while the model was loading is raised again when the loop starts.
    """

    def __init__(self) -> None:
        self.stop_requested = False
        self.in_loop = False

    @contextmanager
    def install(self) -> Iterator[None]:
        """Handle the signals within the block; one that is ignored (`nohup`) stays ignored."""
        terminals = [number for number in (1, 2) if os.isatty(number)]

        def handle(number: int, frame: FrameType | None) -> None:
            if number == getattr(signal, "SIGHUP", None):  # the terminal is gone: writing to it would end the run
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for terminal in terminals:
                    os.dup2(nowhere, terminal)
                if self.stop_requested and self.in_loop:  # shell and kernel both signal that the terminal was closed
                    return
            at_once = self.stop_requested or not self.in_loop
            self.stop_requested = True
            if at_once:
                raise KeyboardInterrupt

        handled = [
            number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
        ]
        before = {number: signal.signal(number, handle) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def enter_loop(self) -> None:
        """Let a first signal wait for the end of the step from now on; a second one still stops at once."""
        if self.stop_requested:
            raise KeyboardInterrupt
        self.in_loop = True


class TimedCheckpointCallback(TrainerCallback):
    """Save every ``every_seconds`` and when the run is interrupted, and seal each checkpoint."""

    def __init__(self, *, every_seconds: float, progress: RunProgress, stopping: InterruptHandler) -> None:
        self._stopping = stopping
        self._every = every_seconds
        self._before = progress
        self._started = self._last = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds spent in the training loop, including those before a resume."""
        return self._before.seconds + time.monotonic() - self._started

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._stopping.enter_loop()
        self._started = self._last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Request a checkpoint when it is time, or before stopping."""
        if self._stopping.stop_requested:
            control.should_training_stop = True
        if self._stopping.stop_requested or time.monotonic() - self._last >= self._every:
            control.should_save = True
            self._last = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the checkpoint that was just written."""
        path = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        write_manifest(path, replace(self._before, seconds=self.seconds()))
