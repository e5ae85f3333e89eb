"""Shared state and parts of the demo's tabs: models, running jobs, HTML, and labels that follow the language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import gradio as gr

from bonsai.builder.assets import html_environment
from bonsai.builder.errors import UserInputError
from bonsai.builder.schema import Language
from bonsai.recipes.demo.background import (
    LONGEST_MATERIAL,
    LONGEST_PERSONA,
    LONGEST_QUESTION,
    SECONDS,
    ActiveRuns,
    check_length,
    check_question,
)
from bonsai.recipes.inference.conversation import Question
from bonsai.recipes.inference.generation import Engine, GenerationSettings
from bonsai.recipes.inference.labels import DEMO_JA, Labels

ANSWER_TOKENS = 384
"""at most, so that an answer does not keep other visitors waiting for long"""
DECODER = GenerationSettings(max_new_tokens=ANSWER_TOKENS)
MODEL_EVENT: Mapping[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "time_limit": int(SECONDS),
    "api_visibility": "private",
    "show_progress": "hidden",
}
"""of every event that asks the model: one at a time over all tabs"""


@cache
def _parts() -> Any:
    return html_environment(__package__).get_template("parts.html.j2").module


def render(part: str, *values: Any) -> str:
    """Render a macro of ``parts.html.j2``; jinja2 escapes every text of a model or a visitor."""
    return str(getattr(_parts(), part)(*values)).strip()


class LocalizedComponent(NamedTuple):
    """A component, and the update that shows it in another language."""

    component: Any
    update: Callable[[Labels], Any]


@dataclass(frozen=True, kw_only=True)
class DemoContext:
    """The state that all tabs share."""

    engines: Mapping[str, Engine]
    """by the name a visitor reads; loaded once, before the first visit"""
    visitors: ActiveRuns
    page: gr.Blocks
    ui_language: gr.Radio
    """the language of the page"""
    localized: list[LocalizedComponent] = field(default_factory=list)
    """what has to be shown anew when that changes"""

    def add(
        self, component: Callable[..., Any], texts: Mapping[str, str | Callable[[Labels], Any]], **options: Any
    ) -> Any:
        """Create a component with texts in the language of the page.

        Args:
            texts: by the component's property, the label's name, or a function that makes the text of the labels; a
                label that is a table of choices becomes gradio's pairs of label and value.
            options: the properties that are the same in both languages.
        """

        def localize(labels: Labels) -> dict[str, Any]:
            found = {name: text(labels) if callable(text) else getattr(labels, text) for name, text in texts.items()}
            return {
                name: [(label, value) for value, label in text.items()] if isinstance(text, dict) else text
                for name, text in found.items()
            }

        made = component(**localize(DEMO_JA), **options)
        self.localized.append(LocalizedComponent(made, lambda labels: gr.update(**localize(labels))))
        return made

    def engine(self, name: str) -> Engine:
        """Look an engine up by name.

        Raises:
            UserInputError: the page does not offer it.
        """
        if name not in self.engines:
            raise UserInputError(f"{name}: ?")
        return self.engines[name]

    def stop(self, request: gr.Request) -> None:
        """Stop this visitor's run."""
        self.visitors.stop(request.session_hash or "")


def question_field(context: DemoContext, elem_id: str, *, lines: int) -> Any:
    """Create the field for the question."""
    texts = {"label": "question", "placeholder": "question_hint"}
    return context.add(gr.Textbox, texts, lines=lines, max_length=LONGEST_QUESTION, elem_id=elem_id)


def persona_field(context: DemoContext) -> Any:
    """Create the field for the system text."""
    return context.add(gr.Textbox, {"label": "persona", "placeholder": "persona_hint"}, max_length=LONGEST_PERSONA)


def language_field(context: DemoContext) -> Any:
    """Create the choice of the answer's language."""
    return context.add(gr.Radio, {"label": "language", "choices": "languages"}, value="same")


def model_field(context: DemoContext, elem_id: str) -> Any:
    """Create the choice of the model; it is hidden where there is only one."""
    names = list(context.engines)
    return context.add(
        gr.Dropdown, {"label": "model"}, choices=names, value=names[0], visible=len(names) > 1, elem_id=elem_id
    )


def read_question(
    question: str | None, material: str | None, language: str, persona: str | None, labels: Labels
) -> Question:
    """Put the fields of a visitor together into a question.

    Raises:
        UserInputError: a field is empty or too long.
    """
    return Question(
        instruction=check_question(question, labels),
        input=check_length(labels.material, material, LONGEST_MATERIAL, labels),
        language=None if language == "same" else Language(language),
        system=check_length(labels.persona, persona, LONGEST_PERSONA, labels),
    )
