"""What is asked: the test split by category and language, and the probes, read from a build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import datasets

from bonsai.builder.errors import EvaluationError
from bonsai.builder.prompt import to_prompt_completion
from bonsai.builder.schema import Category
from bonsai.recipes.training.data import matches_recipe
from bonsai.recipes.training.recipe import Recipe

Task = Literal[
    "single_answer", "accepted", "classification", "translation", "creative", "brainstorming", "deepening", "free"
]
"""how an answer is scored; ``free``: by its form only"""

_TASKS: dict[str, Task] = {
    Category.OPEN_QA: "single_answer",
    Category.CLOSED_QA: "single_answer",
    Category.CLASSIFICATION: "classification",
    Category.BRAINSTORMING: "brainstorming",
    Category.CREATIVE: "creative",
    Category.TRANSLATION: "translation",
    Category.QUESTION_TO_QUESTION: "deepening",
}
_TRANSLATING = ("ja2en", "en2ja", "chinese")
"""kinds of probes that ask for a translation where question and answer differ in language"""

_Any = TypeVar("_Any")


@dataclass(frozen=True, kw_only=True)
class EvalItem:
    """One question with what is known of a good answer."""

    id: str
    origin: Literal["test", "probe"]
    category: str
    """of a test row; of a probe its kind"""
    task: Task
    language: str
    """of the answer"""
    source_language: str | None
    """of the text to be translated; of a probe, of its question where that is another than the answer's"""
    instruction: str
    input: str
    reference: str
    accepted: tuple[str, ...] = ()
    """short variants, any of which makes the answer right"""

    @property
    def prompt(self) -> str:
        """As the adapter's chat template asks: it ends with the marker of the Reasoning, for every category."""
        return to_prompt_completion(self.instruction, self.input, reasoning="…", output="").prompt

    @property
    def spoken(self) -> str:
        """Language, or for two of them the direction: en, ja2en."""
        return f"{self.source_language}2{self.language}" if self.source_language else self.language


def read_items(recipe: Recipe, dataset: Path, *, limit: int | None = None) -> list[EvalItem]:
    """The test rows and probes in the recipe's categories and languages.

    Args:
        dataset: the build, `out/dataset`.
        limit: at most so many of each category (or kind of probe) and language, evenly spread; None: all.

    Raises:
        EvaluationError: there is no build, or the recipe selects nothing in it.
    """
    files = {"test": dataset / "default" / "test-*.parquet", "probes": dataset / "probes" / "test-*.parquet"}
    missing = [str(path) for path in files.values() if not list(path.parent.glob(path.name))]
    if missing:
        raise EvaluationError(f"{', '.join(missing)}: no dataset is built here; run `nox -s build` first")
    rows = _rows(files["test"])
    names = rows.features["category"].names
    items = [_test_item(row, name) for row in rows if matches_recipe(recipe, name := names[row["category"]], row)]
    items += [
        _probe_item(row)
        for row in _rows(files["probes"])
        if {row["language"], row["answer_language"]} <= set(recipe.languages)
    ]
    if not items:
        raise EvaluationError(f"{recipe.repo_id}: its categories and languages select nothing to ask; widen them")
    groups: dict[tuple[str, str, str], list[EvalItem]] = {}
    for item in items:
        groups.setdefault((item.origin, item.category, item.spoken), []).append(item)
    return [item for group in groups.values() for item in (group if limit is None else evenly_spaced(group, limit))]


def evenly_spaced(items: Sequence[_Any], most: int) -> list[_Any]:
    """At most so many, evenly spaced, the first among them."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def _rows(files: Path) -> datasets.Dataset:
    return datasets.load_dataset("parquet", data_files=str(files), split="train")


def _test_item(row: dict[str, Any], category: str) -> EvalItem:
    return EvalItem(
        id=row["id"],
        origin="test",
        category=category,
        task=_TASKS[category],
        language=row["language"],
        source_language=row["source_language"],
        instruction=row["instruction"],
        input=row["input"],
        reference=row["output"],
    )


def _probe_item(row: dict[str, Any]) -> EvalItem:
    crosses = row["language"] != row["answer_language"]
    task: Task = "free"
    if row["accepted"]:
        task = "accepted"
    elif crosses and row["kind"] in _TRANSLATING:
        task = "translation"
    return EvalItem(
        id=row["id"],
        origin="probe",
        category=row["kind"],
        task=task,
        language=row["answer_language"],
        source_language=row["language"] if crosses else None,
        instruction=row["instruction"],
        input=row["input"],
        reference=row["reference"],
        accepted=tuple(row["accepted"]),
    )
