"""Parse foreign rows (Alpaca, Dolly, ShareGPT, messages, BONSAI, parallel columns, drafts) into questions and answers.

A Dolly row ``{"instruction": "Sum up.", "context": "…", "response": "…", "category": "summarization"}`` becomes

    ImportedText(location="notes.jsonl:1", instruction="Sum up.", input="…", output="…",
                 columns={"category": "summarization"})
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bonsai.builder.importing.columns import (
    OF_LANGUAGE,
    SIDE_TEXTS,
    TEXTS,
    ColumnMap,
    is_missing,
    means_missing,
    means_nothing,
    parse_language,
    to_text,
)
from bonsai.builder.importing.conversations import parse_history, read_conversation, side_texts, split_reasoning
from bonsai.builder.importing.tables import RawRow
from bonsai.builder.schema import CATEGORIES, ID_PATTERN, LANGUAGES

_ROW_ID = re.compile(rf"(?P<group>{ID_PATTERN})-(?:(?P<source>ja|en|zh)2)?(?P<language>ja|en|zh)")
"""Id of a published row: of a language, or of a direction of a translation."""
_USED = frozenset(("id", "group_id", "category", "language", "topic", "source", "license", "generator", "text"))
READ = (
    _USED
    | frozenset(
        ("chain", "step", "skills", "source_language", "reasoning_original", "input_original", "messages", "history")
    )
    | {"warnings"}
)
"""``warnings`` is the checks' own column, which the next build writes anew"""


@dataclass(frozen=True, kw_only=True)
class ImportedText:
    """A question and its answer in one language, as the file has them."""

    location: str
    instruction: str = ""
    input: str = ""
    reasoning: str = ""
    output: str = ""
    history: tuple[dict[str, str], ...] = ()
    """Earlier turns, as a record has them."""
    columns: dict[str, Any] = field(default_factory=dict)
    """Every other column, by canonical name: texts, and lists or objects as they are."""
    language: str | None = None
    """As the file names it, in a column or in the names of its columns; None: to be detected."""
    doubts: tuple[str, ...] = ()
    """Reasons why the text can't become a record as it is."""
    context: dict[str, Any] = field(default_factory=dict)
    """System prompt, earlier turns and the like, which only a draft keeps."""
    sheet: str = ""
    key: str = ""
    """what it belongs together with, where the file's form says so; rows of one key are one group"""


@dataclass(kw_only=True)
class FormatNotes:
    """What was read in a way that a person should hear of, with how often."""

    placeholders: Counter[str] = field(default_factory=Counter)
    """texts that say that there is no input or Reasoning"""
    derived: int = 0
    """rows that a build has derived from others, and will again"""


def parse_row(row: RawRow, columns: ColumnMap, notes: FormatNotes, faults: list[str]) -> list[ImportedText]:
    """Parse a row into one text, or into one a language if the columns are parallel.

    Args:
        faults: gets a sentence for each fault; a row that cannot be parsed gives no text.
    """
    # 1. A row that a build has derived from its group is not read: the next build derives it again.
    known = len(faults)
    values = columns.merge(row.columns, row.location, faults)
    if len(faults) > known:
        return []
    published = _ROW_ID.fullmatch(str(values.get("id", "")))
    if published and (values.get("group_id") in (None, published["group"])):
        if published["source"] and published["category"] != "translation":
            notes.derived += 1
            return []
        values["group_id"] = published["group"]
        # a class label without its names, as in CSV and JSON
        number = to_text(values.get("category")) or ""
        if number.isdigit() and int(number) < len(CATEGORIES):
            values["category"] = CATEGORIES[int(number)]
        # the column says what the answer is in, which for translate-then-answer is another language than the text's
        values["language"] = published["language"]
        if published["source"]:
            values.setdefault("source_language", published["source"])

    # 2. One text for each language that has columns of its own.
    shared = {name: value for name, value in values.items() if name not in TEXTS and not _of_language(name)}
    if columns.format == "parallel columns":
        found = []
        for language in LANGUAGES:
            own = {_of_language(name): value for name, value in values.items() if name.endswith(f"_{language}")}
            own = {name: value for name, value in own.items() if name}
            if own:
                key = str(shared.get("group_id") or shared.get("id") or row.location)
                found.append(_to_text(row, own, shared, language, notes, key=key))
        return found
    if columns.format == "input and output":
        values["instruction"] = values.pop("input", "")

    # 3. Or one text: of a conversation, or of columns. TRL writes a conversation in two halves, prompt and completion.
    halves = [values.get("instruction"), values.get("output")]
    if all(isinstance(half, list) and half and isinstance(half[0], dict) for half in halves):
        shared["messages"] = [*halves[0], *halves[1]]  # type: ignore[misc]
        del values["instruction"], values["output"]
    own = {name: value for name, value in values.items() if name in TEXTS}
    draft = str(values.get("draft", ""))
    named = str(values.get("language", ""))
    language_named = parse_language(named)
    doubts: tuple[str, ...] = ()
    if named and not language_named:
        doubts = (f"the language is {named!r}; records are in {', '.join(LANGUAGES)}",)
    confirmed = bool(published or draft)
    return [_to_text(row, own, shared, language_named, notes, doubts=doubts, key=draft, confirmed=confirmed)]


def expand_drafts(rows: list[RawRow]) -> Iterator[RawRow]:
    """Yield the rows of drafts that an import has written, one for each language; a draft is a group to be."""
    for row in rows:
        listed = row.columns.get("rows")
        shared = {name: row.columns.get(name) for name in ("topic", "source", "license", "generator")}
        for number, entry in enumerate(listed if isinstance(listed, list) else [], 1):
            if not isinstance(entry, dict):
                continue
            # what was guessed is guessed again, from the text as it is now
            told = ("columns", "place", "category_guess", "category_rule", "language_guess", "language_rule")
            columns = dict(entry.get("columns") or {}) | {k: value for k, value in entry.items() if k not in told}
            given = {name: value for name, value in shared.items() if value and name not in columns}
            yield RawRow(f"{row.location} row {number}", columns | given | {"draft": row.location}, row.sheet)


def _of_language(name: str) -> str:
    """Return the field of a column of one language, ``output`` of ``output_ja``; empty if it is none."""
    base, _, language = name.rpartition("_")
    return base if language in LANGUAGES and base in OF_LANGUAGE else ""


def _to_text(
    row: RawRow,
    own: Mapping[str, Any],
    shared: Mapping[str, Any],
    language: str | None,
    notes: FormatNotes,
    *,
    doubts: tuple[str, ...] = (),
    key: str = "",
    confirmed: bool = False,
) -> ImportedText:
    """Return the text of one language, with the doubts that its values raise.

    Args:
        confirmed: whether its earlier turns are meant: it is a published row, or a draft that is taken up again.
    """
    found = list(doubts)
    columns = {name: _plain(value) for name, value in shared.items() if not is_missing(value)}
    columns |= {name: _plain(value) for name, value in own.items() if name not in TEXTS and not is_missing(value)}
    context, reasons = side_texts(columns)
    history = parse_history(context.get("history")) if confirmed else ()
    if history:
        del context["history"], reasons["history"]
    found += reasons.values()
    # 1. The texts. A list of lines is kept as lines, and waits for somebody to say that this is meant.
    texts: dict[str, str] = {}
    for name in TEXTS:
        value = own.get(name)
        text = "" if is_missing(value) else to_text(value)
        if text is None:
            found.append(f"'{name}' is a {type(value).__name__}, no text; write it as one")
            lines = value if isinstance(value, list) and all(isinstance(line, str) for line in value) else None
            text = "\n".join(lines) if lines else json.dumps(value, ensure_ascii=False, default=str)
        if text and name in ("input", "reasoning") and means_nothing(text):
            notes.placeholders[text] += 1
            text = ""
        elif text and means_missing(text):
            found.append(f"'{name}' is {text!r}, as programs write a missing value; write it, or write it out")
        texts[name] = text
    # 2. A conversation has them all.
    if "messages" in shared:
        talk = read_conversation(shared["messages"], keep_history=confirmed)
        history = talk.history or history
        # in a draft the texts may have been edited since
        texts = {name: (texts[name] if key else "") or getattr(talk, name) or texts[name] for name in TEXTS}
        context |= talk.context or {}
        found += talk.doubts
    else:
        reasoning, output, doubt = split_reasoning(texts["output"])
        if reasoning and texts["reasoning"]:
            found.append("has a Reasoning in a column and another in the output; keep one")
        elif output:
            texts |= {"output": output, "reasoning": reasoning or texts["reasoning"]}
            found += doubt
    # 3. Half of a surrogate pair can't be written as UTF-8 anywhere.
    for name, text in (texts | {name: str(value) for name, value in columns.items()}).items():
        if broken := next((c for c in text if "\ud800" <= c <= "\udfff"), None):
            found.append(f"'{name}' has half of a character (U+{ord(broken):04X}); write it anew")
    return ImportedText(
        location=row.location,
        **texts,
        history=history,
        columns={name: value for name, value in columns.items() if name not in (*SIDE_TEXTS, "messages", "draft")},
        language=language,
        doubts=tuple(dict.fromkeys(found)),
        context=context,
        sheet=row.sheet,
        key=key,
    )


def _plain(value: Any) -> Any:
    text = to_text(value)
    return value if text is None else text
