"""Build the prompts, and parse complete or partial completions into reasoning and answer.

The one-pass prompt of a question, and what an adapter generates after it::

    ### Instruction:
    Why is the sky blue?

    ### Reasoning:
    Air scatters short waves more.

    ### Response:
    Because blue light reaches us from all sides.

The markers are plain words, so models that were not trained with them understand them too, whether the prompt is
continued or put into a chat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from bonsai.builder.prompt import (
    INSTRUCTION_MARKER,
    REASONING_MARKER,
    RESPONSE_MARKER,
    SECTION_BREAK,
    ParsedResponse,
    format_instruction,
    parse_response,
)
from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Question

IN_THIS_LANGUAGE: Mapping[Language, str] = {
    Language.JA: "日本語で答えてください。",
    Language.EN: "Answer in English.",
    Language.ZH: "请用中文回答。",
}

REASONING_ALONE: Mapping[Language, Sequence[str]] = {
    Language.JA: (
        "まだ答えないでください。答えを決める事実や理由だけを、一文から三文で書いてください。",
        "この質問に答えるには、まず何を知っている必要がありますか。短く説明してください。",
    ),
    Language.EN: (
        "Do not answer yet. In one to three sentences, give only the facts or reasons that decide the answer.",
        "What does one have to know first to answer this? Explain it briefly.",
    ),
    Language.ZH: (
        "先不要回答。请用一到三句话，只写出决定答案的事实或理由。",
        "要回答这个问题，首先需要知道什么？请简要说明。",
    ),
}
"""the second is for the retry"""


def one_pass_prompt(question: Question) -> str:
    """Build a prompt for reasoning and answer together."""
    return f"{_instruction(question)}{REASONING_MARKER}"


def reasoning_prompt(
    question: Question, language: Language, wording: int, *, in_language: Language | None = None
) -> str:
    """Build a prompt for the reasoning alone; ``wording`` is an index of `REASONING_ALONE`."""
    request = f"{REASONING_ALONE[language][wording]}{SECTION_BREAK}"
    return f"{_instruction(question, in_language)}{request}{REASONING_MARKER}"


def answer_prompt(question: Question, reasoning: str, *, in_language: Language | None = None) -> str:
    """Build a prompt for the answer alone.

    Args:
        reasoning: empty if there is none.
        in_language: the language to name in the prompt; None: the question itself shows it.
    """
    before = f"{REASONING_MARKER}{reasoning}{SECTION_BREAK}" if reasoning else ""
    return f"{_instruction(question, in_language)}{before}{RESPONSE_MARKER}"


def _instruction(question: Question, in_language: Language | None = None) -> str:
    system = f"{question.system}{SECTION_BREAK}" if question.system else ""
    line = f"{IN_THIS_LANGUAGE[in_language]}\n" if in_language else ""
    return (
        f"{system}{INSTRUCTION_MARKER}{line}{format_instruction(question.instruction, question.input)}{SECTION_BREAK}"
    )


Part = Literal["reasoning", "answer"]

_OPENING = re.compile(rf"\s*(?:{re.escape(REASONING_MARKER.strip())}|<think>)\s*")
"""what chat models repeat before the reasoning, or reasoning models start it with"""
_THINK_END = re.compile(r"\s*</think>\s*")
_LEADING_MARKER = re.compile(rf"\s*{re.escape(RESPONSE_MARKER.strip())}[ \t]*\n?")
_HEADING = re.compile(r"^### ?\w+:", re.MULTILINE)
_PARTIAL_MARKER = re.compile(r"\n*#{1,3}[ ]?[A-Z]?[a-z]*:?$|\n+$")


class PartialOutput(NamedTuple):
    """The part that is being generated."""

    part: Part
    text: str


def parse_one_pass(text: str) -> ParsedResponse:
    """Parse the completion of a one-pass prompt; an empty reasoning is a missing one."""
    opened = _OPENING.sub("", text, count=1) if _OPENING.match(text) else text
    return parse_response(_THINK_END.sub(f"\n\n{RESPONSE_MARKER}", opened, count=1))


def parse_reasoning(text: str) -> str:
    """Parse the completion of a prompt for the reasoning, whether or not an answer follows it."""
    parsed = parse_one_pass(text)
    return parsed.reasoning or parsed.answer


def parse_answer(text: str) -> str:
    """Parse the completion of a prompt for the answer."""
    answer = _THINK_END.split(text)[-1]
    if _LEADING_MARKER.match(answer):
        answer = _LEADING_MARKER.sub("", answer, count=1)
    return parse_response(f"{RESPONSE_MARKER}{answer}").answer


def parse_partial(text: str, first_part: Part) -> PartialOutput:
    """Return the part at the end of an incomplete completion, without a half-written marker.

    Example: ``parse_partial("It scatters.\\n\\n### Resp", "reasoning")`` is ``("reasoning", "It scatters.")``.

    Args:
        first_part: the part that the prompt asked for first.
    """
    if first_part == "answer":
        return PartialOutput("answer", _PARTIAL_MARKER.sub("", parse_answer(text)))
    if RESPONSE_MARKER.strip() in text or _THINK_END.search(text):
        return PartialOutput("answer", _PARTIAL_MARKER.sub("", parse_one_pass(text).answer))
    return PartialOutput("reasoning", parse_reasoning(_PARTIAL_MARKER.sub("", text)))


def starts_next_section(text: str, first_part: Part) -> bool:
    """Return whether another heading follows the answer: the model goes on to what nobody asked for."""
    rest = _LEADING_MARKER.sub("", text, count=1) if _LEADING_MARKER.match(text) else text
    if first_part == "reasoning":
        rest = text.partition(RESPONSE_MARKER.strip())[2]
    return _HEADING.search(rest) is not None
