"""The rows a recipe learns from, read from a build or from the Hub at the pinned revision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from bonsai.builder.bonsai import VERSION
from bonsai.builder.build import content_hash
from bonsai.recipes.training.prompt import example
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


def training_rows(recipe: Recipe, dataset: Path) -> TrainingRows:
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
        name: rows.map(lambda row: as_example(recipe, row), remove_columns=_not_id(rows))
        for name, rows in chosen.items()
    }
    for name, rows in splits.items():
        if not len(rows):
            raise RecipeError(f"{recipe.repo_id}: its categories and languages select no {name} row; widen them")
    return TrainingRows(
        train=splits["train"],
        validation=spread(splits["validation"], recipe.max_eval_samples),
        content_hash=content_hash(dataset),
        generators=dict(Counter(chosen["train"]["generator"]).most_common()),
    )


def _wanted_rows(recipe: Recipe, rows: datasets.Dataset) -> datasets.Dataset:
    names = rows.features["category"].names
    return rows.select([number for number, row in enumerate(rows) if is_wanted(recipe, names[row["category"]], row)])


def spread(rows: datasets.Dataset, most: int) -> datasets.Dataset:
    """At most this many rows, evenly spaced: the rows lie in the order of their categories."""
    if len(rows) <= most:
        return rows
    return rows.select([number * len(rows) // most for number in range(most)])


def is_wanted(recipe: Recipe, category: str, row: dict[str, Any]) -> bool:
    """Whether the recipe learns from this row."""
    spoken = {row["language"]} | ({row["source_language"]} if row["source_language"] else set())
    return category in recipe.categories and spoken <= set(recipe.languages)


def as_example(recipe: Recipe, row: dict[str, Any]) -> dict[str, str]:
    """The row as id, prompt and completion."""
    reasoning = row["reasoning"]
    if recipe.reasoning == "original" and row["reasoning_original"] is not None:
        reasoning = row["reasoning_original"]
    made = example(row["instruction"], row["input"], reasoning, row["output"])
    return {"id": row["id"], "prompt": made.prompt, "completion": made.completion}


def _not_id(rows: datasets.Dataset) -> list[str]:
    return [name for name in rows.column_names if name != "id"]
