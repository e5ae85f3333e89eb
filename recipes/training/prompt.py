"""The prompt of every adapter, as text and as the chat template saved beside it.

The markers are those of the ``messages`` config (`bonsai.builder.messages`); loss is taken on the completion only. The
generation prompt ends with the Reasoning marker: a model that is asked cannot skip it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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
"""Jinja; an assistant turn carries its own markers, as in the config ``messages``. The template saved beside an adapter
begins with the special tokens of its base, if there are any: see `PromptEncoder`."""


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


class EncodedExample(NamedTuple):
    """A training example in tokens."""

    ids: list[int]
    """prompt, completion and end mark"""
    prompt_length: int
    """tokens of the prompt, on which no loss is taken"""


class PromptEncoder:
    """Tokenize prompts in the one way that training, the chat template and every engine share.

    Many tokenizers put a special token before a text (Llama, Gemma and Mistral a BOS), some put an EOS behind it, by a
    flag or by a post-processor. `apply_chat_template` and vLLM's chat add none, so what training puts before a record
    must be written in the template. An EOS behind a prompt would end the answer before it begins, and is left out.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.beginning = _beginning(tokenizer)
        """the text of the special tokens before a prompt; empty: none"""

    @property
    def chat_template(self) -> str:
        """`CHAT_TEMPLATE` with the beginning before it."""
        bos, text = self._tokenizer.bos_token, self.beginning
        parts = []
        if bos and text.startswith(bos):
            parts, text = ["{{- bos_token }}"], text.removeprefix(bos)
        return "".join(parts) + (f"{{{{- {text!r} }}}}" if text else "") + CHAT_TEMPLATE

    def ids(self, text: str) -> list[int]:
        """Token ids of a prompt; one that has the beginning already is not given another."""
        if not self.beginning or not text.startswith(self.beginning.rstrip()):
            text = self.beginning + text
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def example(self, prompt: str, completion: str) -> EncodedExample:
        """Token ids of a training example; the completion starts where they leave the prompt's, as in TRL."""
        end = self._tokenizer.eos_token_id
        whole = self.ids(prompt + completion)
        if whole[-1:] != [end]:
            whole.append(end)
        return EncodedExample(ids=whole, prompt_length=len(_shared(self.ids(prompt), whole)))


_PROBES = (f"{INSTRUCTION_MARKER}Why?", "盆栽とは？")


def _beginning(tokenizer: Any) -> str:
    """Find the text that gives, tokenized without special tokens, what the tokenizer itself puts before a text.

    A SentencePiece tokenizer may mark the start of a text with a space that it does not write behind a special token;
    the text then ends with that space.
    """
    before = _shared(*(_added_before(tokenizer, probe) for probe in _PROBES))
    if not before:
        return ""
    text = "".join(tokenizer.convert_ids_to_tokens(before))
    wanted = [[*before, *tokenizer(probe, add_special_tokens=False).input_ids] for probe in _PROBES]
    for candidate in (text, f"{text} "):
        got = [list(tokenizer(candidate + probe, add_special_tokens=False).input_ids) for probe in _PROBES]
        if got == wanted:
            return candidate
    return text


def _shared(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """The ids that both begin with."""
    same = zip(one, other, strict=False)
    return [left for left, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], same)]


def _added_before(tokenizer: Any, text: str) -> Sequence[int]:
    """The token ids that the tokenizer puts before a text by itself."""
    whole = list(tokenizer(text).input_ids)
    bare = list(tokenizer(text, add_special_tokens=False).input_ids)
    at = next((at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare), 0)
    return whole[:at]
