"""Renders the README.md that the Hub shows for the dataset.

Everything that can be counted comes in as a fact, so the card cannot disagree with the data it lies beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's own names for sizes, by the number of rows they end at."""


@dataclass(frozen=True, kw_only=True)
class ConfigFacts:
    """One config: its name, what it holds, and its rows by split."""

    name: str
    description: str
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ExampleFacts:
    """One row shown in the card."""

    category: str
    instruction: str
    input: str
    reasoning: str
    output: str


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What the card states about one build."""

    repo_id: str
    version: str
    groups: int
    rows: int
    improved_reasoning: int
    """groups whose earlier Reasoning is kept beside the improved one"""
    languages: Sequence[str]
    configs: Sequence[ConfigFacts]
    category_language: Mapping[str, Mapping[str, int]]
    """rows by category and language"""
    examples: Sequence[ExampleFacts]
    generators: Mapping[str, int]
    """groups by the name of what wrote them"""
    metadata: Mapping[str, Any]
    """`configs` and `dataset_info`, as `datasets` writes them"""


def render(facts: DatasetFacts) -> str:
    """The whole README.md: YAML front matter, then Markdown in English and Japanese."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    body = template.render(facts=facts, fenced=fenced)
    return f"---\n{front_matter(facts)}---\n\n{body.strip()}\n"


def front_matter(facts: DatasetFacts) -> str:
    """The YAML block, in the order the Hub's own cards use."""
    data: dict[str, Any] = {
        "license": "mit",
        "language": list(facts.languages),
        "pretty_name": "BONSAI 盆栽",
        "task_categories": ["question-answering", "text-generation", "text-classification", "translation"],
        "size_categories": [size_category(facts.rows)],
        "multilinguality": ["multilingual", "translation"],
        "source_datasets": ["original"],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "tags": ["instruction-tuning", "reasoning", "alpaca-format", "parallel-text", "question-to-question", "bonsai"],
        **facts.metadata,
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def size_category(rows: int) -> str:
    """The Hub's name for this many rows."""
    return next((name for end, name in SIZE_CATEGORIES if rows < end), "n>1M")


def fenced(text: str) -> str:
    """A block of text that shows as it stands, whatever it holds."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
