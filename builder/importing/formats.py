"""Detect the format of foreign rows (Alpaca, Dolly, ShareGPT, messages, BONSAI, parallel columns) and parse them.

A Dolly row ``{"instruction": "Sum up.", "context": "…", "response": "…", "category": "summarization"}`` becomes

    ImportedText(location="notes.jsonl:1", instruction="Sum up.", input="…", output="…",
                 columns={"category": "summarization"})
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from bonsai.builder.importing.readers import RawRow, Value
from bonsai.builder.prompt import INPUT_MARKER, REASONING_MARKER, RESPONSE_MARKER, SECTION_BREAK
from bonsai.builder.schema import LANGUAGES

ALIASES = {
    "指示": "instruction",
    "入力": "input",
    "推論": "reasoning",
    "出力": "output",
    "カテゴリ": "category",
    "言語": "language",
    "context": "input",
    "response": "output",
    "conversations": "messages",
    "conversation": "messages",
    "license": "licence",
}
"""Column names and what they are read as; Dolly's are ``context`` and ``response``, ShareGPT's ``conversations``."""
TEXTS = ("instruction", "input", "reasoning", "output")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True, kw_only=True)
class ImportedText:
    """A question and its answer in one language, as the file has them."""

    location: str
    instruction: str = ""
    input: str = ""
    reasoning: str = ""
    output: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    """Every other column, by name."""
    language: str | None = None
    """As the file names it, in a column or in the names of its columns; None: to be detected."""
    doubts: tuple[str, ...] = ()
    """Reasons why the text can't become a record as it is."""


def detect_format(names: set[str]) -> str | None:
    """Name the format that has these columns; None if no format has."""
    lower = {name.strip().lower() for name in names}
    known = {ALIASES.get(name, name) for name in lower}
    if "messages" in known:
        return "ShareGPT" if lower & {"conversations", "conversation"} else "messages"
    if {"instruction_ja", "output_ja", "instruction_en", "output_en"} <= lower:
        return "parallel columns"
    if not {"instruction", "output"} <= known:
        return None
    if "response" in lower:
        return "Dolly"
    return "BONSAI" if known & {"group_id", "reasoning"} else "Alpaca"


def parse_row(row: RawRow, faults: list[str]) -> list[ImportedText]:
    """Parse a row into one text, or into one a language if the columns are parallel.

    Args:
        faults: gets a sentence for each fault; a row that cannot be parsed gives no text.
    """
    location = row.location
    columns = {ALIASES.get(key := name.strip().lower(), key): value for name, value in row.columns.items()}
    row_format = detect_format(set(row.columns))
    if row_format is None:
        names = ", ".join(row.columns) or "none"
        wanted = "instruction, input, output (Alpaca), instruction, context, response (Dolly) or messages"
        faults.append(f"{location}: the columns are {names}; name them {wanted}")
        return []
    if "messages" in columns:
        conversation = _parse_conversation(location, columns.pop("messages"), faults)
        texts = _to_texts(location, columns, faults)
        language = texts.get("language") or None
        return [] if conversation is None else [replace(conversation, columns=texts, language=language)]
    texts = _to_texts(location, columns, faults)
    if row_format != "parallel columns":
        return [_to_imported_text(location, texts, texts, texts.get("language") or None)]
    by_language = {language: {name: texts.get(f"{name}_{language}", "") for name in TEXTS} for language in LANGUAGES}
    suffixed = {f"{name}_{language}" for name in TEXTS for language in LANGUAGES}
    shared = {name: value for name, value in texts.items() if name not in suffixed}
    shared["group_id"] = shared.get("group_id") or location  # the languages of a row are one group
    return [
        _to_imported_text(location, own, shared, language) for language, own in by_language.items() if any(own.values())
    ]


def _to_texts(location: str, columns: dict[str, Value], faults: list[str]) -> dict[str, str]:
    """Return texts with Unix line ends, numbers as text, null as nothing; a list or an object in a text is a fault."""
    found = {}
    for name, value in columns.items():
        if isinstance(value, str):
            found[name] = value.replace("\r\n", "\n").replace("\r", "\n").strip()
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = str(value)
        elif value is not None and name in TEXTS:
            faults.append(f"{location}: '{name}' is a {type(value).__name__}, {str(value)[:40]!r}; write a text")
    return found


def _to_imported_text(
    location: str, texts: dict[str, str], columns: dict[str, str], language: str | None
) -> ImportedText:
    return ImportedText(
        location=location,
        instruction=texts.get("instruction", ""),
        input=texts.get("input", ""),
        reasoning=texts.get("reasoning", ""),
        output=texts.get("output", ""),
        columns={name: value for name, value in columns.items() if name not in TEXTS},
        language=language,
    )


def _parse_conversation(location: str, value: Value, faults: list[str]) -> ImportedText | None:
    """Parse the turns of a conversation; None, and a fault, if they are not a list of roles and texts."""
    # 1. Read the turns under either naming. A CSV cell holds the list as JSON.
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    listed = value if isinstance(value, list) else []
    turns: list[tuple[str, str]] = []
    for turn in listed:
        if isinstance(turn, dict):
            role, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
            if isinstance(role, str) and isinstance(text, str) and role in _ROLES:
                turns.append((_ROLES[role], text.replace("\r\n", "\n").strip()))
    if not turns or len(turns) < len(listed):
        faults.append(f"{location}: 'messages' isn't a list of turns; write role and content, both texts")
        return None

    # 2. A record is one question and one answer; anything more is kept as a doubt, for a person to decide.
    doubts = ["has a system prompt, which a record has no place for"] if turns[0][0] == "system" else []
    turns = [turn for turn in turns if turn[0] != "system"]
    if [role for role, _ in turns] != ["user", "assistant"]:
        roles = ", ".join(role for role, _ in turns)
        doubts.append(f"has {len(turns)} turns ({roles}); a record is a question and its answer")
    question = next((text for role, text in turns if role == "user"), "")
    answer = next((text for role, text in turns if role == "assistant"), "")

    # 3. Take them apart at the markers of the config ``messages``.
    instruction, _, input_text = question.partition(SECTION_BREAK + INPUT_MARKER)
    reasoning = ""
    if answer.startswith(REASONING_MARKER) and SECTION_BREAK + RESPONSE_MARKER in answer:
        reasoning, _, answer = answer.removeprefix(REASONING_MARKER).partition(SECTION_BREAK + RESPONSE_MARKER)
    return ImportedText(
        location=location,
        instruction=instruction,
        input=input_text,
        reasoning=reasoning,
        output=answer.removeprefix(RESPONSE_MARKER),
        doubts=tuple(doubts),
    )
