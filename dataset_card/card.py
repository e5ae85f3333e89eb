"""Render the dataset's README.md: YAML front matter, then Markdown in English and Japanese."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from bonsai.dataset_card.facts import DatasetFacts

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""the Hub's names for sizes, by the number of rows they end at"""

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&$~]")
_MODEL = re.compile(
    r"(?i)\b(?:(?:language )?models?|llms?|gpt|claude|gemini|gemma|llama|qwen|mistral|phi)\b|言語モデル|模型"
)
"""in the column ``generator``"""
_LINE_START = re.compile(r"^(\d*)([-+=.)])")

_LANGUAGE_NAMES = {"ja": "Japanese", "en": "English", "zh": "Chinese"}
_TABLES = tomllib.loads(files(__package__).joinpath("guideline.toml").read_text(encoding="utf-8"))
GUARDS: Mapping[str, str] = _TABLES["guards"]
"""what each check keeps out of the dataset, by the name of the check"""
GUIDELINE: Mapping[str, Mapping[str, str]] = _TABLES["guideline"]
"""what an answer of each category is, in three languages"""


def render(facts: DatasetFacts) -> str:
    """Render the whole README.md."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    body = template.render(
        facts=facts,
        language_names=_LANGUAGE_NAMES,
        guideline=GUIDELINE,
        guards=GUARDS,
        fenced=fenced,
        inline=inline,
        quoted=blockquote,
    )
    return f"---\n{front_matter(facts)}---\n\n{body.strip()}\n"


def front_matter(facts: DatasetFacts) -> str:
    """Format the YAML block, in the order of the Hub's own cards."""
    data: dict[str, Any] = {
        "license": "mit",
        "language": list(facts.languages),
        "pretty_name": "BONSAI 盆栽",
        "task_categories": ["question-answering", "text-generation", "text-classification", "translation"],
        "size_categories": [size_category(facts.rows)],
        "multilinguality": ["multilingual", "translation"],
        "source_datasets": ["original"],
        "annotations_creators": creators(facts.generators),
        "language_creators": creators(facts.generators),
        "tags": ["instruction-tuning", "reasoning", "alpaca-format", "parallel-text", "question-to-question", "bonsai"],
        **facts.metadata,
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def creators(generators: Iterable[str]) -> list[str]:
    """Return the Hub's names for who wrote the texts: a language model, people who know what they do, or both."""
    by_model = [_MODEL.search(name) is not None for name in generators]
    return ["machine-generated"] * any(by_model) + ["expert-generated"] * (not all(by_model))


def size_category(rows: int) -> str:
    """Return the Hub's name for a number of rows."""
    return next((name for end, name in SIZE_CATEGORIES if rows < end), "n>1M")


def fenced(text: str) -> str:
    """Fence a text as a code block, with a fence longer than any inside it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def blockquote(text: str) -> str:
    """Quote a text with its line breaks and its markup escaped; unlike a code block, it wraps to the page."""
    lines = [_LINE_START.sub(r"\1\\\2", inline(line)) for line in text.strip().split("\n")]
    shown = [line + ("\\" if line and after else "") for line, after in zip(lines, [*lines[1:], ""], strict=True)]
    return "\n".join(f"> {line}".rstrip() for line in shown)


def inline(text: str) -> str:
    """Escape a record's text for running Markdown or a table cell."""
    line = " ".join(text.split())
    return _MARKUP.sub(r"\\\g<0>", line)
