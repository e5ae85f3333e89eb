"""Group rows of different languages that belong together, and guess their category.

Two rows with the ids ``a-ja`` and ``a-en``, or with the same ``group_id``, make one group of the records. Rows that
make none become a draft with the reason, such as "no row in ja; a group needs ja and en".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from bonsai.builder.importing.formats import TEXTS, ImportedText
from bonsai.builder.language_id import detect_language
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Category, Group, TextGroup, TranslationGroup

PAIR_COLUMNS = ("group_id", "pair_id", "pair", "order", "no", "number")
"""Columns by which rows are paired, the first that the file has; else by ids that differ in their language only."""
DOLLY = {
    "creative_writing": Category.CREATIVE,
    "general_qa": Category.OPEN_QA,
    "information_extraction": Category.CLOSED_QA,
    "summarization": Category.CLOSED_QA,
}
"""Dolly's categories under our names: what is extracted or summed up comes from the question."""
_CATEGORY_WORDS = {
    Category.TRANSLATION: r"translat|訳して|翻訳|翻译|译成",
    Category.QUESTION_TO_QUESTION: r"(next|deeper) question|次の問い|深い問い|更深的问题",
    Category.CLASSIFICATION: r"classif|categori[sz]e|which category|sentiment|分類|仕分け|分类|归类",
    Category.BRAINSTORMING: r"brainstorm|ideas|suggest (some|\w+ ways)|アイデア|案を|挙げて|点子|列举",
    Category.CREATIVE: r"\b(poem|haiku|story|lyrics|slogan)\b|俳句|物語|詩を|短歌|小説|标语|故事|诗",
}
"""Words of an instruction and the category they suggest; the first that matches decides."""
_LANGUAGE_ID = re.compile(r"(?P<stem>.+?)[-_./](?:(?:ja|en|zh)2)?(?:ja|en|zh)")
_LAST_NUMBER = 9999
_GROUP: TypeAdapter[TextGroup | TranslationGroup] = TypeAdapter(Group)


class CategoryGuess(NamedTuple):
    """A category and the rule that chose it; ``guessed`` is False if the file itself names the category."""

    category: Category
    rule: str
    guessed: bool


@dataclass(frozen=True, kw_only=True)
class ClassifiedRow:
    """A text with its category and language, and the rule that found the language."""

    text: ImportedText
    category: CategoryGuess | None
    language: str
    language_rule: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Rows that are no group yet, and the reason."""

    reason: str
    rows: tuple[ClassifiedRow, ...]


@dataclass(kw_only=True)
class GroupingResult:
    """Groups as JSON objects in the order of the file, the locations of their rows, and the drafts."""

    groups: list[dict[str, object]] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Fields that every group needs; a row's own column of that name takes precedence."""

    source: str
    licence: str
    generator: str
    topic: str


def guess_category(named: str, instruction: str, input_text: str) -> CategoryGuess | None:
    """Return the category and the rule that chose it; None if the file names a category that doesn't exist."""
    name = named.strip().lower().replace(" ", "_")
    if name in CATEGORIES:
        return CategoryGuess(Category(name), "named in the file", False)
    if name in DOLLY:
        return CategoryGuess(DOLLY[name], f"the file's '{name}' is our {DOLLY[name]}", True)
    if name:
        return None
    for category, words in _CATEGORY_WORDS.items():
        if found := re.search(words, instruction, re.IGNORECASE):
            return CategoryGuess(category, f"'{found[0]}' in the instruction", True)
    if input_text:
        return CategoryGuess(Category.CLOSED_QA, "no word tells; there is an input to answer from", True)
    return CategoryGuess(Category.OPEN_QA, "no word tells; there is no input", True)


def classify_row(text: ImportedText, expected_language: str | None) -> ClassifiedRow:
    """Find the category and the language of a text.

    The answer decides the language, and the question where the answer has no letter. ``expected_language`` is a prior
    where the script leaves Japanese and Chinese open.
    """
    category = guess_category(text.columns.get("category", ""), text.instruction, text.input)
    if text.language:
        return ClassifiedRow(text=text, category=category, language=text.language, language_rule="named in the file")
    language, rule = detect_language(text.output, expected_language), "found in the output"
    if language not in LANGUAGES:
        language = detect_language(f"{text.instruction}\n{text.input}", expected_language)
        rule = "found in the instruction"
    return ClassifiedRow(text=text, category=category, language=language, language_rule=rule)


def group_rows(
    rows: Iterable[ClassifiedRow], provenance: Provenance, taken: Mapping[str, int], pair_by: str | None
) -> GroupingResult:
    """Group rows with the same key and number the groups.

    Args:
        taken: the highest number of each category so far.
        pair_by: the column that holds the key; by default the first of `PAIR_COLUMNS` that a row has, else its id.
    """
    # 1. Collect the rows of each key; a row without one is alone.
    by_key: dict[str, list[ClassifiedRow]] = {}
    for number, row in enumerate(rows):
        columns = row.text.columns
        key = next((columns[name] for name in ((pair_by,) if pair_by else PAIR_COLUMNS) if columns.get(name)), "")
        if not key:
            key = columns.get("id", "")
            match = _LANGUAGE_ID.fullmatch(key)
            key = match["stem"] if match else key
        by_key.setdefault(f"key {key}" if key else f"row {number}", []).append(row)

    # 2. Make a group of them, or a draft with the reason. Drafts use up no number.
    result = GroupingResult()
    numbers = dict(taken)
    for members in by_key.values():
        categories = {row.category.category for row in members if row.category}
        category = categories.pop() if len(categories) == 1 else None
        number = numbers.get(category or "", 0) + 1
        outcome: dict[str, object] | str = _draft_reason(members)
        if category is not None and not outcome:
            outcome = _to_group(members, category, f"{category}-{number:04}", provenance)
            if number > _LAST_NUMBER and not isinstance(outcome, str):
                outcome = f"no number is left in {category}"
        if category is None or isinstance(outcome, str):
            result.drafts.append(Draft(reason=str(outcome), rows=tuple(members)))
            continue
        numbers[category] = number
        result.groups.append(outcome)
        result.locations.append(", ".join(dict.fromkeys(row.text.location for row in members)))
    return result


def _draft_reason(rows: list[ClassifiedRow]) -> str:
    """Explain why these rows can't be one group; empty if they may be."""
    for row in rows:
        location = row.text.location
        if row.text.doubts:
            return f"{location} " + "; ".join(row.text.doubts)
        if row.category is None:
            category = row.text.columns["category"]
            return f"{location}: the category is {category!r}; write one of {', '.join(CATEGORIES)}"
        if row.language not in LANGUAGES:
            return f"{location}: the language is '{row.language}'; records are in {', '.join(LANGUAGES)}"
    categories = {row.category.category: row for row in rows if row.category}
    if len(categories) > 1:
        found = "; ".join(f"{row.text.location}: {name}" for name, row in categories.items())
        return f"the rows of one group have several categories ({found}); write a column 'category'"
    if Category.TRANSLATION in categories:
        return ""
    languages = [row.language for row in rows]
    duplicate = next((language for language in languages if languages.count(language) > 1), None)
    if duplicate:
        locations = ", ".join(row.text.location for row in rows if row.language == duplicate)
        return f"two rows in '{duplicate}' ({locations}) have the same key; give them different ones"
    missing = " and ".join(language for language in ("ja", "en") if language not in languages)
    return f"no row in {missing}; a group needs ja and en: write it, or pair rows by 'group_id'" if missing else ""


def _to_group(
    rows: list[ClassifiedRow], category: Category, group_id: str, provenance: Provenance
) -> dict[str, object] | str:
    """Return the group as a JSON object, or the reason why it is none."""
    # 1. The texts by language. A translation has one from one or more directions, and Reasoning belongs to the target.
    texts: dict[str, dict[str, str]] = {}
    for row in rows:
        text = row.text
        if category is not Category.TRANSLATION:
            texts[row.language] = {name: getattr(text, name) for name in TEXTS}
            continue
        source = text.columns.get("source_language") or detect_language(text.input)
        if not text.input:
            return f"{text.location}: a translation without its text in 'input'; move it there from the instruction"
        if source == row.language or source not in LANGUAGES:
            return f"{text.location}: translates '{source}' into '{row.language}'; name source_language and language"
        for language, wording in ((source, text.input), (row.language, text.output)):
            if texts.setdefault(language, {"text": wording, "reasoning": ""})["text"] != wording:
                return f"{text.location}: another text in '{language}' than the rows before it; make them the same"
        texts[row.language]["reasoning"] = text.reasoning

    # 2. What the group has to name comes from its first row, else from the caller.
    columns = rows[0].text.columns
    guesses = dict.fromkeys(row.category.rule for row in rows if row.category and row.category.guessed)
    source = columns.get("source") or provenance.source
    group: dict[str, object] = {
        "id": group_id,
        "category": str(category),
        "topic": columns.get("topic") or provenance.topic,
        **{language: texts[language] for language in LANGUAGES if language in texts},
        "source": f"{source}; category guessed: {' / '.join(guesses)}" if guesses else source,
        "licence": columns.get("licence") or provenance.licence,
        "generator": columns.get("generator") or provenance.generator,
    }
    if columns.get("chain") and columns.get("step", "").isdigit():
        group["chain"] = {"id": columns["chain"], "step": int(columns["step"])}

    # 3. The schema has the last word.
    try:
        _GROUP.validate_json(json.dumps(group))
    except ValidationError as error:
        reasons = []
        for detail in error.errors():
            name = ".".join(str(step) for step in detail["loc"] if step not in CATEGORIES)
            message = detail["msg"]
            if message.startswith("Value error, "):
                reasons.append(message.removeprefix("Value error, "))
            elif "at least 1 character" in message or "pattern" in message:
                reasons.append(f"'{name}' is empty; write it")
            else:
                reasons.append(f"'{name}': {message[0].lower()}{message[1:]}")
        return "; ".join(reasons)
    return group
