"""Define the perspectives a next question is asked from, and build the request for it.

Asked for just "the next question", a model repeats the last one; a perspective and the last steps lead it deeper (as in
STORM, Shao et al. 2024, arXiv:2402.14207). The wording is that of the question_to_question records which the adapters
were trained on: an instruction, with question, reasoning and answer as its input.

Example of a request, from the perspective "why"::

    Pick one claim in the answer and write just one question that asks why it is so.

    Theme: Why is the sky blue?
    Question: Why does air scatter blue light?
    Answer: Its molecules are smaller than the wavelength.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bonsai.builder.assets import load_table
from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Question, QuestionChain, Step
from bonsai.recipes.inference.summary import split_sentences


@dataclass(frozen=True, kw_only=True)
class Perspective:
    """One way to ask a further question."""

    key: str
    wording: Mapping[Language, str]
    """the instruction to write one question"""
    opening: Mapping[Language, str]
    """first words of such a question, for models that do not ask one by themselves"""


_TABLES = load_table(__package__, "perspectives.toml")
*PERSPECTIVES, PLAIN = (
    Perspective(
        key=key,
        wording={Language(language): wording for language, (wording, _) in texts.items()},
        opening={Language(language): opening for language, (_, opening) in texts.items()},
    )
    for key, texts in _TABLES["perspectives"].items()
)
_LABELS: Mapping[str, Mapping[str, str]] = _TABLES["labels"]
EARLIER = 2
"""questions before the last that are repeated"""
_CONTROL_CHARS = re.compile("[\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ud800-\\udfff\\ufffd]")
LONGEST = {Language.JA: 200, Language.EN: 500, Language.ZH: 160}
"""characters of a question, a reasoning or an answer that are repeated, in whole sentences"""


def next_question_request(chain: QuestionChain, perspective: Perspective, *, system: str = "") -> Question:
    """Build the request for the question after the chain's last step.

    Args:
        system: the persona that the answers have too.
    """
    language, labels = chain.language, _LABELS[chain.language]
    *before, last = chain.steps
    lines = [f"{labels['theme']}{_shorten(chain.theme, language)}"] if before else []
    lines += [f"{labels['asked']}{step.question}" for step in before[-EARLIER:] if step.question != chain.theme]
    history = "\n".join([*lines, format_step(last, language)])
    return Question(instruction=perspective.wording[language], input=history, language=language, system=system)


def format_step(step: Step, language: Language) -> str:
    """Format question, reasoning and answer as in the records; what is missing is left out."""
    texts = {"question": step.question, "reasoning": step.answer.reasoning, "answer": step.answer.answer}
    return "\n".join(
        f"{_LABELS[language][name]}{short}"
        for name, text in texts.items()
        if (short := _shorten(text, language)) or name == "question"
    )


def strip_control_chars(text: str) -> str:
    """Remove control characters and lone surrogates: models may generate them, but no question may contain them."""
    return _CONTROL_CHARS.sub("", text)


def _shorten(text: str, language: Language) -> str:
    """Keep whole sentences from the beginning as far as they fit, the first in any case."""
    short = ""
    for sentence in split_sentences(strip_control_chars(text)):
        joined = f"{short} {sentence}" if short and language is Language.EN else short + sentence
        if short and len(joined) > LONGEST[language]:
            break
        short = joined[: LONGEST[language]]
    return short
