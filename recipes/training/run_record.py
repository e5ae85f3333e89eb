"""Record everything about a run that its card states: losses, settings, packages, source and machine."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dulwich.errors import NotGitRepository
from dulwich.repo import Repo
from pydantic import ConfigDict, TypeAdapter, ValidationError

from bonsai.builder.errors import describe_first_fault
from bonsai.builder.files import atomic_write_text
from bonsai.model_card.facts import DiagnosisFacts
from bonsai.recipes.training.data import Lengths
from bonsai.recipes.training.recipe import RecipeError

SOURCE = "https://github.com/qeu/bonsai"
"""this project's public repository"""
CHECKOUT = Path(__file__).resolve().parents[2]
WEIGHTS = "adapter_model.safetensors"
"""in the adapter's folder, PEFT's"""
FOLDER = "training"
"""in the adapter's folder, for the run's own files"""
RUN_FILE = "run.json"
ARGUMENTS = f"{FOLDER}/arguments.json"
DIAGNOSIS_FILE = "diagnosis.json"
PRIVATE_ARGUMENTS = ("output_dir", "logging_dir", "run_name", "hub_token", "push_to_hub_token")
"""arguments of Transformers that name a folder or a token of this machine"""
PACKAGES = (
    "torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "tokenizers", "huggingface_hub",
)  # fmt: skip
"""packages that determine a run's result"""


@dataclass(frozen=True, kw_only=True)
class LossPoint:
    """The loss of one optimizer step."""

    step: int
    loss: float
    """mean over the completion tokens of the step, in nats"""
    learning_rate: float
    grad_norm: float
    tokens: int
    """tokens seen up to and with this step, prompts included, padding not"""
    records: list[str] | None = None
    """ids of the rows in this step's batch, packed or not; None: not recorded"""


@dataclass(frozen=True, kw_only=True)
class ValidationPoint:
    """The validation loss at one step during training."""

    step: int
    loss: float
    """mean over the validation rows, in nats a completion token"""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything a card states about a run, stored as ``training/run.json``."""

    __pydantic_config__ = ConfigDict(extra="forbid")

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
    """during training, without those before and after"""
    engine: str | None = None
    """the training engine with its version; None: bitsandbytes and PEFT as they are"""
    with_engine: bool = True
    """False: it was switched off on the command line"""
    engine_left_out: dict[str, str] = field(default_factory=dict)
    """parts the engine did not replace, with the reason; "packing": records of a row were computed one by one"""
    best_step: int | None = None
    """the step whose adapter was kept, if an earlier one had the lower validation loss"""
    packed: bool | None = None
    """several records to a row, isolated from each other; None: not recorded"""
    rows_by_category: dict[str, dict[str, int]] | None = None
    """training rows by category, then language of the answer"""
    lengths_by_category: dict[str, Lengths] | None = None
    """tokens of the training rows, by category"""
    samples: list[str] = field(default_factory=list)
    """whole training records, prompt and completion"""
    generators: dict[str, int] | None = None
    """training rows by the dataset's column `generator`"""
    prompt_beginning: str = ""
    """special tokens that the base's tokenizer puts before every prompt, as text"""
    machine: str | None = None
    """processor, cores and memory"""
    source_commit: str | None = None
    """the checked-out commit of this project"""
    max_steps: int | None = None
    """given on the command line in place of the recipe's"""

    def validation_by_step(self) -> dict[int, float]:
        """Return the validation loss by step: before training (0), during it, and of the adapter that was kept."""
        on_the_way = {point.step: point.loss for point in self.evaluations}
        kept = self.best_step or self.losses[-1].step
        return {0: self.validation_loss_before, **on_the_way, kept: self.validation_loss_after}

    @property
    def passes(self) -> float | None:
        """How often the run has seen the average record; None: it did not record its batches."""
        seen = sum(len(point.records or ()) for point in self.losses)
        return seen / self.train_rows if seen else None

    def write(self, adapter: Path) -> None:
        """Write ``training/run.json`` below the adapter's folder."""
        path = adapter / FOLDER / RUN_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")


def read_record(adapter: Path) -> RunRecord:
    """Read the run record of the adapter in this folder.

    Raises:
        RecipeError: there is none, or it was written by another version of this project.
    """
    path = adapter / FOLDER / RUN_FILE
    if not path.is_file():
        raise RecipeError(f"{adapter}: there is no trained adapter here; run `nox -s train -- {adapter.name}` first")
    try:
        return TypeAdapter(RunRecord).validate_json(path.read_bytes())
    except ValidationError as error:
        fault = describe_first_fault(error)
        raise RecipeError(f"{path}: not a record this version can read ({fault}); train the adapter again") from error


def weights_sha256(adapter: Path) -> str:
    """Hash an adapter's weights, by which an evaluation knows the adapter it is of."""
    return hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Look up the installed versions; a package that is not installed is left out."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def constraints_sha256() -> str | None:
    """Hash the checkout's constraints.txt; None without a checkout."""
    path = CHECKOUT / "constraints.txt"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def git_commit() -> str | None:
    """Return the commit that is checked out; None without a checkout or without its history."""
    try:
        with Repo(str(CHECKOUT)) as repo:
            return repo.head().decode()
    except (NotGitRepository, KeyError):
        return None


def describe_machine() -> str:
    """Describe processor, cores and memory, e.g. ``AMD EPYC 7763, 16 cores, 63 GiB of memory``."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")  # platform knows only the architecture on Linux
    if cpuinfo.is_file():
        lines = [line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()]
        models = [value.strip() for key, _, value in lines if key.strip() == "model name" and value.strip()]
        processor = models[0] if models else processor
    cores = f"{processor}, {os.cpu_count()} cores"
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and some systems lack these names
        return cores
    return f"{cores}, {memory:.0f} GiB of memory"


def save_training_arguments(arguments: Any, adapter: Path) -> Path:
    """Write Transformers' arguments to ``training/arguments.json``, without folders and tokens of this machine."""
    public = {name: value for name, value in arguments.to_dict().items() if name not in PRIVATE_ARGUMENTS}
    path = adapter / ARGUMENTS
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(public, indent=1, sort_keys=True, default=str) + "\n")
    return path


def save_diagnosis(facts: DiagnosisFacts, adapter: Path) -> Path:
    """Write ``training/diagnosis.json``."""
    path = adapter / FOLDER / DIAGNOSIS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(asdict(facts), ensure_ascii=False, indent=1) + "\n")
    return path


def load_diagnosis(adapter: Path) -> DiagnosisFacts | None:
    """Read ``training/diagnosis.json``; None if the run was not diagnosed."""
    path = adapter / FOLDER / DIAGNOSIS_FILE
    return TypeAdapter(DiagnosisFacts).validate_json(path.read_bytes()) if path.is_file() else None
