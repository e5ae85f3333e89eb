"""Trainer callbacks for progress and early stopping; Transformers' own would need a checkpoint at every evaluation.

Checkpoints here are made by time (`checkpoints.py`), so `EarlyStoppingCallback` holds the best adapter in memory (94 MB
for Phi-2 at rank 16) and writes it into each checkpoint, for a resumed run to know it. The progress bar shows what
Transformers' and TRL's do not: tokens/s, peak memory and cost, as lines where the output is a log file.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bonsai.builder.files import atomic_write_text
from bonsai.recipes.training.plan.gpus import list_price
from bonsai.recipes.training.run_record import LossPoint, ValidationPoint
from bonsai.recipes.training.threads import FreeCores

_WEIGHTS, _STATE = "best_adapter.safetensors", "best_adapter.json"
"""in a checkpoint: the adapter with the lowest validation loss, and that loss"""


def peak_memory_gib() -> float:
    """Return the peak memory so far in GiB, of the GPU or else of the process; 0 where unknown (Windows)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def release_memory() -> None:
    """Free unreferenced objects, including cycles, and the GPU memory they held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class FreeCoresCallback(TrainerCallback):
    """Compute each micro-batch on the cores that other processes leave free."""

    def __init__(self) -> None:
        self._cores = FreeCores()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Look at the machine before a step."""
        self._cores.adjust()

    def on_substep_end(self, *args: Any, **kwargs: Any) -> None:
        """Look at it between the micro-batches of a step."""
        self._cores.adjust()


class ProgressCallback(TrainerCallback):
    """Show a progress bar on a terminal; in a log file print a line every tenth of the way."""

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
        self._usd_per_hour = list_price(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
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
        numbers = f"loss {float(logs['loss']):.3f}  {speed:,.0f} tokens/s  {peak_memory_gib():.1f} GiB"
        if self._usd_per_hour is not None:
            numbers += f"  ${self._usd_per_hour * seconds / 3600:.3f}"
        self._progress.update(self._task, completed=step, numbers=numbers)
        if not self._console.is_terminal and (step % max(1, state.max_steps // 10) == 0 or step == state.max_steps):
            left = seconds / (step - self._first_step) * (state.max_steps - step)
            self._console.print(Text(f"{self._name} {step}/{state.max_steps}  {numbers}  {left:.0f} s left"))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar, also after a failure."""
        self._progress.stop()


def loss_points(log_history: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    """Extract the loss of each step from Transformers' log history, which checkpoints carry along."""
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
    """Extract the validation losses during training, without the one before it (step 0)."""
    return [
        ValidationPoint(step=int(entry["step"]), loss=float(entry["eval_loss"]))
        for entry in log_history
        if "eval_loss" in entry and entry["step"] > 0
    ]


class EarlyStoppingCallback(TrainerCallback):
    """Remember the adapter with the lowest validation loss, and stop when the loss no longer falls.

    Args:
        patience: evaluations in a row without a lower loss after which training stops; 0: it never does.
    """

    def __init__(self, model: nn.Module, *, patience: int) -> None:
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._patience = patience
        self._best: dict[str, Tensor] = {}
        self.best_loss = float("inf")
        self.best_step = 0
        self._waited = 0
        self.stopped = False

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy the weights if the loss is the lowest so far; otherwise count towards ``patience``."""
        loss = (metrics or {}).get("eval_loss")
        if loss is None or state.global_step == 0:
            return
        if loss < self.best_loss:
            self.best_loss, self.best_step, self._waited = loss, state.global_step, 0
            self._best = {name: parameter.detach().cpu().clone() for name, parameter in self._trained.items()}
            return
        self._waited += 1
        if self._patience and self._waited >= self._patience:
            self.stopped = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the best adapter into the checkpoint, before it is sealed."""
        if self._best:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            save_file(self._best, folder / _WEIGHTS)
            best = {"loss": self.best_loss, "step": self.best_step, "waited": self._waited}
            atomic_write_text(folder / _STATE, json.dumps(best))

    def load(self, checkpoint: Path) -> None:
        """Restore this callback's state from a checkpoint."""
        if (checkpoint / _STATE).is_file():
            saved = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
            self.best_loss, self.best_step, self._waited = saved["loss"], saved["step"], saved["waited"]
            self._best = load_file(checkpoint / _WEIGHTS)

    @torch.no_grad()
    def restore(self, last_step: int) -> bool:
        """Load the best weights into the model unless they are the last ones; True if they were loaded."""
        if not self._best or self.best_step == last_step:
            return False
        for name, parameter in self._trained.items():
            parameter.copy_(self._best[name])
        return True
