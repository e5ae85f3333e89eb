"""Render the dataset's README.md: YAML front matter, then Markdown in English and Japanese."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, StrictUndefined

from bonsai.dataset_card.facts import DatasetFacts

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""the Hub's names for sizes, by the number of rows they end at"""

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&$~]")
_LINE_START = re.compile(r"^(\d*)([-+=.)])")

GUARDS: Mapping[str, str] = {
    "form": "labels that nobody offered, too few ideas, a constraint not kept, two questions where one was asked",
    "language": "text in the wrong language, or in two at once",
    "unicode": "garbled, invisible, unpaired or odd characters, and punctuation of another language",
    "repetition": "answers that repeat themselves",
    "reasoning": "Reasoning that restates the question, announces the answer, or is no better than the earlier one",
    "personal data": "personal data, keys and passwords",
    "provenance": "a source, licence or generator that is missing or not ours to give",
    "contradiction": "one question with two answers",
    "parallel": "parallel languages that differ in a number, a date, a name, yes or no",
    "duplicates": "records that say nearly the same",
    "templates": "groups that differ only in a name or a number",
    "leakage": "held-out records that stand in train as well",
    "tautology": "questions that go in circles",
    "chains": "chains of questions with a gap or a changed word",
    "balance": "a lean towards one category, language, topic or length",
    "decontamination": "records that give away a probe: its question, or the fact that it asks for",
}
"""what each check keeps out of the dataset, by the name of the check"""


class GuidelineRule(NamedTuple):
    """The definition of an answer of one category, in three languages."""

    ja: str
    en: str
    zh: str


_ONE_ANSWER = GuidelineRule(
    ja="（最も確からしい）答えが1つだけある。答えの内容はLLMから参照される。",
    en="There is exactly one (most probable) answer. Its content comes from the LLM.",
    zh="只有一个（最可能的）答案。答案的内容来自大语言模型。",
)
_NO_ANSWER = GuidelineRule(
    ja="答えという概念自体がない。答えの内容はLLMから参照される。",
    en='There is no notion of "the answer" at all. The content comes from the LLM.',
    zh="根本不存在“答案”这个概念。内容来自大语言模型。",
)
GUIDELINE: Mapping[str, GuidelineRule] = {
    "open_qa": _ONE_ANSWER,
    "closed_qa": GuidelineRule(
        ja="（最も確からしい）答えが1つだけある。答えの大部分は質問の内容から得られる。",
        en="There is exactly one (most probable) answer. Most of it comes from the content of the question.",
        zh="只有一个（最可能的）答案。答案的大部分可以从问题的内容中得到。",
    ),
    "classification": GuidelineRule(
        ja="答えが1つだけある。答えの大部分は質問の内容から得られる。",
        en="There is exactly one answer. Most of it comes from the content of the question.",
        zh="只有一个答案。答案的大部分可以从问题的内容中得到。",
    ),
    "brainstorming": GuidelineRule(
        ja="答えが複数ある。答えの内容はLLMから参照される。",
        en="There are several answers. Their content comes from the LLM.",
        zh="有多个答案。答案的内容来自大语言模型。",
    ),
    "creative": _NO_ANSWER,
    "translation": _ONE_ANSWER,
    "question_to_question": _NO_ANSWER,
}
"""by category, in the order of the post"""


def render(facts: DatasetFacts) -> str:
    """Render the whole README.md."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    body = template.render(
        facts=facts, guideline=GUIDELINE, guards=GUARDS, fenced=fenced, inline=inline, quoted=blockquote
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
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "tags": ["instruction-tuning", "reasoning", "alpaca-format", "parallel-text", "question-to-question", "bonsai"],
        **facts.metadata,
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


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
