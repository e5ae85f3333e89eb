"""Shared state of the demo's tabs: models, running jobs, and labels that follow the language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

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
from bonsai.recipes.evaluation.comparison.report import Figures
from bonsai.recipes.inference.conversation import Question
from bonsai.recipes.inference.generation import Engine, GenerationSettings
from bonsai.recipes.inference.labels import DEMO_JA, DemoLabels

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


class LocalizedComponent(NamedTuple):
    """A component, and the update that shows it in another language."""

    component: Any
    update: Callable[[DemoLabels], Any]


@dataclass(frozen=True, kw_only=True)
class DemoContext:
    """The state that all tabs share."""

    engines: Mapping[str, Engine]
    """by the name a visitor reads; loaded once, before the first visit"""
    visitors: ActiveRuns
    page: gr.Blocks
    ui_language: gr.Radio
    """the language of the page"""
    figures: Figures
    """renders the measures of a visitor's comparison"""

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


def question_field(elem_id: str, *, lines: int) -> gr.Textbox:
    """Create the field for the question."""
    return gr.Textbox(
        label=DEMO_JA.question,
        placeholder=DEMO_JA.question_hint,
        lines=lines,
        max_length=LONGEST_QUESTION,
        elem_id=elem_id,
    )


def persona_field() -> gr.Textbox:
    """Create the field for the system text."""
    return gr.Textbox(label=DEMO_JA.persona, placeholder=DEMO_JA.persona_hint, max_length=LONGEST_PERSONA)


def model_field(context: DemoContext, elem_id: str) -> gr.Dropdown:
    """Create the choice of the model; it is hidden where there is only one."""
    names = list(context.engines)
    return gr.Dropdown(names, value=names[0], label=DEMO_JA.model, visible=len(names) > 1, elem_id=elem_id)


def choices(named: Mapping[str, str]) -> list[tuple[str, str]]:
    """Order choices as gradio expects them: label, then value."""
    return [(name, key) for key, name in named.items()]


def read_question(
    question: str | None, material: str | None, language: str, persona: str | None, labels: DemoLabels
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
