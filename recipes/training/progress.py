"""What a person sees while a model trains: loss, tokens a second, memory, time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bonsai.recipes.training.memory import peak_memory_gib
from bonsai.recipes.training.plan.gpus import usd_per_hour
from bonsai.recipes.training.record import LossPoint, ValidationPoint


class ProgressBar(TrainerCallback):
    """A bar on a terminal; in a log file a line every tenth of the way."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._started = 0.0
        self._usd_per_hour = usd_per_hour(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        self._first_step = self._first_tokens = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock and the bar."""
        self._started = time.perf_counter()
        self._first_step, self._first_tokens = state.global_step, int(state.num_input_tokens_seen)
        self._task = self._progress.add_task(self._name, total=state.max_steps, completed=state.global_step, numbers="")
        self._progress.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show one optimizer step."""
        if not logs or "loss" not in logs:
            return
        seconds = time.perf_counter() - self._started
        step, speed = state.global_step, (state.num_input_tokens_seen - self._first_tokens) / seconds
        numbers = (
            f"loss {float(logs['loss']):.3f}  {speed:,.0f} tokens/s  {peak_memory_gib():.1f} GiB{self._cost(seconds)}"
        )
        self._progress.update(self._task, completed=step, numbers=numbers)
        if not self._console.is_terminal and (step % max(1, state.max_steps // 10) == 0 or step == state.max_steps):
            left = seconds / (step - self._first_step) * (state.max_steps - step)
            self._console.print(Text(f"{self._name} {step}/{state.max_steps}  {numbers}  {left:.0f} s left"))

    def _cost(self, seconds: float) -> str:
        return "" if self._usd_per_hour is None else f"  ${self._usd_per_hour * seconds / 3600:.3f}"

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the bar down."""
        self.close()

    def close(self) -> None:
        """Take the bar down, also after a failure."""
        self._progress.stop()


def loss_points(log_history: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    """The loss table out of Transformers' log, which a checkpoint carries along."""
    return [
        LossPoint(
            step=int(entry["step"]),
            loss=float(entry["loss"]),
            learning_rate=float(entry["learning_rate"]),
            grad_norm=float(entry["grad_norm"]),
            tokens=int(entry["num_input_tokens_seen"]),
            records=entry.get("records"),
        )
        for entry in log_history
        if "loss" in entry
    ]


def validation_points(log_history: Sequence[Mapping[str, Any]]) -> list[ValidationPoint]:
    """The validation losses on the way."""
    return [
        ValidationPoint(step=int(entry["step"]), loss=float(entry["eval_loss"]))
        for entry in log_history
        if "eval_loss" in entry and entry["step"] > 0
    ]
