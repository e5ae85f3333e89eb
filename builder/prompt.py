"""Format records as prompts and chat messages, and parse a model's response back into its parts.

Plain-text markers and no new tokens, because vLLM and llama.cpp refuse adapters that add tokens. The Reasoning stands
before the response, and its marker belongs to what the model writes: at inference the prompt ends with it, so the
Reasoning cannot vanish as it did in the post of 2024-05-07.

The markers are those of the ``messages`` config (`bonsai.builder.prompt`); loss is taken on the completion only. The
generation prompt ends with the Reasoning marker: a model that is asked cannot skip it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

INSTRUCTION_MARKER = "### Instruction:\n"
INPUT_MARKER = "### Input:\n"
REASONING_MARKER = "### Reasoning:\n"
RESPONSE_MARKER = "### Response:\n"
SECTION_BREAK = "\n\n"


class Message(TypedDict):
    """One turn, as `datasets` and TRL spell it."""

    role: str
    content: str


def format_instruction(instruction: str, input_text: str = "") -> str:
    """What the person says: the instruction and, below its marker, the input."""
    return f"{instruction}{SECTION_BREAK}{INPUT_MARKER}{input_text}" if input_text else instruction


def format_response(output: str, reasoning: str = "") -> str:
    """What the model says: the Reasoning, if there is any, then the response, each below its marker."""
    response = f"{RESPONSE_MARKER}{output}"
    return f"{REASONING_MARKER}{reasoning}{SECTION_BREAK}{response}" if reasoning else response


def to_messages(instruction: str, input_text: str, reasoning: str, output: str) -> list[Message]:
    """One user turn and one assistant turn."""
    return [
        Message(role="user", content=format_instruction(instruction, input_text)),
        Message(role="assistant", content=format_response(output, reasoning)),
    ]


CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{{ message['content'] + '" + SECTION_BREAK.replace("\n", "\\n") + "' }}"
    "{%- elif message['role'] == 'user' -%}"
    "{{ '"
    + INSTRUCTION_MARKER.replace("\n", "\\n")
    + "' + message['content'] + '"
    + SECTION_BREAK.replace("\n", "\\n")
    + "' }}"
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


class PromptCompletion(NamedTuple):
    """What a trainer sees of one row, by TRL's names; the end-of-sequence token is the trainer's to add."""

    prompt: str
    completion: str


def to_prompt_completion(instruction: str, input_text: str, reasoning: str, output: str) -> PromptCompletion:
    """The prompt ends with the marker of what comes next, Reasoning or response; the completion begins after it."""
    answer = format_response(output, reasoning)
    marker = REASONING_MARKER if reasoning else RESPONSE_MARKER
    prompt = f"{INSTRUCTION_MARKER}{format_instruction(instruction, input_text)}{SECTION_BREAK}{marker}"
    return PromptCompletion(prompt=prompt, completion=answer.removeprefix(marker))


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


class ParsedResponse(NamedTuple):
    """Reasoning and answer; an empty Reasoning is a missing one."""

    reasoning: str
    answer: str


_RESPONSE = re.compile(rf"^{re.escape(RESPONSE_MARKER.strip())}[ \t]*\n?", re.MULTILINE)
_HEADING = re.compile(r"^### ?\w+:", re.MULTILINE)


def parse_response(text: str) -> ParsedResponse:
    """What follows a prompt that ends with the marker of the Reasoning.

    Without the marker of the response nothing tells Reasoning from answer. Then all of it counts as the answer, so that
    a model that was never taught the markers is judged by what it says.
    """
    before, *after = _RESPONSE.split(text, maxsplit=1)
    reasoning, answer = (before, after[0]) if after else ("", text)
    return ParsedResponse(_HEADING.split(reasoning)[0].strip(), _HEADING.split(answer)[0].strip())
