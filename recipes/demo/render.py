"""Render the demo's HTML; jinja2 escapes every text of a model or a visitor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, cast

from jinja2 import Environment, StrictUndefined

from bonsai.builder.schema import TextGroup, TranslationGroup
from bonsai.recipes.evaluation.comparison.report import Answers
from bonsai.recipes.inference.conversation import Answer, QuestionChain
from bonsai.recipes.inference.labels import DemoLabels
from bonsai.recipes.inference.labels import load_labels as summary_words


def render_notice(text: str, *, error: bool = False) -> str:
    """Render a sentence by itself."""
    return _part("notice", text, "error" if error else "note")


def render_partial_answer(reasoning: str, answer: str, language: str, labels: DemoLabels) -> str:
    """Render an answer that is still being written."""
    return _part("growing", reasoning, answer, language, labels)


def render_answer(answer: Answer, labels: DemoLabels) -> str:
    """Render a complete answer."""
    return _part("complete", answer, labels)


def steps(chain: QuestionChain, labels: DemoLabels, note: str = "") -> str:
    """Render the steps of a chain so far, with a sentence below them."""
    return _part("steps", chain, labels, summary_words(chain.language), note)


def render_iframe(html: str, title: str) -> str:
    """Render a whole page in a sandboxed frame: no scripts, no access to the page around it."""
    return _part("framed", html, title)


def groups(found: Sequence[TextGroup | TranslationGroup], languages: Sequence[str], labels: DemoLabels) -> str:
    """Render records with their languages side by side."""
    return _part("groups", found, languages, labels)


def comparison(
    questions: Sequence[str], names: Sequence[str], answers: Answers, labels: DemoLabels, *, over: bool = False
) -> str:
    """Render each question with the models' answers side by side.

    Args:
        over: whether no more answers come.
    """
    return _part("comparison", questions, names, answers, labels, over)


def style() -> str:
    """Read the style sheet of all pieces."""
    return files(__package__).joinpath("demo.css").read_text(encoding="utf-8")


def _part(name: str, *values: Any) -> str:
    return str(cast(Any, _macros())[name](*values)).strip()


@cache
def _macros() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files(__package__).joinpath("parts.html.j2").read_text(encoding="utf-8")
    module = environment.from_string(source).module
    return {
        name: getattr(module, name)
        for name in ("notice", "growing", "complete", "steps", "framed", "groups", "comparison")
    }
