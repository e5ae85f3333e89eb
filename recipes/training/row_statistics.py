"""The training rows as the card tells of them: how many, how long, and some of them whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bonsai.recipes.training.prompt import PromptEncoder

SAMPLES = 3
Row = Mapping[str, str]


class Lengths(NamedTuple):
    """Tokens of a category's rows, prompt and completion and end mark."""

    shortest: int
    mean: float
    longest: int


def kind(row_id: str) -> tuple[str, str]:
    """A row's category and the language of its answer; ids end with ``-ja``, or ``-ja2en`` for a translation."""
    category, _, languages = row_id.split("-", 2)
    source, _, language = languages.rpartition("2")
    return "translation" if source else category, language


def counted(row_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """Rows by category, then language of the answer."""
    counts: dict[str, dict[str, int]] = {}
    for row_id in row_ids:
        category, language = kind(row_id)
        here = counts.setdefault(category, {})
        here[language] = here.get(language, 0) + 1
    return counts


def lengths(rows: Sequence[Row], tokenizer: Any) -> dict[str, Lengths]:
    """How long the rows (``id``, ``prompt``, ``completion``) of each category are, in the tokenizer's tokens."""
    encoder = PromptEncoder(tokenizer)
    found: dict[str, list[int]] = {}
    for row in rows:
        tokens = len(encoder.example(row["prompt"], row["completion"]).ids)
        found.setdefault(kind(row["id"])[0], []).append(tokens)
    return {name: Lengths(min(many), sum(many) / len(many), max(many)) for name, many in found.items()}


def samples(rows: Sequence[Row]) -> list[str]:
    """The first row, whole, of each of the first categories."""
    found: dict[str, str] = {}
    for row in rows:
        found.setdefault(kind(row["id"])[0], row["prompt"] + row["completion"])
    return list(found.values())[:SAMPLES]
