"""What a run wrote down about itself: the only source of every number in the model card."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.row_statistics import Lengths

FOLDER = "training"
"""where a run's own files lie in the adapter's folder"""
NAME = "run.json"


@dataclass(frozen=True, kw_only=True)
class LossPoint:
    """One optimizer step."""

    step: int
    loss: float
    """mean over the completion tokens of the step, in nats"""
    learning_rate: float
    grad_norm: float
    tokens: int
    """tokens seen up to and with this step, prompts included, padding not"""
    records: list[str] | None = None
    """ids of the rows in this step's batch, packed or not; None: the run did not write them down"""


@dataclass(frozen=True, kw_only=True)
class ValidationPoint:
    """One evaluation on the way."""

    step: int
    loss: float
    """over the validation rows, in nats a completion token"""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything a card states about a run."""

    recipe_name: str
    recipe: dict[str, Any]
    adapter_repo: str
    base_model: str
    base_model_commit: str
    dataset_repo: str
    dataset_content_hash: str
    train_rows: int
    validation_rows: int
    losses: list[LossPoint]
    validation_loss_before: float
    validation_loss_after: float
    seconds: float
    """of the training loop alone"""
    peak_memory_gib: float
    """of the process on a CPU, of the device on a GPU"""
    device: str
    compute_dtype: str
    trainable_parameters: int
    versions: dict[str, str]
    constraints_sha256: str | None
    python: str = field(default_factory=platform.python_version)
    evaluations: list[ValidationPoint] = field(default_factory=list)
    """on the way, without those before and after"""
    engine: str | None = None
    """what did the arithmetic under the trainer, with its version; None: bitsandbytes and PEFT as they are"""
    with_engine: bool = True
    """False: it was switched off on the command line"""
    engine_left_out: dict[str, str] = field(default_factory=dict)
    """what it did not take over, with the reason; "packing": records of a row went through the model one by one"""
    best_step: int | None = None
    """the step whose adapter was kept, where an earlier one had the lower validation loss"""
    packed: bool | None = None
    """several records to a row, without seeing one another; None: the run did not write it down"""
    rows_by_category: dict[str, dict[str, int]] | None = None
    """training rows by category, then language of the answer"""
    lengths_by_category: dict[str, Lengths] | None = None
    """how many tokens the training rows have"""
    samples: list[str] = field(default_factory=list)
    """whole training records, prompt and completion"""
    generators: dict[str, int] | None = None
    """training rows by the dataset's column `generator`"""
    prompt_beginning: str = ""
    """special tokens that the base's tokenizer puts before every prompt, as text"""
    machine: str | None = None
    """processor, cores and memory"""
    source_commit: str | None = None
    """the commit of this project that was checked out"""
    max_steps: int | None = None
    """what was asked for on the command line, in place of the recipe's"""

    def validation_by_step(self) -> dict[int, float]:
        """The validation loss before training (step 0), on the way, and of the adapter at the step that was kept."""
        on_the_way = {point.step: point.loss for point in self.evaluations}
        kept = self.best_step or self.losses[-1].step
        return {0: self.validation_loss_before, **on_the_way, kept: self.validation_loss_after}

    @property
    def passes(self) -> float | None:
        """How often the run has seen the average record; None: it did not write its batches down."""
        seen = sum(len(point.records or ()) for point in self.losses)
        return seen / self.train_rows if seen else None

    def write(self, adapter: Path) -> None:
        """Write ``training/run.json`` below the adapter's folder."""
        path = adapter / FOLDER / NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_record(adapter: Path) -> RunRecord:
    """The record of the adapter in this folder.

    Raises:
        RecipeError: there is none, or it was written by another version of this project.
    """
    path = adapter / FOLDER / NAME
    if not path.is_file():
        raise RecipeError(f"{adapter}: no trained adapter lies here; run `nox -s train -- {adapter.name}` first")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        losses = [LossPoint(**point) for point in data["losses"]]
        evaluations = [ValidationPoint(**point) for point in data.get("evaluations", [])]
        known = {name: Lengths(*numbers) for name, numbers in (data.get("lengths_by_category") or {}).items()}
        return RunRecord(**{**data, "losses": losses, "evaluations": evaluations, "lengths_by_category": known or None})
    except (ValueError, TypeError, KeyError) as error:
        raise RecipeError(f"{path}: not a record this version can read ({error}); train the adapter again") from error
