"""Checkpoints by time, and finding the newest whole one: a free Colab runtime goes away without asking.

A checkpoint is Transformers' own (adapter, optimizer, scheduler, random states, place in the data) with a manifest of
hashes beside it, written last. One without a manifest, or with a file that differs from it, is not whole: the one
before it is taken, and that is said.
"""

from __future__ import annotations

import hashlib
import json
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
KEPT = 2
"""checkpoints on disk at a time: the newest and, should it be damaged, the one before"""


class StoppedError(RecipeError):
    """Training was asked to stop (Ctrl-C, SIGTERM) and has saved a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a run knows beyond Transformers' own state."""

    identity: str
    """hash of all that decides the run: a checkpoint of another run is not gone on from"""
    validation_loss_before: float
    seconds: float
    """in the training loop so far"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A whole checkpoint, and the damaged newer ones that were passed over."""

    path: Path
    step: int
    progress: Progress
    passed_over: tuple[Path, ...]


def run_identity(
    recipe: Recipe, dataset_hash: str, base_commit: str, max_steps: int | None, *, with_engine: bool = True
) -> str:
    """A hash of what decides a run's every step."""
    engine = [] if with_engine else ["no engine"]  # its optimizer's state is laid out in another way
    decided = json.dumps([asdict(recipe), dataset_hash, base_commit, max_steps, *engine], sort_keys=True)
    return hashlib.sha256(decided.encode()).hexdigest()


def newest_whole(folder: Path) -> Found | None:
    """The newest checkpoint whose every file is as it was written; None: there is none."""
    damaged: list[Path] = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        progress = _whole(path)
        if progress is not None:
            return Found(path=path, step=_step(path), progress=progress, passed_over=tuple(damaged))
        damaged.append(path)
    return None


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _whole(path: Path) -> Progress | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        whole = all(_sha256(path / name) == digest for name, digest in manifest["files"].items())
        return Progress(**manifest["progress"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_manifest(path: Path, progress: Progress) -> None:
    """Seal a checkpoint: from now on it counts as whole."""
    files = {
        file.relative_to(path).as_posix(): _sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    beside = path / f".{MANIFEST}"
    beside.write_text(json.dumps({"progress": asdict(progress), "files": files}), encoding="utf-8")
    beside.rename(path / MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Stopping:
    """Ctrl-C and SIGTERM: within the training loop the step is finished and saved, elsewhere the run ends at once.

    A KeyboardInterrupt that some library swallowed while the model was loading is remembered and raised at the start of
    the loop.
    """

    def __init__(self) -> None:
        self.asked = False
        self.in_loop = False

    @contextmanager
    def listens(self) -> Iterator[None]:
        """Answer both signals for as long as the block lasts."""
        before = {number: signal.signal(number, self._answer) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def enter_loop(self) -> None:
        """From now on a signal waits for the end of the step; a second one does not."""
        if self.asked:
            raise KeyboardInterrupt
        self.in_loop = True

    def _answer(self, number: int, frame: FrameType | None) -> None:
        at_once = self.asked or not self.in_loop
        self.asked = True
        if at_once:
            raise KeyboardInterrupt


class TimedCheckpoint(TrainerCallback):
    """Saves every so many seconds, and when the run is asked to stop."""

    def __init__(self, *, every_seconds: float, progress: Progress, stopping: Stopping) -> None:
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
        if self._stopping.asked:
            control.should_training_stop = True
        if self._stopping.asked or time.monotonic() - self._last >= self._every:
            control.should_save = True
            self._last = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal what was written."""
        path = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        write_manifest(
            path,
            Progress(
                identity=self._before.identity,
                validation_loss_before=self._before.validation_loss_before,
                seconds=self.seconds(),
            ),
        )
