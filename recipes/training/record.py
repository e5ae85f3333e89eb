"""What a run wrote down about itself: the only source of every number in the model card."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bonsai.recipes.training.recipe import RecipeError

FOLDER = "training"
"""where a run's own files lie in the adapter's folder"""
NAME = "run.json"
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "huggingface_hub")


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
        return RunRecord(**{**data, "losses": [LossPoint(**point) for point in data["losses"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise RecipeError(f"{path}: not a record this version can read ({error}); train the adapter again") from error


def package_versions() -> dict[str, str]:
    """The installed versions of what decides a training run."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def constraints_sha256() -> str | None:
    """Hash of the checkout's constraints.txt; None where the package was installed without a checkout."""
    path = Path(__file__).resolve().parents[2] / "constraints.txt"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
