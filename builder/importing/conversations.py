"""Read conversations as OpenAI, ShareGPT, LLaMA-Factory, ms-swift, oasst and others write them.

    >>> turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "<think>So.</think>Yes."}]
    >>> talk = read_conversation(turns)
    >>> talk.instruction, talk.reasoning, talk.output, talk.doubts
    ('Why?', 'So.', 'Yes.', ())

A record is one question and its answer. What has more (a system prompt, tools, pictures, earlier turns) keeps its text
and carries doubts, so that it waits as a draft.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bonsai.builder.importing.columns import SIDE_TEXTS, is_missing, to_text
from bonsai.builder.prompt import INPUT_MARKER, REASONING_MARKER, RESPONSE_MARKER, SECTION_BREAK
from bonsai.builder.schema import MOST_EARLIER_TURNS

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "question", "usr", "ユーザー", "ユーザ", "人間", "用户"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatbot", "chatgpt", "ai", "answer"), "assistant"),
    **dict.fromkeys(("アシスタント", "助手"), "assistant"),
    **dict.fromkeys(("system", "developer", "システム", "系统"), "system"),
    **dict.fromkeys(("tool", "function", "function_call", "function_response", "observation", "ipython"), "tool"),
    **dict.fromkeys(("tool_call", "tool_response", "tool_calls", "environment"), "tool"),
}
_THINK = re.compile(
    r"\s*<(think|thinking|reasoning)>(?P<reasoning>.*?)</\1>\s*(?P<answer>.*)", re.DOTALL | re.IGNORECASE
)
_ANSWER_TAG = re.compile(r"<(answer|response)>(?P<answer>.*)</\1>\s*", re.DOTALL | re.IGNORECASE)
_OPEN_THINK = re.compile(r"</?(?:think|thinking)>", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """The last question and its answer, what was before them, and why they are no record yet."""

    instruction: str = ""
    input: str = ""
    reasoning: str = ""
    output: str = ""
    history: tuple[dict[str, str], ...] = ()
    """earlier turns, as a record has them"""
    context: Mapping[str, Any] | None = None
    """system, history (a list of instruction and output) and other texts that a draft keeps"""
    doubts: tuple[str, ...] = ()


def read_conversation(value: object, *, keep_history: bool = False) -> Conversation:
    """Read the turns of a conversation; whatever can't be understood is a doubt and is kept as it is.

    Args:
        keep_history: take one or two earlier turns as the record's; by default they are a doubt.
    """
    turns = parse_list(value)
    if not turns or not all(isinstance(turn, dict) for turn in turns):
        doubt = "its conversation is no list of turns; write role and content, both texts"
        return Conversation(context={"messages": value}, doubts=(doubt,))

    # 1. Role and text of each turn, under either naming.
    doubts: list[str] = []
    spoken: list[tuple[str, str]] = []
    reasoning = ""
    for turn in turns:
        named = str(turn.get("role") or turn.get("from") or turn.get("speaker") or "")
        role = _ROLES.get(named.strip().lower(), "")
        text, missing = _turn_text(turn)
        if not role:
            doubts.append(f"has a turn of {named!r}; known are user, assistant, system and tool")
        if turn.get("tool_calls") or turn.get("function_call"):
            role, missing = "tool", ""
        if missing:
            doubts.append(f"has a turn of {role or repr(named)} {missing}")
        if role == "assistant":
            # of the last answer: DeepSeek and vLLM write it beside the content
            beside = to_text(turn.get("reasoning_content") or turn.get("reasoning") or turn.get("thinking"))
            reasoning = beside or ""
        spoken.append((role, text))

    # 2. What is not a question and its answer.
    systems = [text for role, text in spoken if role == "system" and text]
    plain = [(role, text) for role, text in spoken if role != "system"]
    if systems:
        doubts.append("has a system prompt, which a record has no place for")
    if any(role == "tool" for role, _ in spoken):
        doubts.append("calls a tool, which a record has no place for")
    roles = [role for role, _ in plain]
    context: dict[str, Any] = {"system": "\n\n".join(systems)} if systems else {}
    alternate = len(roles) >= 2 and all(role == ("user", "assistant")[n % 2] for n, role in enumerate(roles))
    history: tuple[dict[str, str], ...] = ()
    if alternate and len(roles) % 2 == 0:
        pairs = [[question, answer] for (_, question), (_, answer) in zip(plain[:-2:2], plain[1:-2:2], strict=True)]
        history = parse_history(pairs) if keep_history else ()
        if pairs and not history:
            context["history"] = [_turn(pair) for pair in pairs]
        (_, question), (_, answer) = plain[-2:]
    else:
        question = next((text for role, text in plain if role == "user"), "")
        answer = next((text for role, text in reversed(plain) if role == "assistant"), "")
    if roles != ["user", "assistant"] and not history:
        doubts.append(
            f"has {len(plain)} turns ({', '.join(map(str, roles)) or 'none'}); a record is a question and its answer"
        )
    if doubts and not (alternate and len(roles) % 2 == 0):
        context["messages"] = turns

    # 3. Take them apart at the markers of the config ``messages`` and the tags of reasoning models.
    instruction, _, input_text = question.partition(SECTION_BREAK + INPUT_MARKER)
    thought, answer, open_tag = split_reasoning(answer)
    return Conversation(
        instruction=instruction,
        input=input_text,
        reasoning=thought or reasoning,
        output=answer,
        history=history,
        context=context or None,
        doubts=(*doubts, *open_tag),
    )


def question_and_answer(value: object) -> tuple[str, str]:
    """Return all turns of a conversation but its last answer as one text, and that answer."""
    turns = [turn for turn in parse_list(value) or [] if isinstance(turn, dict)]
    texts = [_turn_text(turn)[0] for turn in turns]
    return "\n".join(texts[:-1]), texts[-1] if texts else ""


def split_reasoning(answer: str) -> tuple[str, str, tuple[str, ...]]:
    """Take an answer apart into Reasoning, answer and doubts, at BONSAI's markers or at ``<think>``."""
    if answer.startswith(REASONING_MARKER) and SECTION_BREAK + RESPONSE_MARKER in answer:
        reasoning, _, rest = answer.removeprefix(REASONING_MARKER).partition(SECTION_BREAK + RESPONSE_MARKER)
        return reasoning, rest, ()
    answer = answer.removeprefix(RESPONSE_MARKER)
    if thought := _THINK.fullmatch(answer):
        rest = thought["answer"].rstrip()
        tagged = _ANSWER_TAG.fullmatch(rest)
        return thought["reasoning"].strip(), tagged["answer"].strip() if tagged else rest, ()
    if _OPEN_THINK.search(answer):
        return "", answer, ("has <think> without its end, or amid the answer; move it to 'reasoning'",)
    return "", answer, ()


def side_texts(columns: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the columns system, history, tools and images as a draft keeps them, and the doubt that each raises."""
    kept: dict[str, Any] = {}
    for name in SIDE_TEXTS:
        value = columns.get(name)
        listed = parse_list(value) if name != "system" else None
        if is_missing(value) or listed == [] or str(value).strip() in ("[]", "{}"):
            continue
        kept[name] = listed if listed is not None else value
        if name == "history":
            kept[name] = [_turn(turn) for turn in listed or [value]]
    reasons = {
        "system": "has a system prompt, which a record has no place for",
        "history": "has earlier turns in 'history'; if the question needs them, import the draft as it is",
        "tools": "has tools, which a record has no place for",
        "images": "has pictures, which a record has no place for",
    }
    return kept, {name: reasons[name] for name in kept}


def parse_history(value: object) -> tuple[dict[str, str], ...]:
    """Return one or two earlier turns as a record has them; none if there are others, or anything else."""
    turns = [_turn(turn) for turn in parse_list(value) or []]
    whole = all(isinstance(turn, dict) and turn.get("instruction") and turn.get("output") for turn in turns)
    return tuple(turns) if whole and len(turns) <= MOST_EARLIER_TURNS else ()


def _turn(turn: Any) -> Any:
    """Return an earlier turn as a record has it, if it is LLaMA-Factory's list of question and answer."""
    if not isinstance(turn, list | tuple) or len(turn) != 2:
        return turn
    instruction, _, input_text = (to_text(turn[0]) or "").partition(SECTION_BREAK + INPUT_MARKER)
    return {"instruction": instruction} | ({"input": input_text} if input_text else {}) | {"output": to_text(turn[1])}


def parse_list(value: object) -> list[Any] | None:
    """Return a list that is one, or that a cell holds as JSON, Python or numpy write it; None if there is none."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "(")):
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        try:
            parsed = ast.literal_eval(_with_commas(value))
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            return None
    return list(parsed) if isinstance(parsed, list | tuple) else None


def _with_commas(text: str) -> str:
    """Put commas between the elements of an array as numpy prints it, and None for what Python has no literal for."""
    written: list[str] = []
    ended = called = False
    for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            continue
        begins = token.type == tokenize.STRING or token.string in ("{", "[")
        # an array within an array is printed with its call: array(['…', '…'], dtype=object)
        if token.string in ("array", "dtype") and token.type == tokenize.NAME:
            called = True
            if token.string == "dtype":
                written.pop()  # the comma before it
            continue
        if called:
            called = token.string not in ("(", ")")
            ended |= token.string == ")"
            continue
        word = {"nan": "None", "null": "None", "true": "True", "false": "False"}.get(token.string, token.string)
        written.append(("," if ended and begins else "") + word)
        ended = token.type == tokenize.STRING or token.string in ("}", "]")
    return " ".join(written)


def _turn_text(turn: Mapping[str, Any]) -> tuple[str, str]:
    """Return the text of a turn, and what it has instead of one, or beside it."""
    value = next((turn[name] for name in ("content", "value", "text") if name in turn), None)
    if isinstance(value, list):
        # parts, as OpenAI's chat has them
        parts = [part if isinstance(part, str) else part.get("text") for part in value if isinstance(part, str | dict)]
        texts = [part for part in parts if isinstance(part, str)]
        return to_text("\n".join(texts)) or "", "" if len(texts) == len(value) else "with a picture or a sound"
    if is_missing(value):
        return "", "without a text"
    text = to_text(value)
    return text or "", "" if text is not None else f"whose text is a {type(value).__name__}"
