"""A row as a conversation: the text every trainer and every adapter sees.

Plain-text markers and no new tokens, because vLLM and llama.cpp refuse adapters that add tokens. The Reasoning stands
before the response, and its marker belongs to what the model writes: at inference the prompt ends with it, so the
Reasoning cannot vanish as it did in the post of 2024-05-07.
"""

from __future__ import annotations

from typing import TypedDict

INSTRUCTION_MARKER = "### Instruction:\n"
INPUT_MARKER = "### Input:\n"
REASONING_MARKER = "### Reasoning:\n"
RESPONSE_MARKER = "### Response:\n"
GAP = "\n\n"


class Message(TypedDict):
    """One turn, as `datasets` and TRL spell it."""

    role: str
    content: str


def question_text(instruction: str, input_text: str = "") -> str:
    """What the person says: the instruction and, below its marker, the input."""
    return f"{instruction}{GAP}{INPUT_MARKER}{input_text}" if input_text else instruction


def answer_text(output: str, reasoning: str = "") -> str:
    """What the model says: the Reasoning, if there is any, then the response, each below its marker."""
    response = f"{RESPONSE_MARKER}{output}"
    return f"{REASONING_MARKER}{reasoning}{GAP}{response}" if reasoning else response


def conversation(instruction: str, input_text: str, reasoning: str, output: str) -> list[Message]:
    """One user turn and one assistant turn."""
    return [
        Message(role="user", content=question_text(instruction, input_text)),
        Message(role="assistant", content=answer_text(output, reasoning)),
    ]
