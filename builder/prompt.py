"""Format records as prompts and chat messages, and parse a model's response back into its parts.

A row as a trainer sees it, with the instruction's optional input:

    ### Instruction:
    Who wrote it?

    ### Input:
    Kokoro is a novel by Natsume Soseki.

    ### Reasoning:
    The text names the author.

    ### Response:
    Natsume Soseki.

Earlier turns come before it, each with its answer below the marker of the response and without Reasoning:

    ### Instruction:
    Recommend a novel.

    ### Response:
    Kokoro.

    ### Instruction:
    Who wrote it?

    ### Reasoning:
    …

The markers are plain text and no new tokens, because vLLM and llama.cpp refuse adapters that add tokens. The generation
prompt ends with the marker of the Reasoning, so a model cannot skip it, as it did in the post of 2024-05-07. Loss is
taken on the completion only, which begins after that marker.
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

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n\\n' }}"
    "{%- elif message['role'] == 'user' -%}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{%- elif message['role'] == 'assistant' and loop.last -%}{{ message['content'] + eos_token }}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{ '### Response:\\n' + message['content'].split('### Response:\\n')[-1] + '\\n\\n' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '### Reasoning:\\n' }}{%- endif -%}"
)
"""Jinja; the last assistant turn carries its own markers, as in the config ``messages``. Of an earlier one only the
answer is kept, whether it came with its Reasoning, as a server returns it, or alone. The template saved beside an
adapter begins with the special tokens of its base, if there are any: see `PromptEncoder`."""

_RESPONSE = re.compile(rf"^{re.escape(RESPONSE_MARKER.strip())}[ \t]*\n?", re.MULTILINE)
_HEADING = re.compile(r"^### ?\w+:", re.MULTILINE)
_SAMPLES = (f"{INSTRUCTION_MARKER}Why?", "盆栽とは？")
"""Texts on which a tokenizer is tried out."""


History = Sequence[Sequence[str]]
"""Earlier turns, the earliest first: pairs of instruction and response, as in the column ``history``."""


class Message(TypedDict):
    """One turn, as `datasets` and TRL spell it."""

    role: str
    content: str


class PromptCompletion(NamedTuple):
    """A row as a trainer sees it, under TRL's names; the trainer adds the end-of-sequence token."""

    prompt: str
    completion: str


class EncodedExample(NamedTuple):
    """A training example in tokens."""

    ids: list[int]
    """Prompt, completion and end-of-sequence token."""
    prompt_length: int
    """Tokens of the prompt, on which no loss is taken."""


class ParsedResponse(NamedTuple):
    """Reasoning and answer; an empty Reasoning is a missing one."""

    reasoning: str
    answer: str


def format_instruction(instruction: str, input_text: str = "") -> str:
    """Format the user's turn: the instruction and, below its marker, the input."""
    return f"{instruction}{SECTION_BREAK}{INPUT_MARKER}{input_text}" if input_text else instruction


def format_response(output: str, reasoning: str = "") -> str:
    """Format the assistant's turn: the Reasoning, if there is any, then the response, each below its marker."""
    response = f"{RESPONSE_MARKER}{output}"
    return f"{REASONING_MARKER}{reasoning}{SECTION_BREAK}{response}" if reasoning else response


def to_messages(instruction: str, input_text: str, reasoning: str, output: str, history: History = ()) -> list[Message]:
    """Convert a row to a user turn and an assistant turn, with the earlier turns before them."""
    turns = [(("user", asked), ("assistant", format_response(answered))) for asked, answered in history]
    return [
        *(Message(role=role, content=content) for turn in turns for role, content in turn),
        Message(role="user", content=format_instruction(instruction, input_text)),
        Message(role="assistant", content=format_response(output, reasoning)),
    ]


def format_history(history: History) -> str:
    """Format earlier turns as they stand at the beginning of a prompt."""
    return "".join(
        f"{INSTRUCTION_MARKER}{asked}{SECTION_BREAK}{format_response(answered)}{SECTION_BREAK}"
        for asked, answered in history
    )


def to_prompt_completion(
    instruction: str, input_text: str, reasoning: str, output: str, history: History = ()
) -> PromptCompletion:
    """Convert a row to a prompt that ends with the marker of Reasoning or response, and the completion after it."""
    answer = format_response(output, reasoning)
    marker = REASONING_MARKER if reasoning else RESPONSE_MARKER
    asked = f"{INSTRUCTION_MARKER}{format_instruction(instruction, input_text)}{SECTION_BREAK}"
    prompt = f"{format_history(history)}{asked}{marker}"
    return PromptCompletion(prompt=prompt, completion=answer.removeprefix(marker))


def parse_response(text: str) -> ParsedResponse:
    """Parse what a model writes after a prompt that ends with the marker of the Reasoning.

    Without the marker of the response nothing separates Reasoning from answer. Then all of it counts as the answer, so
    that a model that was never taught the markers is judged by what it says.
    """
    before, *after = _RESPONSE.split(text, maxsplit=1)
    reasoning, answer = (before, after[0]) if after else ("", text)
    # A further heading begins what nobody asked for, such as the next instruction.
    return ParsedResponse(_HEADING.split(reasoning)[0].strip(), _HEADING.split(answer)[0].strip())


class PromptEncoder:
    """Tokenize prompts in the one way that training, the chat template and every engine share.

    Many tokenizers put a special token before a text (Llama, Gemma and Mistral a BOS), and some an EOS behind it.
    `apply_chat_template` and vLLM's chat add none, so what training puts before a record must be written in the
    template. An EOS behind a prompt would end the answer before it begins, and is left out.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.beginning = _special_prefix(tokenizer)
        """The text of the special tokens before a prompt; empty if there are none."""

    @property
    def chat_template(self) -> str:
        """`CHAT_TEMPLATE` with the special tokens before it."""
        bos, text = self._tokenizer.bos_token, self.beginning
        parts = []
        if bos and text.startswith(bos):
            parts, text = ["{{- bos_token }}"], text.removeprefix(bos)
        return "".join(parts) + (f"{{{{- {text!r} }}}}" if text else "") + CHAT_TEMPLATE

    def ids(self, text: str) -> list[int]:
        """Tokenize a prompt; one that has the special tokens already is not given them again."""
        if not self.beginning or not text.startswith(self.beginning.rstrip()):
            text = self.beginning + text
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def example(self, prompt: str, completion: str) -> EncodedExample:
        """Tokenize a training example; the completion starts where its tokens leave the prompt's, as in TRL."""
        end = self._tokenizer.eos_token_id
        whole = self.ids(prompt + completion)
        if whole[-1:] != [end]:
            whole.append(end)
        return EncodedExample(ids=whole, prompt_length=len(_common_prefix(self.ids(prompt), whole)))


def _special_prefix(tokenizer: Any) -> str:
    """Find the text that, tokenized without special tokens, gives the tokens that the tokenizer puts before a text.

    A SentencePiece tokenizer may mark the start of a text with a space that it does not write behind a special token;
    the returned text then ends with that space.
    """
    # 1. Compare the tokens of each sample with and without special tokens. What both have before them is the prefix.
    before: list[list[int]] = []
    bare = [list(tokenizer(sample, add_special_tokens=False).input_ids) for sample in _SAMPLES]
    for sample, ids in zip(_SAMPLES, bare, strict=True):
        whole = list(tokenizer(sample).input_ids)
        offsets = range(len(whole) - len(ids) + 1)
        before.append(whole[: next((at for at in offsets if whole[at : at + len(ids)] == ids), 0)])
    prefix = _common_prefix(*before)
    if not prefix:
        return ""

    # 2. Write them as text, with or without that space, whichever gives the same tokens back.
    text = "".join(tokenizer.convert_ids_to_tokens(prefix))
    for candidate in (text, f"{text} "):
        got = [list(tokenizer(candidate + sample, add_special_tokens=False).input_ids) for sample in _SAMPLES]
        if got == [[*prefix, *ids] for ids in bare]:
            return candidate
    return text


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Return the ids that both begin with."""
    pairs = zip(one, other, strict=False)
    return [left for left, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
