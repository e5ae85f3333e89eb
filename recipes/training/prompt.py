"""The prompt of every adapter, as text and as the chat template saved beside it.

The markers are those of the ``messages`` config (`bonsai.builder.messages`); loss is taken on the completion only. The
generation prompt ends with the Reasoning marker: a model that is asked cannot skip it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bonsai.builder.messages import (
    GAP,
    INSTRUCTION_MARKER,
    REASONING_MARKER,
    RESPONSE_MARKER,
    answer_text,
    question_text,
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{{ message['content'] + '" + GAP.replace("\n", "\\n") + "' }}"
    "{%- elif message['role'] == 'user' -%}"
    "{{ '" + INSTRUCTION_MARKER.replace("\n", "\\n") + "' + message['content'] + '" + GAP.replace("\n", "\\n") + "' }}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{ message['content'] + eos_token }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '" + REASONING_MARKER.replace("\n", "\\n") + "' }}"
    "{%- endif -%}"
)
"""Jinja; an assistant turn carries its own markers, as in the config ``messages``."""


def chat_template(tokenizer: Any) -> str:
    """`CHAT_TEMPLATE`, with the token before it that this tokenizer put before every record that was learnt from.

    What a template renders is tokenized without special tokens: a base that begins every text with BOS (Llama, Gemma,
    Mistral) would be trained with it and asked without.
    """
    begins = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return "{{- bos_token -}}" + CHAT_TEMPLATE if begins else CHAT_TEMPLATE


class Example(NamedTuple):
    """What a trainer sees of one row, by TRL's names; the end-of-sequence token is the trainer's to add."""

    prompt: str
    completion: str


def example(instruction: str, input_text: str, reasoning: str, output: str) -> Example:
    """The prompt ends with the marker of what comes next, Reasoning or response; the completion begins after it."""
    answer = answer_text(output, reasoning)
    marker = REASONING_MARKER if reasoning else RESPONSE_MARKER
    prompt = f"{INSTRUCTION_MARKER}{question_text(instruction, input_text)}{GAP}{marker}"
    return Example(prompt=prompt, completion=answer.removeprefix(marker))
