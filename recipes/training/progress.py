"""What a person sees while a model trains: loss, tokens a second, memory, time left."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bonsai.recipes.training.memory import peak_memory_gib
from bonsai.recipes.training.record import LossPoint


class ProgressBar(TrainerCallback):
    """A bar on a terminal; in a log file a line every tenth of the way. Gathers the loss table as it goes."""

    def __init__(self, name: str, console: Console) -> None:
        self.losses: list[LossPoint] = []
        self.seconds = 0.0
        self._name = name
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock and the bar."""
        self._started = time.perf_counter()
        self._task = self._progress.add_task(self._name, total=state.max_steps, numbers="")
        self._progress.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take down one optimizer step."""
        if not logs or "loss" not in logs:
            return
        self.seconds = time.perf_counter() - self._started
        point = LossPoint(
            step=state.global_step,
            loss=float(logs["loss"]),
            learning_rate=float(logs["learning_rate"]),
            grad_norm=float(logs["grad_norm"]),
            tokens=int(state.num_input_tokens_seen),
        )
        self.losses.append(point)
        numbers = f"loss {point.loss:.3f}  {point.tokens / self.seconds:,.0f} tokens/s  {peak_memory_gib():.1f} GiB"
        self._progress.update(self._task, completed=state.global_step, numbers=numbers)
        if not self._console.is_terminal and (
            state.global_step % max(1, state.max_steps // 10) == 0 or state.global_step == state.max_steps
        ):
            left = self.seconds / state.global_step * (state.max_steps - state.global_step)
            self._console.print(f"{self._name} {state.global_step}/{state.max_steps}  {numbers}  {left:.0f} s left")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the bar down."""
        self.close()

    def close(self) -> None:
        """Take the bar down, also after a failure."""
        self._progress.stop()
