"""Stop when the validation loss no longer falls, and keep the adapter from where it was lowest.

Transformers' own early stopping wants a checkpoint at every evaluation; checkpoints here are made by time. The best
adapter is held in memory (94 MB for Phi-2 at rank 16) and goes into each checkpoint, so that a resumed run knows it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_WEIGHTS, _STATE = "best_adapter.safetensors", "best_adapter.json"


class BestAdapter(TrainerCallback):
    """Watches the evaluations; `restore` puts the best weights back after the run.

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
        """Keep the weights if the loss is the lowest so far; count how long it has not been."""
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
        """Put the best adapter into the checkpoint, before it is sealed."""
        if self._best:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            save_file(self._best, folder / _WEIGHTS)
            known = {"loss": self.best_loss, "step": self.best_step, "waited": self._waited}
            (folder / _STATE).write_text(json.dumps(known), encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        """Go on from what a checkpoint knew."""
        if (checkpoint / _STATE).is_file():
            known = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
            self.best_loss, self.best_step, self._waited = known["loss"], known["step"], known["waited"]
            self._best = load_file(checkpoint / _WEIGHTS)

    @torch.no_grad()
    def restore(self, last_step: int) -> bool:
        """Put the best weights back unless they are the last ones; True: they were put back."""
        if not self._best or self.best_step == last_step:
            return False
        for name, parameter in self._trained.items():
            parameter.copy_(self._best[name])
        return True
