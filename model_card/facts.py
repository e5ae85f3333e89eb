"""What a card states about one adapter. Every number on it comes from here, and the linter holds the two together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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


class RecordLine(NamedTuple):
    """A training record that kept much of its loss."""

    id: str
    place: str
    """``file:line``, without a folder; empty where unknown"""
    loss: float
    """in nats a completion token"""
    reasons: tuple[str, ...]
    """what the checks doubt in it"""


@dataclass(frozen=True, kw_only=True)
class DiagnosisFacts:
    """The loss judged in words."""

    english: tuple[str, ...]
    japanese: tuple[str, ...]
    highest: tuple[RecordLine, ...]
    measured: int
    """records whose loss was measured after training"""

    def as_json(self) -> dict[str, Any]:
        """For a file beside the loss table."""
        return asdict(self) | {"highest": [line._asdict() for line in self.highest]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DiagnosisFacts:
        """What `as_json` gave, once it has been through a file."""
        lines = (RecordLine(**{**line, "reasons": tuple(line["reasons"])}) for line in data["highest"])
        return cls(
            english=tuple(data["english"]),
            japanese=tuple(data["japanese"]),
            highest=tuple(lines),
            measured=data["measured"],
        )


class ScoreRow(NamedTuple):
    """One line of the table of scores: one metric over one category and language."""

    category: str
    language: str
    metric: str
    questions: int
    before: float
    after: float
    difference: tuple[float, float] | None
    """ends of the interval of after minus before, over the same questions"""


class ProbeRow(NamedTuple):
    """One fixed question, and what the two models said."""

    question: str
    wanted: str
    """an answer that counts as right; empty where there is no such thing"""
    before: str
    after: str
    right_before: bool | None
    right_after: bool | None
    """None: not a matter of right or wrong"""


@dataclass(frozen=True, kw_only=True)
class EvaluationFacts:
    """What was asked before and after training."""

    adapter_sha256: str
    """of the weights that were asked, so that an old evaluation is not told of a new adapter"""
    decoder: str
    """the decoder's settings in words"""
    interval: float
    """e.g. 0.95"""
    scores: Sequence[ScoreRow]
    probes: Sequence[ProbeRow]
    results: Sequence[EvalResult]
    """for the model-index"""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What an hour of the device costs, and who says so."""

    usd_per_hour: float
    source: str


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """What the card states about one adapter."""

    repo_id: str
    recipe_name: str
    command: str
    """the shell command that does the run again, in a checkout"""
    licence: str
    """the base model's, as the Hub names it"""
    dataset_licence: str
    base_model: str
    base_model_revision: str
    base_model_commit: str
    dataset: str
    dataset_revision: str
    dataset_commit: str | None
    """None: not looked up yet; publishing does"""
    dataset_content_hash: str
    languages: Sequence[str]
    categories: Sequence[str]
    rows_by_category: Mapping[str, Mapping[str, int]] | None
    """training rows by category, then language; None: the run did not write them down"""
    settings: Sequence[Setting]
    losses: Sequence[LossRow]
    evaluations: Mapping[int, float]
    """validation loss on the way, by step"""
    validation_loss_before: float
    validation_loss_after: float
    train_rows: int
    validation_rows: int
    kept_step: int | None
    """the step whose adapter was kept, where it is not the last"""
    seconds: float
    peak_memory_gib: float
    device: str
    compute_dtype: str
    engine: str | None
    price: Price | None
    """of the device the run was on; None: none is known"""
    trainable_parameters: int
    adapted_modules: Sequence[str]
    versions: Mapping[str, str]
    python: str
    constraints_sha256: str | None
    prompt: str
    """a whole prompt, as the adapter was trained on it"""
    samples: Sequence[str]
    """whole training records, prompt and completion"""
    lengths_by_category: Mapping[str, tuple[int, float, int]] | None
    """tokens of the training rows: shortest, mean, longest"""
    machine: str | None
    """processor, cores and memory"""
    passes: float | None
    """how often the average record was seen"""
    arguments: bool
    """whether training/arguments.json lies in the repo"""
    tag: str
    gguf: str | None
    """the name of the adapter's GGUF file in the repo"""
    generators: Mapping[str, int] | None = None
    """training rows by who wrote them, as the dataset says; None: the run did not write them down"""
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
        """The user or organisation the repo belongs to."""
        return self.repo_id.rpartition("/")[0]

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.losses[-1].step

    @property
    def tokens(self) -> int:
        """Tokens seen in training, prompts included, padding not."""
        return self.losses[-1].tokens

    @property
    def missing(self) -> list[str]:
        """What this card leaves out because the run has no data for it; for the run's notes, not for the card."""
        said = {
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
        return [name for name, value in said.items() if value is None]
