"""A prompt with its markers as the turns of a chat, for servers that take nothing else.

A server that has our chat template (`bonsai.recipes.training.prompt`) renders the turns back into the very prompt: the
system text before the instruction, the question alone as the user's turn, and what the model has "said" already, such
as a Reasoning from the first pass, as the assistant's, to be continued. Any other model is told in the system text
which parts are wanted, and is given a Reasoning below the question.
"""

from __future__ import annotations

from dataclasses import dataclass

from bonsai.builder.messages import GAP, INSTRUCTION_MARKER, REASONING_MARKER, RESPONSE_MARKER, Message

BOTH_PARTS = (
    "Answer in two parts, in the language of the question unless told otherwise. Write the line "
    f"`{REASONING_MARKER.strip()}` and below it the reasons that lead to the answer; then the line "
    f"`{RESPONSE_MARKER.strip()}` and below it the answer."
)
ANSWER_ALONE = (
    f"Below the question, after `{REASONING_MARKER.strip()}`, stand the reasons that lead to its answer. Go by them "
    "and write the answer alone, in the language of the question unless told otherwise."
)


@dataclass(frozen=True, kw_only=True)
class Turns:
    """A prompt taken apart."""

    system: str
    """what stands before the first instruction; empty: nothing"""
    question: str
    """instruction and input"""
    said: str | None
    """the answer as far as it stands, from its first marker on, to be continued; None: the prompt asks for no part"""


def turns(prompt: str) -> Turns:
    """The system text, the question, and the answer as far as the prompt has it."""
    system, marker, rest = prompt.partition(INSTRUCTION_MARKER)
    if not marker:
        return Turns(system="", question=prompt, said=None)
    system = system.removesuffix(GAP)
    for first in (REASONING_MARKER, RESPONSE_MARKER):
        question, marker, said = rest.rpartition(GAP + first)
        if marker:
            return Turns(system=system, question=question, said=first + said)
    return Turns(system=system, question=rest, said=None)


def for_our_template(prompt: str, *, marker_is_there: bool) -> list[Message]:
    """Turns that our template renders into the prompt; one of the assistant at the end is to be continued.

    Args:
        marker_is_there: whether the server puts the marker of the Reasoning before what is to be continued, as
            llama.cpp does; it can then not be asked for a response without any Reasoning, and gets an empty one.
    """
    taken = turns(prompt)
    messages = [*_of_system(taken.system), Message(role="user", content=taken.question)]
    if taken.said is None or taken.said == REASONING_MARKER:
        return messages
    said = taken.said.removeprefix(REASONING_MARKER) if marker_is_there else taken.said
    return [*messages, Message(role="assistant", content=said)]


def for_any_model(prompt: str) -> list[Message]:
    """Turns that say in words what our template says with markers."""
    taken = turns(prompt)
    if taken.said is None:
        return [*_of_system(taken.system), Message(role="user", content=taken.question)]
    wanted, known = "", ""
    if taken.said == REASONING_MARKER:
        wanted = BOTH_PARTS
    elif taken.said.startswith(REASONING_MARKER):
        wanted, known = ANSWER_ALONE, GAP + taken.said.removesuffix(RESPONSE_MARKER).rstrip()
    system = GAP.join(part for part in (taken.system, wanted) if part)
    return [*_of_system(system), Message(role="user", content=taken.question + known)]


def after_the_marker(prompt: str, text: str) -> str:
    """The text as our adapters would have gone on: without the marker that the prompt ends with already."""
    for marker in (REASONING_MARKER, RESPONSE_MARKER):
        if prompt.endswith(marker):
            begun = text.lstrip()
            if marker.strip().startswith(begun):
                return ""  # not yet more than a part of the marker
            if begun.startswith(marker.strip()):
                return begun.removeprefix(marker.strip()).lstrip()
    return text


def _of_system(text: str) -> list[Message]:
    return [Message(role="system", content=text)] if text else []
