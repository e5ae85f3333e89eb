"""Build the prompts, and parse complete or partial completions into reasoning and answer.

The markers are plain words, so a model that was never taught them reads them too, whether the prompt is continued or
put into a chat.
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
"""the second is for where the first got nothing"""


def one_pass_prompt(question: Question) -> str:
    """Reasoning and answer are to follow."""
    return f"{_asked(question)}{REASONING_MARKER}"


def reasoning_prompt(
    question: Question, language: Language, wording: int, *, in_language: Language | None = None
) -> str:
    """The Reasoning alone is to follow; ``wording``: which of `REASONING_ALONE`."""
    below = f"{REASONING_ALONE[language][wording]}{SECTION_BREAK}"
    return f"{_asked(question, in_language)}{below}{REASONING_MARKER}"


def answer_prompt(question: Question, reasoning: str, *, in_language: Language | None = None) -> str:
    """The answer is to follow.

    Args:
        reasoning: empty: there is none.
        in_language: what to ask for in so many words; None: the question itself shows it.
    """
    known = f"{REASONING_MARKER}{reasoning}{SECTION_BREAK}" if reasoning else ""
    return f"{_asked(question, in_language)}{known}{RESPONSE_MARKER}"


def _asked(question: Question, in_language: Language | None = None) -> str:
    system = f"{question.system}{SECTION_BREAK}" if question.system else ""
    line = f"{IN_THIS_LANGUAGE[in_language]}\n" if in_language else ""
    return (
        f"{system}{INSTRUCTION_MARKER}{line}{format_instruction(question.instruction, question.input)}{SECTION_BREAK}"
    )


Part = Literal["reasoning", "answer"]

_OPENING = re.compile(rf"\s*(?:{re.escape(REASONING_MARKER.strip())}|<think>)\s*")
"""what a model that is chatted with says again, or says where it was taught to think aloud"""
_THOUGHT = re.compile(r"\s*</think>\s*")
_ANSWER_ONLY = re.compile(rf"\s*{re.escape(RESPONSE_MARKER.strip())}[ \t]*\n?")
_HEADING = re.compile(r"^### ?\w+:", re.MULTILINE)
_MARKER_TO_COME = re.compile(r"\n*#{1,3}[ ]?[A-Z]?[a-z]*:?$|\n+$")


class PartialOutput(NamedTuple):
    """The part that is being written."""

    part: Part
    text: str


def parse_one_pass(text: str) -> ParsedResponse:
    """What a one-pass prompt brought; an empty Reasoning is a missing one."""
    opened = _OPENING.sub("", text, count=1) if _OPENING.match(text) else text
    return parse_response(_THOUGHT.sub(f"\n\n{RESPONSE_MARKER}", opened, count=1))


def parse_reasoning(text: str) -> str:
    """What a prompt for the Reasoning brought, whether or not an answer came along."""
    found = parse_one_pass(text)
    return found.reasoning or found.answer


def parse_answer(text: str) -> str:
    """What a prompt for the answer brought."""
    said = _THOUGHT.split(text)[-1]
    return parse_response(
        f"{RESPONSE_MARKER}{_ANSWER_ONLY.sub('', said, count=1) if _ANSWER_ONLY.match(said) else said}"
    ).answer


def parse_partial(text: str, begins: Part) -> PartialOutput:
    """The part at the end of a text that is not complete, without a marker that is half written.

    Args:
        begins: what was asked for.
    """
    if begins == "answer":
        return PartialOutput("answer", _MARKER_TO_COME.sub("", parse_answer(text)))
    if RESPONSE_MARKER.strip() in text or _THOUGHT.search(text):
        return PartialOutput("answer", _MARKER_TO_COME.sub("", parse_one_pass(text).answer))
    return PartialOutput("reasoning", parse_reasoning(_MARKER_TO_COME.sub("", text)))


def starts_next_section(text: str, begins: Part) -> bool:
    """Whether another heading stands behind the answer: the model goes on to what nobody asked."""
    rest = _ANSWER_ONLY.sub("", text, count=1) if _ANSWER_ONLY.match(text) else text
    if begins == "reasoning":
        rest = text.partition(RESPONSE_MARKER.strip())[2]
    return _HEADING.search(rest) is not None
