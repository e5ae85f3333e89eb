"""Load the rows a recipe trains on, describe them, and keep track of which records each batch holds.

Looked up where a batch is put together, on the CPU: asking on the GPU would make every step wait.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from bonsai.builder.bonsai import VERSION
from bonsai.builder.build import content_hash
from bonsai.builder.prompt import PromptEncoder, to_prompt_completion
from bonsai.recipes.training.engine import RECORD_IDS_COLUMN
from bonsai.recipes.training.recipe import Recipe, RecipeError


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows of one recipe, in the columns id, prompt, completion."""

    train: datasets.Dataset
    validation: datasets.Dataset
    content_hash: str
    """of the dataset's Parquet, so that publishing can tell which commit holds it"""
    generators: dict[str, int] = field(default_factory=dict)
    """training rows by who wrote them, the most first"""


def load_training_rows(recipe: Recipe, dataset: Path) -> TrainingRows:
    """The rows of ``recipe`` out of the build in ``dataset``.

    Raises:
        RecipeError: there is no build, or it is not the pinned revision, or the recipe selects nothing.
    """
    if not (dataset / "README.md").is_file():
        raise RecipeError(f"{dataset}: no dataset is built here; run `nox -s build` first")
    if recipe.dataset_revision != f"v{VERSION}":
        raise RecipeError(
            f"{recipe.repo_id} is pinned to dataset {recipe.dataset_revision}, but {dataset} is v{VERSION}; "
            "check out the records of that version, or raise dataset_revision in the recipe"
        )
    files = {split: str(dataset / "default" / f"{split}-*.parquet") for split in ("train", "validation")}
    loaded = datasets.load_dataset("parquet", data_files=files)
    chosen = {name: _wanted_rows(recipe, rows) for name, rows in loaded.items()}
    splits = {
        name: rows.map(lambda row: to_training_row(recipe, row), remove_columns=_not_id(rows))
        for name, rows in chosen.items()
    }
    for name, rows in splits.items():
        if not len(rows):
            raise RecipeError(f"{recipe.repo_id}: its categories and languages select no {name} row; widen them")
    return TrainingRows(
        train=splits["train"],
        validation=evenly_spaced(splits["validation"], recipe.max_eval_samples),
        content_hash=content_hash(dataset),
        generators=dict(Counter(chosen["train"]["generator"]).most_common()),
    )


def _wanted_rows(recipe: Recipe, rows: datasets.Dataset) -> datasets.Dataset:
    names = rows.features["category"].names
    return rows.select(
        [number for number, row in enumerate(rows) if matches_recipe(recipe, names[row["category"]], row)]
    )


def evenly_spaced(rows: datasets.Dataset, most: int) -> datasets.Dataset:
    """At most this many rows, evenly spaced: the rows lie in the order of their categories."""
    if len(rows) <= most:
        return rows
    return rows.select([number * len(rows) // most for number in range(most)])


def matches_recipe(recipe: Recipe, category: str, row: dict[str, Any]) -> bool:
    """Whether the recipe learns from this row."""
    spoken = {row["language"]} | ({row["source_language"]} if row["source_language"] else set())
    return category in recipe.categories and spoken <= set(recipe.languages)


def to_training_row(recipe: Recipe, row: dict[str, Any]) -> dict[str, str]:
    """The row as id, prompt and completion."""
    reasoning = row["reasoning"]
    if recipe.reasoning == "original" and row["reasoning_original"] is not None:
        reasoning = row["reasoning_original"]
    made = to_prompt_completion(row["instruction"], row["input"], reasoning, row["output"])
    return {"id": row["id"], "prompt": made.prompt, "completion": made.completion}


def _not_id(rows: datasets.Dataset) -> list[str]:
    return [name for name in rows.column_names if name != "id"]


class RecordIdCollator:
    """TRL's collator, with the ids of the batch's records beside the tensors."""

    def __init__(self, collator: Any, tokenizer: Any, rows: datasets.Dataset) -> None:
        self._collator = collator
        encoder = PromptEncoder(tokenizer)
        self._ids = {tuple(encoder.example(row["prompt"], row["completion"]).ids): row["id"] for row in rows}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The collator's batch and the ids in it; a record that is not among the rows has none."""
        pieces = (piece for example in examples for piece in _records(example))
        found = [self._ids[piece] for piece in pieces if piece in self._ids]
        return {**self._collator(examples), RECORD_IDS_COLUMN: found}


def _records(example: Mapping[str, Any]) -> list[tuple[int, ...]]:
    tokens: list[int] = list(example["input_ids"])
    lengths = example.get("seq_lengths") or [len(tokens)]
    bounds = [0, *itertools.accumulate(lengths)]
    return [tuple(tokens[start:end]) for start, end in itertools.pairwise(bounds)]


SAMPLES = 3
Row = Mapping[str, str]


class Lengths(NamedTuple):
    """Tokens of a category's rows, prompt and completion and end mark."""

    shortest: int
    mean: float
    longest: int


def row_category(row_id: str) -> tuple[str, str]:
    """A row's category and the language of its answer; ids end with ``-ja``, or ``-ja2en`` for a translation."""
    category, _, languages = row_id.split("-", 2)
    source, _, language = languages.rpartition("2")
    return "translation" if source else category, language


def count_by_category(row_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """Rows by category, then language of the answer."""
    counts: dict[str, dict[str, int]] = {}
    for row_id in row_ids:
        category, language = row_category(row_id)
        here = counts.setdefault(category, {})
        here[language] = here.get(language, 0) + 1
    return counts


def token_lengths_by_category(rows: Sequence[Row], tokenizer: Any) -> dict[str, Lengths]:
    """How long the rows (``id``, ``prompt``, ``completion``) of each category are, in the tokenizer's tokens."""
    encoder = PromptEncoder(tokenizer)
    found: dict[str, list[int]] = {}
    for row in rows:
        tokens = len(encoder.example(row["prompt"], row["completion"]).ids)
        found.setdefault(row_category(row["id"])[0], []).append(tokens)
    return {name: Lengths(min(many), sum(many) / len(many), max(many)) for name, many in found.items()}


def sample_records(rows: Sequence[Row]) -> list[str]:
    """The first row, whole, of each of the first categories."""
    found: dict[str, str] = {}
    for row in rows:
        found.setdefault(row_category(row["id"])[0], row["prompt"] + row["completion"])
    return list(found.values())[:SAMPLES]
