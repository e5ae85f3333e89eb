"""Group rows of different languages that belong together, and guess their category."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from bonsai.builder.importing.formats import ImportedText
from bonsai.builder.language_id import detect_language
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Category, Group, TextGroup, TranslationGroup

DOLLY = {
    "creative_writing": Category.CREATIVE,
    "general_qa": Category.OPEN_QA,
    "information_extraction": Category.CLOSED_QA,
    "summarization": Category.CLOSED_QA,
}
"""Dolly's categories that ours has under another name: what is extracted or summed up comes from the question."""
_WORDS: tuple[tuple[Category, re.Pattern[str]], ...] = (
    (Category.TRANSLATION, re.compile(r"translat|訳して|翻訳|翻译|译成", re.I)),
    (Category.QUESTION_TO_QUESTION, re.compile(r"(next|deeper) question|次の問い|深い問い|更深的问题", re.I)),
    (
        Category.CLASSIFICATION,
        re.compile(r"classif|categori[sz]e|which category|sentiment|分類|仕分け|分类|归类", re.I),
    ),
    (
        Category.BRAINSTORMING,
        re.compile(r"brainstorm|ideas|suggest (some|\w+ ways)|アイデア|案を|挙げて|点子|列举", re.I),
    ),
    (
        Category.CREATIVE,
        re.compile(r"\b(poem|haiku|story|lyrics|slogan)\b|俳句|物語|詩を|短歌|小説|标语|故事|诗", re.I),
    ),
)


class CategoryGuess(NamedTuple):
    """``guessed`` is False where the file itself names the category."""

    category: Category
    rule: str
    guessed: bool


def guess_category(named: str, instruction: str, input_text: str) -> CategoryGuess | None:
    """The category, and by which rule; None if the file names one that doesn't exist."""
    name = named.strip().lower().replace(" ", "_")
    if name in CATEGORIES:
        return CategoryGuess(Category(name), "named in the file", False)
    if name in DOLLY:
        return CategoryGuess(DOLLY[name], f"the file's '{name}' is our {DOLLY[name]}", True)
    if name:
        return None
    for category, words in _WORDS:
        found = words.search(instruction)
        if found:
            return CategoryGuess(category, f"'{found[0]}' in the instruction", True)
    if input_text:
        return CategoryGuess(Category.CLOSED_QA, "no word tells; there is an input to answer from", True)
    return CategoryGuess(Category.OPEN_QA, "no word tells; there is no input", True)


PAIR_COLUMNS = ("group_id", "pair_id", "pair", "order", "no", "number")
"""Columns by which rows are paired, the first that the file has; else by ids that differ in their language only."""
_ID = re.compile(r"(?P<stem>.+?)[-_./](?:(?:ja|en|zh)2)?(?:ja|en|zh)")
_GROUP: TypeAdapter[TextGroup | TranslationGroup] = TypeAdapter(Group)
_LAST_NUMBER = 9999


@dataclass(frozen=True, kw_only=True)
class ClassifiedRow:
    """A piece with what was found out about it, and by which rule."""

    piece: ImportedText
    category: CategoryGuess | None
    language: str
    language_rule: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Rows that are no group yet: why, and what was understood of them."""

    reason: str
    rows: tuple[ClassifiedRow, ...]


@dataclass(kw_only=True)
class GroupingResult:
    """The outcome: groups as JSON objects in the order of the file, their places, and the drafts."""

    groups: list[dict[str, object]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What every group has to name; a row's own column of that name goes first."""

    source: str
    licence: str
    generator: str
    topic: str


def classify_row(piece: ImportedText, expected_language: str | None) -> ClassifiedRow:
    """Category and language of a piece; the answer tells the language, and the question where the answer is mute."""
    category = guess_category(piece.columns.get("category", ""), piece.instruction, piece.input)
    if piece.language:
        return ClassifiedRow(piece=piece, category=category, language=piece.language, language_rule="named in the file")
    found, rule = detect_language(piece.output, expected_language), "found in the output"
    if found not in LANGUAGES:
        found, rule = (
            detect_language(f"{piece.instruction}\n{piece.input}", expected_language),
            "found in the instruction",
        )
    return ClassifiedRow(piece=piece, category=category, language=found, language_rule=rule)


def group_rows(
    rows: Iterable[ClassifiedRow], provenance: Provenance, taken: Mapping[str, int], by: str | None
) -> GroupingResult:
    """Bring rows together and number the groups on from ``taken`` (the highest number of each category)."""
    sets: dict[str, list[ClassifiedRow]] = {}
    for number, row in enumerate(rows):
        key = _key(row.piece.columns, by)
        sets.setdefault(f"row {number}" if key is None else f"key {key}", []).append(row)
    paired = GroupingResult()
    numbers = dict(taken)
    for together in sets.values():
        category = _shared_category(together)
        number = numbers.get(category or "", 0) + 1
        outcome = _reason(together) or _group(together, f"{category}-{number:04}", provenance)
        if isinstance(outcome, str) or category is None:
            paired.drafts.append(Draft(reason=str(outcome), rows=tuple(together)))
            continue
        if number > _LAST_NUMBER:
            paired.drafts.append(Draft(reason=f"no number is left in {category}", rows=tuple(together)))
            continue
        numbers[category] = number
        paired.groups.append(outcome)
        paired.places.append(", ".join(dict.fromkeys(row.piece.place for row in together)))
    return paired


def _key(columns: Mapping[str, str], by: str | None) -> str | None:
    for name in (by,) if by else PAIR_COLUMNS:
        if columns.get(name):
            return columns[name]
    name = columns.get("id", "")
    cut = _ID.fullmatch(name)
    return (cut["stem"] if cut else name) or None


def _shared_category(rows: list[ClassifiedRow]) -> Category | None:
    found = {row.category.category for row in rows if row.category}
    return found.pop() if len(found) == 1 else None


def _reason(rows: list[ClassifiedRow]) -> str:
    """Why these rows can't be one group; empty if nothing speaks against it."""
    for row in rows:
        if row.piece.doubts:
            return f"{row.piece.place} " + "; ".join(row.piece.doubts)
        if row.category is None:
            named = row.piece.columns["category"]
            return f"{row.piece.place}: the category is {named!r}; write one of {', '.join(CATEGORIES)}"
        if row.language not in LANGUAGES:
            return f"{row.piece.place}: the language is '{row.language}'; records are in {', '.join(LANGUAGES)}"
    categories = {row.category.category: row for row in rows if row.category}
    if len(categories) > 1:
        told = "; ".join(f"{row.piece.place}: {name}" for name, row in categories.items())
        return f"the rows of one group have several categories ({told}); write a column 'category'"
    if Category.TRANSLATION in categories:
        return ""
    languages = [row.language for row in rows]
    twice = next((language for language in languages if languages.count(language) > 1), None)
    if twice:
        places = ", ".join(row.piece.place for row in rows if row.language == twice)
        return f"two rows in '{twice}' ({places}) have the same key; give them different ones"
    missing = [language for language in ("ja", "en") if language not in languages]
    return (
        f"no row in {' and '.join(missing)}; a group needs ja and en: write it, or pair rows by 'group_id'"
        if missing
        else ""
    )


def _group(rows: list[ClassifiedRow], group_id: str, provenance: Provenance) -> dict[str, object] | str:
    """The group, or the reason why the schema refuses it."""
    category = _shared_category(rows)
    first = rows[0].piece
    texts = _translation(rows) if category is Category.TRANSLATION else _texts(rows)
    if isinstance(texts, str):
        return texts
    guesses = dict.fromkeys(row.category.rule for row in rows if row.category and row.category.guessed)
    source = first.columns.get("source") or provenance.source
    group: dict[str, object] = {
        "id": group_id,
        "category": str(category),
        "topic": first.columns.get("topic") or provenance.topic,
        **{language: texts[language] for language in LANGUAGES if language in texts},
        "source": f"{source}; category guessed: {' / '.join(guesses)}" if guesses else source,
        "licence": first.columns.get("licence") or provenance.licence,
        "generator": first.columns.get("generator") or provenance.generator,
    }
    if first.columns.get("chain") and first.columns.get("step", "").isdigit():
        group["chain"] = {"id": first.columns["chain"], "step": int(first.columns["step"])}
    try:
        _GROUP.validate_json(json.dumps(group))
    except ValidationError as error:
        return "; ".join(_sentence(list(detail["loc"]), detail["msg"]) for detail in error.errors())
    return group


def _sentence(steps: list[int | str], message: str) -> str:
    field_name = ".".join(str(step) for step in steps if step not in CATEGORIES)
    if message.startswith("Value error, "):
        return message.removeprefix("Value error, ")
    if "at least 1 character" in message or "pattern" in message:
        return f"'{field_name}' is empty; write it"
    return f"'{field_name}': {message[0].lower()}{message[1:]}"


def _texts(rows: list[ClassifiedRow]) -> dict[str, dict[str, str]]:
    return {
        row.language: {
            "instruction": row.piece.instruction,
            "input": row.piece.input,
            "reasoning": row.piece.reasoning,
            "output": row.piece.output,
        }
        for row in rows
    }


def _translation(rows: list[ClassifiedRow]) -> dict[str, dict[str, str]] | str:
    """One text a language from one or more directions; the Reasoning belongs to the target."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        piece = row.piece
        source = piece.columns.get("source_language") or detect_language(piece.input)
        if not piece.input:
            return f"{piece.place}: a translation without its text in 'input'; move it there from the instruction"
        if source == row.language or source not in LANGUAGES:
            return f"{piece.place}: translates '{source}' into '{row.language}'; name source_language and language"
        for language, text in ((source, piece.input), (row.language, piece.output)):
            if found.setdefault(language, {"text": text, "reasoning": ""})["text"] != text:
                return f"{piece.place}: another text in '{language}' than the rows before it; make them the same"
        found[row.language]["reasoning"] = piece.reasoning
    return found
