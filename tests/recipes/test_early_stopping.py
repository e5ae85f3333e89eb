"""Training stops when the validation loss no longer falls, and the best adapter is the one that is kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.callbacks import EarlyStoppingCallback
from bonsai.recipes.training.recipe import RecipeError
from tests.conftest import TINY_RECIPE, Run


class Watched:
    """A model of one weight and the trainer's own state, told losses one by one."""

    def __init__(self, folder: Path, patience: int = 2) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        self.best = EarlyStoppingCallback(self.model, patience=patience)
        self.state, self.control = TrainerState(), TrainerControl()
        self.arguments = TrainingArguments(output_dir=str(folder), use_cpu=True)

    def evaluate(self, step: int, loss: float) -> None:
        self.state.global_step = step
        nn.init.constant_(self.model.weight, float(step))
        self.best.on_evaluate(self.arguments, self.state, self.control, {"eval_loss": loss})

    def save(self) -> Path:
        folder = Path(str(self.arguments.output_dir)) / f"checkpoint-{self.state.global_step}"
        folder.mkdir()
        self.best.on_save(self.arguments, self.state, self.control)
        return folder


def test_early_stopping_counts_evaluations_without_improvement(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    for step, loss in enumerate((3.0, 2.0, 2.5, 1.9, 2.0), start=1):
        run.evaluate(step, loss)
        assert not run.control.should_training_stop
    run.evaluate(6, 1.95)
    assert run.control.should_training_stop
    assert run.best.restore(last_step=6)
    assert run.model.weight.item() == 4.0


def test_the_last_adapter_is_left_alone_when_it_is_the_best(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    run.evaluate(1, 2.0)
    run.evaluate(2, 1.0)
    assert not run.best.restore(last_step=2)
    assert run.model.weight.item() == 2.0


def test_without_patience_it_never_stops(tmp_path: Path) -> None:
    run = Watched(tmp_path, patience=0)
    for step in range(1, 30):
        run.evaluate(step, float(step))
    assert not run.control.should_training_stop


def test_early_stopping_restores_its_state_from_a_checkpoint(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    run.evaluate(1, 1.0)
    run.evaluate(2, 2.0)
    checkpoint = run.save()
    resumed = Watched(tmp_path)
    resumed.best.load(checkpoint)
    resumed.evaluate(3, 2.0)
    assert resumed.control.should_training_stop
    assert resumed.best.restore(last_step=3)
    assert torch.equal(resumed.model.weight, torch.tensor([[1.0]]))


def test_patience_without_evaluations_is_refused() -> None:
    with pytest.raises(RecipeError, match="early_stopping_patience is 3 but eval_steps is 0"):
        dataclasses.replace(RECIPE, eval_steps=0, early_stopping_patience=3)


@pytest.mark.slow
def test_train_keeps_the_better_adapter_of_a_worsening_run(
    dataset: Path, far_hub: HubAddress, tiny_base: str, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    worse = TINY_RECIPE.replace("learning_rate=1e-2", "learning_rate=30, eval_steps=2, early_stopping_patience=1")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "worse.py").write_text(worse.replace("max_steps=12", "max_steps=40"))
    told = bonsai("train", "worse", "--no-evaluate", "--no-gguf", cwd=tmp_path, **far_hub.environment()).stdout
    assert "stopped early at step" in told
    record = json.loads((tmp_path / "out/adapters/worse/training/run.json").read_text())
    losses = {point["step"]: point["loss"] for point in record["evaluations"]}
    assert max(losses) < 40
    assert record["best_step"] == min(losses, key=losses.__getitem__) < max(losses)
    assert record["validation_loss_after"] == pytest.approx(min(losses.values()), abs=1e-4)
    assert all(point["records"] and len(set(point["records"])) == len(point["records"]) for point in record["losses"])
    assert "linear" in record["engine"]
