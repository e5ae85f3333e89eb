"""Read the evaluation's questions from a build: the test split by category and language, and the probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

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
TRANSLATION_PROBES = ("ja2en", "en2ja", "chinese")
"""kinds of probes that ask for a translation where question and answer differ in language"""

_Any = TypeVar("_Any")


@dataclass(frozen=True, kw_only=True)
class EvalItem:
    """One question, with what is known of a good answer."""

    id: str
    origin: Literal["test", "probe"]
    category: str
    """a test row's category, a probe's kind"""
    task: Task
    language: str
    """of the answer"""
    source_language: str | None
    """of the text to translate; for a probe, of the question if it differs from the answer's"""
    instruction: str
    input: str
    reference: str
    accepted: tuple[str, ...] = ()
    """short variants, any of which makes the answer right"""
    history: tuple[tuple[str, str], ...] = ()
    """earlier turns: instruction and response"""

    @property
    def prompt(self) -> str:
        """The prompt as the adapter's chat template renders it; it ends with the Reasoning marker in every category."""
        return to_prompt_completion(self.instruction, self.input, "…", "", self.history).prompt

    @property
    def language_pair(self) -> str:
        """The language, or the direction if there are two: ``en``, ``ja2en``."""
        return f"{self.source_language}2{self.language}" if self.source_language else self.language


def read_items(recipe: Recipe, dataset: Path, *, limit: int | None = None) -> list[EvalItem]:
    """Read the test rows and probes in the recipe's categories and languages.

    Args:
        dataset: the build, `out/dataset`.
        limit: at most this many of each category (or kind of probe) and language, evenly spaced; `None`: all.

    Raises:
        EvaluationError: there is no build, or the recipe selects nothing in it.
    """
    # 1. Load both configs of the build.
    files = {"test": dataset / "default" / "test-*.parquet", "probes": dataset / "probes" / "test-*.parquet"}
    missing = [str(path) for path in files.values() if not list(path.parent.glob(path.name))]
    if missing:
        raise EvaluationError(f"{', '.join(missing)}: there is no dataset here; run `nox -s build` first")
    rows, probes = (datasets.load_dataset("parquet", data_files=str(path), split="train") for path in files.values())

    # 2. Take the test rows in the recipe's categories and languages.
    names = rows.features["category"].names
    items = [
        EvalItem(
            id=row["id"],
            origin="test",
            category=category,
            task=_TASKS[category],
            language=row["language"],
            source_language=row["source_language"],
            instruction=row["instruction"],
            input=row["input"],
            reference=row["output"],
            history=tuple((asked, answered) for asked, answered in row.get("history") or ()),
        )
        for row in rows
        if matches_recipe(recipe, category := names[row["category"]], row)
    ]

    # 3. Take the probes whose question and answer are in the recipe's languages.
    for row in probes:
        if not {row["language"], row["answer_language"]} <= set(recipe.languages):
            continue
        is_bilingual = row["language"] != row["answer_language"]
        is_translation = is_bilingual and row["kind"] in TRANSLATION_PROBES
        items.append(
            EvalItem(
                id=row["id"],
                origin="probe",
                category=row["kind"],
                task="accepted" if row["accepted"] else "translation" if is_translation else "free",
                language=row["answer_language"],
                source_language=row["language"] if is_bilingual else None,
                instruction=row["instruction"],
                input=row["input"],
                reference=row["reference"],
                accepted=tuple(row["accepted"]),
            )
        )
    if not items:
        raise EvaluationError(f"{recipe.repo_id}: its categories and languages select no questions; widen them")

    # 4. Sample each category and language evenly.
    groups: dict[tuple[str, str, str], list[EvalItem]] = {}
    for item in items:
        groups.setdefault((item.origin, item.category, item.language_pair), []).append(item)
    return [item for group in groups.values() for item in (group if limit is None else evenly_spaced(group, limit))]


def evenly_spaced(items: Sequence[_Any], most: int) -> list[_Any]:
    """Take at most ``most`` items, evenly spaced, beginning with the first."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]
