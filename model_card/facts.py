"""Define the facts that a card states about an adapter; the linter checks every number on the card against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from huggingface_hub import EvalResult


class LossRow(NamedTuple):
    """One line of the loss table."""

    step: int
    loss: float
    learning_rate: float
    tokens: int


class Setting(NamedTuple):
    """One setting of the run, by the name PEFT, TRL or bitsandbytes gives it."""

    part: str
    """Quantisation, LoRA, or Trainer"""
    name: str
    value: Any


@dataclass(frozen=True)
class RecordLine:
    """A training record whose loss stayed high."""

    id: str
    place: str
    """``file:line``, without a folder; empty if unknown"""
    loss: float
    """in nats per completion token"""
    reasons: tuple[str, ...]
    """what the checks found doubtful in it"""


@dataclass(frozen=True, kw_only=True)
class DiagnosisFacts:
    """The diagnosis of the loss curve in words."""

    english: tuple[str, ...]
    japanese: tuple[str, ...]
    highest: tuple[RecordLine, ...]
    measured: int
    """records whose loss was measured after training"""


class ScoreRow(NamedTuple):
    """One line of the score table: one metric over one category and language."""

    category: str
    language: str
    metric: str
    questions: int
    before: float
    after: float
    difference: tuple[float, float] | None
    """interval of after minus before, over the same questions"""


class ProbeRow(NamedTuple):
    """One fixed question, with the answers of the base model and the adapter."""

    question: str
    wanted: str
    """an answer that counts as right; empty if there is no right or wrong"""
    before: str
    after: str
    right_before: bool | None
    right_after: bool | None
    """`None`: there is no right or wrong"""


@dataclass(frozen=True, kw_only=True)
class EvaluationFacts:
    """The evaluation before and after training."""

    adapter_sha256: str
    """of the evaluated weights, so that an old evaluation is not shown for a new adapter"""
    generation_settings: str
    """in words"""
    interval: float
    """e.g. 0.95"""
    scores: Sequence[ScoreRow]
    probes: Sequence[ProbeRow]
    results: Sequence[EvalResult]
    """for the model-index"""


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of the device by the hour, with its source."""

    usd_per_hour: float
    source: str


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """Everything that the card states about one adapter."""

    repo_id: str
    recipe_name: str
    command: str
    """the shell command that repeats the run in a checkout"""
    license: str
    """the base model's, as the Hub names it"""
    dataset_license: str
    base_model: str
    base_model_revision: str
    base_model_commit: str
    dataset: str
    dataset_revision: str
    dataset_commit: str | None
    """`None`: not looked up before publishing"""
    dataset_content_hash: str
    languages: Sequence[str]
    categories: Sequence[str]
    rows_by_category: Mapping[str, Mapping[str, int]] | None
    """training rows by category, then language; `None`: the run did not record them"""
    settings: Sequence[Setting]
    losses: Sequence[LossRow]
    evaluations: Mapping[int, float]
    """validation loss during training, by step"""
    validation_loss_before: float
    validation_loss_after: float
    train_rows: int
    validation_rows: int
    kept_step: int | None
    """the step whose adapter was kept, if it is not the last"""
    seconds: float
    peak_memory_gib: float
    device: str
    compute_dtype: str
    engine: str | None
    price: Price | None
    """of the device; `None`: unknown"""
    trainable_parameters: int
    adapted_modules: Sequence[str]
    versions: Mapping[str, str]
    python: str
    constraints_sha256: str | None
    prompt: str
    """one whole prompt as the adapter was trained on it"""
    samples: Sequence[str]
    """whole training records, prompt and completion"""
    lengths_by_category: Mapping[str, tuple[int, float, int]] | None
    """tokens of the training rows: shortest, mean, longest"""
    machine: str | None
    """processor, cores and memory"""
    passes: float | None
    """how often the average record was seen, in epochs"""
    arguments: bool
    """whether the repo has training/arguments.json"""
    tag: str
    gguf: str | None
    """the name of the adapter's GGUF file in the repo"""
    generators: Mapping[str, int] | None = None
    """training rows by who wrote them, according to the dataset; `None`: the run did not record them"""
    prompt_beginning: str = ""
    """special tokens before every prompt, as text"""
    diagnosis: DiagnosisFacts | None = None
    evaluation: EvaluationFacts | None = None

    @property
    def name(self) -> str:
        """The repo's name without its owner."""
        return self.repo_id.rpartition("/")[2]

    @property
    def owner(self) -> str:
        """The user or organisation that owns the repo."""
        return self.repo_id.rpartition("/")[0]

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.losses[-1].step

    @property
    def tokens(self) -> int:
        """Tokens seen in training, with prompts, without padding."""
        return self.losses[-1].tokens

    @property
    def missing(self) -> list[str]:
        """The parts that this card leaves out for lack of data; for the run's notes, not for the card."""
        parts = {
            "the loss judged in words": self.diagnosis,
            "scores and probe answers before and after": self.evaluation,
            "rows by category and language": self.rows_by_category,
            "training records": self.samples or None,
            "who wrote the training records": self.generators,
            "the length of the records": self.lengths_by_category,
            "the GGUF adapter": self.gguf,
            "the hash of the constraints": self.constraints_sha256,
            "the cost, as no price of the device is known": self.price,
        }
        return [name for name, value in parts.items() if value is None]
