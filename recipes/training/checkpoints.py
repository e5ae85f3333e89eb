"""Save checkpoints by time, and find the newest complete one.

A checkpoint is Transformers' own (adapter, optimizer, scheduler, random states, place in the data) with a manifest of
hashes beside it, written last. One without a manifest, or with a file that differs from it, is not whole: the one
before it is taken, and that is said.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bonsai.recipes.training.recipe import Recipe, RecipeError

MANIFEST = "bonsai.json"
SAVE_TOTAL_LIMIT = 2
"""checkpoints on disk at a time: the newest and, should it be damaged, the one before"""
KEPT_ASIDE = 2
"""unfinished runs of a recipe that are kept aside at a time"""
_ASIDE = re.compile(r"-step\d+-(?P<since>\d{8}-\d{6})")
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""Ctrl-C, a runtime that goes away, a terminal that is closed, and Ctrl-Break on Windows"""


class TrainingInterruptedError(RecipeError):
    """Training was asked to stop (by one of `SIGNALS`) and has saved what it had."""


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """What a run knows beyond Transformers' own state."""

    identity: str
    """hash of all that decides the run: a checkpoint of another run is not gone on from"""
    validation_loss_before: float
    seconds: float
    """in the training loop so far"""


@dataclass(frozen=True, kw_only=True)
class ResumableCheckpoint:
    """A whole checkpoint, and the damaged newer ones that were passed over."""

    path: Path
    step: int
    progress: RunProgress
    damaged: tuple[Path, ...]


def run_fingerprint(
    recipe: Recipe, dataset_hash: str, base_commit: str, max_steps: int | None, *, with_engine: bool = True
) -> str:
    """A hash of what decides a run's every step."""
    engine = [] if with_engine else ["no engine"]  # its optimizer's state is laid out in another way
    decided = json.dumps([asdict(recipe), dataset_hash, base_commit, max_steps, *engine], sort_keys=True)
    return hashlib.sha256(decided.encode()).hexdigest()


def find_latest_valid_checkpoint(folder: Path) -> ResumableCheckpoint | None:
    """The newest checkpoint whose every file is as it was written; None: there is none."""
    damaged: list[Path] = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        progress = _whole(path)
        if progress is not None:
            return ResumableCheckpoint(path=path, step=_step(path), progress=progress, damaged=tuple(damaged))
        damaged.append(path)
    return None


def set_aside(folder: Path, found: ResumableCheckpoint) -> Path:
    """Move the checkpoints of an unfinished run out of the way, to ``<folder>-step<N>-<date>-<time>``."""
    while (place := folder.with_name(f"{folder.name}-step{found.step}-{time.strftime('%Y%m%d-%H%M%S')}")).exists():
        time.sleep(0.1)
    os.rename(folder, place)
    return place


def drop_oldest(folder: Path) -> list[Path]:
    """Remove what was kept aside beyond ``KEPT_ASIDE``, the oldest; returned, to be told."""
    removed = kept_aside(folder)[KEPT_ASIDE:]
    for old in removed:
        shutil.rmtree(old)
    return removed


def kept_aside(folder: Path) -> list[Path]:
    """What `set_aside` moved out of the way of ``folder``, the newest first."""
    places = [
        (match["since"], path)
        for path in folder.parent.glob("*-step*-*")
        if path.name.startswith(folder.name) and (match := _ASIDE.fullmatch(path.name.removeprefix(folder.name)))
    ]
    return [path for _, path in sorted(places, reverse=True)]


def take_back(folder: Path, identity: str) -> tuple[Path, ResumableCheckpoint] | None:
    """Put a run that was kept aside back into ``folder`` if it is this one and got farther than what lies there.

    Runs of one identity go the same steps to the last bit, so that the shorter one holds nothing the longer one lacks.

    Returns:
        Where it was, and the checkpoint; None: none got farther.
    """
    here = find_latest_valid_checkpoint(folder)
    same = here is not None and here.progress.identity == identity
    aside = [
        (found.step, place)
        for place in kept_aside(folder)
        if (found := find_latest_valid_checkpoint(place)) is not None
        and found.progress.identity == identity
        and not (same and here and found.step <= here.step)
    ]
    if not aside:
        return None
    _, place = max(aside)
    if here is not None and not same:
        set_aside(folder, here)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(place, folder)
    back = find_latest_valid_checkpoint(folder)
    return None if back is None else (place, back)


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _whole(path: Path) -> RunProgress | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        whole = all(_sha256(path / name) == digest for name, digest in manifest["files"].items())
        return RunProgress(**manifest["progress"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_manifest(path: Path, progress: RunProgress) -> None:
    """Seal a checkpoint: from now on it counts as whole."""
    files = {
        file.relative_to(path).as_posix(): _sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    beside = path / f".{MANIFEST}"
    beside.write_text(json.dumps({"progress": asdict(progress), "files": files}), encoding="utf-8")
    beside.replace(path / MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class InterruptHandler:
    """Answers `SIGNALS`: within the training loop the step is finished and saved, elsewhere the run ends at once.

    A KeyboardInterrupt that some library swallowed while the model was loading is remembered and raised at the start of
    the loop.
    """

    def __init__(self) -> None:
        self.stop_requested = False
        self.in_loop = False

    @contextmanager
    def install(self) -> Iterator[None]:
        """Answer the signals for as long as the block lasts; one that is ignored (`nohup`) stays ignored."""
        terminals = [number for number in (1, 2) if os.isatty(number)]

        def answer(number: int, frame: FrameType | None) -> None:
            if number == getattr(signal, "SIGHUP", None):  # the terminal is gone: writing to it would end the run
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for terminal in terminals:
                    os.dup2(nowhere, terminal)
                if self.stop_requested and self.in_loop:  # the shell and the kernel both tell of one closed terminal
                    return
            self._answer(number, frame)

        heard = [number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, answer) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def enter_loop(self) -> None:
        """From now on a signal waits for the end of the step; a second one does not."""
        if self.stop_requested:
            raise KeyboardInterrupt
        self.in_loop = True

    def _answer(self, number: int, frame: FrameType | None) -> None:
        at_once = self.stop_requested or not self.in_loop
        self.stop_requested = True
        if at_once:
            raise KeyboardInterrupt


class TimedCheckpointCallback(TrainerCallback):
    """Saves every so many seconds, and when the run is asked to stop."""

    def __init__(self, *, every_seconds: float, progress: RunProgress, stopping: InterruptHandler) -> None:
        self._stopping = stopping
        self._every = every_seconds
        self._before = progress
        self._started = self._last = time.monotonic()

    def seconds(self) -> float:
        """In the training loop, those before the resume included."""
        return self._before.seconds + time.monotonic() - self._started

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._stopping.enter_loop()
        self._started = self._last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint when it is time, or before stopping."""
        if self._stopping.stop_requested:
            control.should_training_stop = True
        if self._stopping.stop_requested or time.monotonic() - self._last >= self._every:
            control.should_save = True
            self._last = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal what was written."""
        path = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        write_manifest(
            path,
            RunProgress(
                identity=self._before.identity,
                validation_loss_before=self._before.validation_loss_before,
                seconds=self.seconds(),
            ),
        )
