"""What the tabs share: the models, the visitors, and labels that change with the language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Question
from bonsai.recipes.inference.demo.compared import Figures
from bonsai.recipes.inference.demo.errors import VisitorError
from bonsai.recipes.inference.demo.limits import (
    LONGEST_MATERIAL,
    LONGEST_PERSONA,
    LONGEST_QUESTION,
    SECONDS,
    a_question,
    within,
)
from bonsai.recipes.inference.demo.running import Visitors
from bonsai.recipes.inference.demo.words import JA, Words
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Engine

ANSWER_TOKENS = 384
"""at most; a visitor's computer is somebody else's"""
DECODER = Decoder(max_new_tokens=ANSWER_TOKENS)
MODEL_EVENT: Mapping[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "time_limit": int(SECONDS),
    "api_visibility": "private",
    "show_progress": "hidden",
}
"""of every event that asks the model: one at a time over all tabs"""


class Labelled(NamedTuple):
    """A component and how it looks in a language."""

    component: Any
    looks: Callable[[Words], Any]


@dataclass(frozen=True, kw_only=True)
class House:
    """What every tab is given."""

    engines: Mapping[str, Engine]
    """by the name a visitor reads; loaded once, before the first visit"""
    visitors: Visitors
    page: gr.Blocks
    tongue: gr.Radio
    """the language of the page"""
    figures: Figures
    """measures what a visitor had compared"""

    def engine(self, name: str) -> Engine:
        """The engine of this name.

        Raises:
            VisitorError: it is not among those offered.
        """
        if name not in self.engines:
            raise VisitorError(f"{name}: ?")
        return self.engines[name]

    def stop(self, request: gr.Request) -> None:
        """Stop what this visitor has running."""
        self.visitors.stop(request.session_hash or "")


def question_field(elem_id: str, *, lines: int) -> gr.Textbox:
    """The question itself."""
    return gr.Textbox(
        label=JA.question, placeholder=JA.question_hint, lines=lines, max_length=LONGEST_QUESTION, elem_id=elem_id
    )


def persona_field() -> gr.Textbox:
    """System text before the question."""
    return gr.Textbox(label=JA.persona, placeholder=JA.persona_hint, max_length=LONGEST_PERSONA)


def model_field(house: House, elem_id: str) -> gr.Dropdown:
    """Which model is asked; hidden where there is only one."""
    names = list(house.engines)
    return gr.Dropdown(names, value=names[0], label=JA.model, visible=len(names) > 1, elem_id=elem_id)


def choices(named: Mapping[str, str]) -> list[tuple[str, str]]:
    """As gradio wants them: what is read, then what is meant."""
    return [(name, key) for key, name in named.items()]


def question_of(
    question: str | None, material: str | None, language: str, persona: str | None, said: Words
) -> Question:
    """The question that a visitor has filled in.

    Raises:
        VisitorError: a field is empty or too long.
    """
    return Question(
        instruction=a_question(question, said),
        input=within(said.material, material, LONGEST_MATERIAL, said),
        language=None if language == "same" else Language(language),
        system=within(said.persona, persona, LONGEST_PERSONA, said),
    )
