"""Load the rows a recipe trains on, describe them, and name the records in each batch.

The records are looked up in the collator, on the CPU: reading token ids back from the GPU would make every step wait.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from bonsai.builder.build import content_hash
from bonsai.builder.prompt import PromptEncoder, to_prompt_completion
from bonsai.recipes.training.engine import RECORD_IDS_COLUMN
from bonsai.recipes.training.pinned_dataset import find_dataset
from bonsai.recipes.training.recipe import Recipe, RecipeError

SAMPLES = 3
Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows of one recipe, with the columns id, prompt, completion."""

    train: datasets.Dataset
    validation: datasets.Dataset
    content_hash: str
    """of the dataset's Parquet, by which publishing finds the commit that holds it"""
    folder: Path = Path()
    """of the dataset's Parquet: the build, or the Hub's release in the cache"""
    repo_id: str = ""
    """of the dataset"""
    rows_by_category: dict[str, dict[str, int]] = field(default_factory=dict)
    """training rows by category, then by language of the answer"""
    generators: dict[str, int] = field(default_factory=dict)
    """training rows by the column `generator`, the most frequent first"""


def load_training_rows(recipe: Recipe, dataset: Path) -> TrainingRows:
    """Load the rows that ``recipe`` selects from the dataset it pins.

    Args:
        dataset: the build; if it is another version, the pinned one is fetched from the Hub.

    Raises:
        RecipeError: the pinned version is neither here nor on a Hub in reach, or the recipe selects nothing.
    """
    dataset, repo_id = find_dataset(recipe, dataset)
    files = {split: str(dataset / "default" / f"{split}-*.parquet") for split in ("train", "validation")}
    loaded = datasets.load_dataset("parquet", data_files=files)
    splits, generators = {}, Counter[str]()
    counts: dict[str, dict[str, int]] = {}
    for name, rows in loaded.items():
        categories = rows.features["category"].names
        wanted = [matches_recipe(recipe, categories[row["category"]], row) for row in rows]
        chosen = rows.select([number for number, keep in enumerate(wanted) if keep])
        if not len(chosen):
            raise RecipeError(f"{recipe.repo_id}: its categories and languages select no {name} row; widen them")
        other_columns = [column for column in rows.column_names if column != "id"]
        splits[name] = chosen.map(partial(to_training_row, recipe), remove_columns=other_columns)
        if name == "train":
            generators.update(chosen["generator"])
            counts = count_by_category((categories[row["category"]], row["language"]) for row in chosen)
    return TrainingRows(
        train=splits["train"],
        validation=evenly_spaced(splits["validation"], recipe.max_eval_samples),
        content_hash=content_hash(dataset),
        folder=dataset,
        repo_id=repo_id,
        rows_by_category=counts,
        generators=dict(generators.most_common()),
    )


def evenly_spaced(rows: datasets.Dataset, most: int) -> datasets.Dataset:
    """Take at most this many rows, evenly spaced, so that all categories are represented: rows are sorted by them."""
    if len(rows) <= most:
        return rows
    return rows.select([number * len(rows) // most for number in range(most)])


def matches_recipe(recipe: Recipe, category: str, row: dict[str, Any]) -> bool:
    """Whether the recipe learns from this row."""
    languages = {row["language"], row["source_language"] or row["language"]}
    return category in recipe.categories and languages <= set(recipe.languages)


def to_training_row(recipe: Recipe, row: dict[str, Any]) -> dict[str, str]:
    """Convert a dataset row to id, prompt and completion."""
    reasoning = row["reasoning"]
    if recipe.reasoning == "original" and row["reasoning_original"] is not None:
        reasoning = row["reasoning_original"]
    # Versions before 0.2.0 have no earlier turns.
    pair = to_prompt_completion(row["instruction"], row["input"], reasoning, row["output"], row.get("history") or ())
    return {"id": row["id"], "prompt": pair.prompt, "completion": pair.completion}


class RecordIdCollator:
    """Wrap TRL's collator and add the ids of the batch's records under `RECORD_IDS_COLUMN`."""

    def __init__(self, collator: Any, tokenizer: Any, rows: datasets.Dataset) -> None:
        self._collator = collator
        encoder = PromptEncoder(tokenizer)
        self._ids = {tuple(encoder.example(row["prompt"], row["completion"]).ids): row["id"] for row in rows}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate, and look up each record by its tokens; one that is not among the rows is skipped."""
        found = []
        for example in examples:
            tokens: list[int] = list(example["input_ids"])
            # A packed example holds several records one after the other.
            bounds = [0, *itertools.accumulate(example.get("seq_lengths") or [len(tokens)])]
            for start, end in itertools.pairwise(bounds):
                if row_id := self._ids.get(tuple(tokens[start:end])):
                    found.append(row_id)
        return {**self._collator(examples), RECORD_IDS_COLUMN: found}


class Lengths(NamedTuple):
    """Tokens of a category's rows: prompt, completion and EOS."""

    shortest: int
    mean: float
    longest: int


def row_category(row_id: str) -> tuple[str, str]:
    """Return category and language that a row's id names: ``open_qa-0042-ja`` -> ``("open_qa", "ja")``.

    A translation's id ends with both languages: ``translation-0001-ja2en`` -> ``("translation", "en")``. Elsewhere it
    is that of the question, and the column ``language`` that of the answer.
    """
    category, _, languages = row_id.split("-", 2)
    source, _, language = languages.rpartition("2")
    return "translation" if source else category, language


def count_by_category(rows: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Count rows, each given as its category and the language of its answer, by category and then by language."""
    counts: dict[str, dict[str, int]] = {}
    for category, language in rows:
        by_language = counts.setdefault(category, {})
        by_language[language] = by_language.get(language, 0) + 1
    return counts


def token_lengths_by_category(rows: Sequence[Row], tokenizer: Any) -> dict[str, Lengths]:
    """Measure the rows (``id``, ``prompt``, ``completion``) of each category in the tokenizer's tokens."""
    encoder = PromptEncoder(tokenizer)
    found: dict[str, list[int]] = {}
    for row in rows:
        tokens = len(encoder.example(row["prompt"], row["completion"]).ids)
        found.setdefault(row_category(row["id"])[0], []).append(tokens)
    return {name: Lengths(min(many), sum(many) / len(many), max(many)) for name, many in found.items()}


def sample_records(rows: Sequence[Row]) -> list[str]:
    """Return the first row, prompt and completion, of each of the first `SAMPLES` categories."""
    found: dict[str, str] = {}
    for row in rows:
        found.setdefault(row_category(row["id"])[0], row["prompt"] + row["completion"])
    return list(found.values())[:SAMPLES]
