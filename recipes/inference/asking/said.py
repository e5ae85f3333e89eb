"""A model's text, whole or still growing, as Reasoning and answer."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from bonsai.builder.messages import REASONING_MARKER, RESPONSE_MARKER
from bonsai.recipes.inference.answer_parts import Parts, parts

Part = Literal["reasoning", "answer"]

_OPENING = re.compile(rf"\s*(?:{re.escape(REASONING_MARKER.strip())}|<think>)\s*")
"""what a model that is chatted with says again, or says where it was taught to think aloud"""
_THOUGHT = re.compile(r"\s*</think>\s*")
_ANSWER_ONLY = re.compile(rf"\s*{re.escape(RESPONSE_MARKER.strip())}[ \t]*\n?")
_HEADING = re.compile(r"^### ?\w+:", re.MULTILINE)
_MARKER_TO_COME = re.compile(r"\n*#{1,3}[ ]?[A-Z]?[a-z]*:?$|\n+$")


class Piece(NamedTuple):
    """The part that is being written."""

    part: Part
    text: str


def both(text: str) -> Parts:
    """What a one-pass prompt brought; an empty Reasoning is a missing one."""
    opened = _OPENING.sub("", text, count=1) if _OPENING.match(text) else text
    return parts(_THOUGHT.sub(f"\n\n{RESPONSE_MARKER}", opened, count=1))


def reasoning_alone(text: str) -> str:
    """What a prompt for the Reasoning brought, whether or not an answer came along."""
    found = both(text)
    return found.reasoning or found.answer


def answer_alone(text: str) -> str:
    """What a prompt for the answer brought."""
    said = _THOUGHT.split(text)[-1]
    return parts(f"{RESPONSE_MARKER}{_ANSWER_ONLY.sub('', said, count=1) if _ANSWER_ONLY.match(said) else said}").answer


def growing(text: str, begins: Part) -> Piece:
    """The part at the end of a text that is not complete, without a marker that is half written.

    Args:
        begins: what was asked for.
    """
    if begins == "answer":
        return Piece("answer", _MARKER_TO_COME.sub("", answer_alone(text)))
    if RESPONSE_MARKER.strip() in text or _THOUGHT.search(text):
        return Piece("answer", _MARKER_TO_COME.sub("", both(text).answer))
    return Piece("reasoning", reasoning_alone(_MARKER_TO_COME.sub("", text)))


def is_over(text: str, begins: Part) -> bool:
    """Whether another heading stands behind the answer: the model goes on to what nobody asked."""
    rest = _ANSWER_ONLY.sub("", text, count=1) if _ANSWER_ONLY.match(text) else text
    if begins == "reasoning":
        rest = text.partition(RESPONSE_MARKER.strip())[2]
    return _HEADING.search(rest) is not None
