"""Detect the format of foreign rows (Alpaca, Dolly, ShareGPT, BONSAI) and parse them."""

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
"""Column names read as another one's; Dolly's are ``context`` and ``response``, ShareGPT's ``conversations``."""
TEXTS = ("instruction", "input", "reasoning", "output")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True, kw_only=True)
class ImportedText:
    """One language of one thought, as the file has it; ``doubts`` are reasons why it can't become a record as it is."""

    place: str
    instruction: str = ""
    input: str = ""
    reasoning: str = ""
    output: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    """every other column, by name"""
    language: str | None = None
    """as named by the column's or the columns' own names; null where it has to be found"""
    doubts: tuple[str, ...] = ()


def detect_format(names: set[str]) -> str | None:
    """The name of the shape that these columns make, or None."""
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
    """The pieces of one row: one, or one a language where the columns are parallel; none if there is a fault."""
    columns = {_name(name): value for name, value in row.columns.items()}
    shape = detect_format(set(row.columns))
    if shape is None:
        names = ", ".join(row.columns) or "none"
        wanted = "instruction, input, output (Alpaca), instruction, context, response (Dolly) or messages"
        faults.append(f"{row.place}: the columns are {names}; name them {wanted}")
        return []
    if shape == "parallel columns":
        return _parallel(row.place, columns, faults)
    if "messages" in columns:
        rest = {name: value for name, value in columns.items() if name != "messages"}
        found = _conversation(row.place, columns["messages"], faults)
        texts = _strings(row.place, rest, faults)
        return [] if found is None else [replace(found, columns=texts, language=texts.get("language") or None)]
    texts = _strings(row.place, columns, faults)
    return [_piece(row.place, texts, texts, texts.get("language") or None)]


def _name(name: str) -> str:
    lower = name.strip().lower()
    return ALIASES.get(lower, lower)


def _strings(place: str, columns: dict[str, Value], faults: list[str]) -> dict[str, str]:
    """Texts with Unix line ends, numbers as text, null as nothing; a list or an object in a text is a fault."""
    found = {}
    for name, value in columns.items():
        if isinstance(value, str):
            found[name] = value.replace("\r\n", "\n").replace("\r", "\n").strip()
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = str(value)
        elif value is not None and name in TEXTS:
            faults.append(f"{place}: '{name}' is a {type(value).__name__}, {str(value)[:40]!r}; write a text")
    return found


def _parallel(place: str, columns: dict[str, Value], faults: list[str]) -> list[ImportedText]:
    texts = _strings(place, columns, faults)
    suffixed = {f"{name}_{language}" for name in TEXTS for language in LANGUAGES}
    shared = {name: value for name, value in texts.items() if name not in suffixed}
    shared["group_id"] = shared.get("group_id") or place
    by_language = {language: {name: texts.get(f"{name}_{language}", "") for name in TEXTS} for language in LANGUAGES}
    return [_piece(place, own, shared, language) for language, own in by_language.items() if any(own.values())]


def _piece(place: str, texts: dict[str, str], columns: dict[str, str], language: str | None) -> ImportedText:
    return ImportedText(
        place=place,
        instruction=texts.get("instruction", ""),
        input=texts.get("input", ""),
        reasoning=texts.get("reasoning", ""),
        output=texts.get("output", ""),
        columns={name: value for name, value in columns.items() if name not in TEXTS},
        language=language,
    )


def _conversation(place: str, value: Value, faults: list[str]) -> ImportedText | None:
    if isinstance(value, str):  # a CSV cell
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    turns = [_turn(turn) for turn in value] if isinstance(value, list) else []
    known = [turn for turn in turns if turn is not None]
    if not known or len(known) < len(turns):
        faults.append(f"{place}: 'messages' isn't a list of turns; write role and content, both texts")
        return None
    doubts = ["has a system prompt, which a record has no place for"] if known[0][0] == "system" else []
    said = [turn for turn in known if turn[0] != "system"]
    if [role for role, _ in said] != ["user", "assistant"]:
        roles = ", ".join(role for role, _ in said)
        doubts.append(f"has {len(said)} turns ({roles}); a record is a question and its answer")
    question = next((text for role, text in said if role == "user"), "")
    answer = next((text for role, text in said if role == "assistant"), "")
    instruction, _, input_text = question.partition(SECTION_BREAK + INPUT_MARKER)
    reasoning = ""
    if answer.startswith(REASONING_MARKER) and SECTION_BREAK + RESPONSE_MARKER in answer:
        reasoning, _, answer = answer.removeprefix(REASONING_MARKER).partition(SECTION_BREAK + RESPONSE_MARKER)
    answer = answer.removeprefix(RESPONSE_MARKER)
    return ImportedText(
        place=place,
        instruction=instruction,
        input=input_text,
        reasoning=reasoning,
        output=answer,
        doubts=tuple(doubts),
    )


def _turn(turn: object) -> tuple[str, str] | None:
    if not isinstance(turn, dict):
        return None
    role, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str) or not isinstance(text, str) or role not in _ROLES:
        return None
    return _ROLES[role], text.replace("\r\n", "\n").strip()
