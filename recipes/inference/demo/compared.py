"""What a visitor had compared, handed to whoever measures it: that is done a floor above, where models are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.demo.words import Tongue
from bonsai.recipes.inference.generation.decoder import Decoder

Answers = Mapping[tuple[int, str], Sequence[Answer]]
"""by the place of the question and the name of the model, a sample each"""


class Took(NamedTuple):
    """What it took a model to answer all questions together, once."""

    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Models that were asked the same questions, to the end."""

    questions: Sequence[Question]
    names: Sequence[str]
    """of the models, as the visitor reads them"""
    answers: Answers
    took: Mapping[str, Sequence[Took]]
    """by model, a sample each"""
    decoder_name: str
    decoder: Decoder


Figures = Callable[[Compared, Tongue], str]
"""The figures as a piece of HTML in the language of the page."""
