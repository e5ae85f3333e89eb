"""Renders the README.md that the Hub shows for the dataset: facts in, Markdown out."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from bonsai.dataset_card.facts import ConfigFacts, DatasetFacts, ExampleFacts
from bonsai.dataset_card.guards import GUARDS
from bonsai.dataset_card.guideline import GUIDELINE

__all__ = ["ConfigFacts", "DatasetFacts", "ExampleFacts", "fenced", "front_matter", "render", "size_category"]

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's own names for sizes, by the number of rows they end at."""

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&$~]")
_LINE_START = re.compile(r"^(\d*)([-+=.)])")


def render(facts: DatasetFacts) -> str:
    """The whole README.md: YAML front matter, then Markdown in English and Japanese."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    body = template.render(facts=facts, guideline=GUIDELINE, guards=GUARDS, fenced=fenced, inline=inline, quoted=quoted)
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


def quoted(text: str) -> str:
    """A quotation that wraps where a code block would run off the page; its lines stay lines, its markup stays text."""
    lines = [_LINE_START.sub(r"\1\\\2", inline(line)) for line in text.strip().split("\n")]
    shown = [line + ("\\" if line and after else "") for line, after in zip(lines, [*lines[1:], ""], strict=True)]
    return "\n".join(f"> {line}".rstrip() for line in shown)


def inline(text: str) -> str:
    """Text from a record in running Markdown or a table cell: nothing in it is taken for markup."""
    line = " ".join(text.split())
    return _MARKUP.sub(r"\\\g<0>", line)
