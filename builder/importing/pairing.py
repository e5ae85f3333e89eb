"""Group rows of different languages that belong together.

Two rows with the ids ``a-ja`` and ``a-en``, or with the same ``group_id``, make one group of the records. Rows that
make none become a draft with every reason, such as "no row in ja; a group needs ja and en".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from bonsai.builder.checks.provenance import LICENSE, generator_issues, license_issues, source_issues
from bonsai.builder.errors import RecordError
from bonsai.builder.importing.categories import CategoryGuess, guess_category
from bonsai.builder.importing.columns import TEXTS, fold_name, parse_language, split_language
from bonsai.builder.importing.conversations import parse_list
from bonsai.builder.importing.formats import ImportedText
from bonsai.builder.language_id import detect_language, detect_row_languages
from bonsai.builder.records import parse_group
from bonsai.builder.schema import CATEGORIES, ID_PATTERN, LANGUAGES, Category

PAIR_COLUMNS = ("group_id", "pair_id", "pair", "order", "no", "number")
"""Columns by which rows are paired, the first that puts languages together; else ids that name their language."""
ONE_ROW = "one row"
UNPAIRED = "none"
"""As the column to pair by: every row is alone."""


@dataclass(frozen=True, kw_only=True)
class ClassifiedRow:
    """A text with its category and language, and the rule that found the language."""

    text: ImportedText
    category: CategoryGuess | None
    language: str
    language_rule: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Rows that are no group yet, and the reasons."""

    reasons: tuple[str, ...]
    rows: tuple[ClassifiedRow, ...]

    @property
    def reason(self) -> str:
        """All of the reasons, in a sentence."""
        return "; ".join(self.reasons)


class CandidateGroup(NamedTuple):
    """A group as a JSON object, and the rows it was made of."""

    record: dict[str, Any]
    rows: tuple[ClassifiedRow, ...]

    @property
    def location(self) -> str:
        """Of its rows, in the file that was read."""
        return ", ".join(dict.fromkeys(row.text.location for row in self.rows))


@dataclass(kw_only=True)
class GroupingResult:
    """Groups in the order of the file, drafts, and what was put together by which column."""

    groups: list[CandidateGroup] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    paired: dict[str, list[str]] = field(default_factory=dict)
    """by column the questions of each group, for a person to see whether they belong together"""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Fields that every group needs; a row's own column of that name takes precedence."""

    source: str
    license: str
    generator: str
    topic: str


def classify_rows(
    texts: Sequence[ImportedText], expected_language: str | None, category: str | None = None
) -> list[ClassifiedRow]:
    """Find the category and the language of texts.

    Question and answer together decide the language; for a translation the answer alone, and where neither has a letter
    the Reasoning.

    Args:
        expected_language: a prior where the script leaves Japanese and Chinese open.
        category: of the rows that name none; by default it is guessed.
    """
    languages = detect_row_languages(
        [text.instruction for text in texts], [text.output for text in texts], expected_language
    )
    rows = []
    for text, language in zip(texts, languages, strict=True):
        named = str(text.columns.get("category", "")).strip() or category or ""
        if not named and text.columns.get("text"):
            named = Category.TRANSLATION.value
        if not named and text.columns.get("chain") and text.columns.get("step"):
            found: CategoryGuess | None = CategoryGuess(Category.QUESTION_TO_QUESTION, "it is a step of a chain", True)
        else:
            found = guess_category(named, text.instruction, text.input)
        rule = "found in question and answer"
        if text.language:
            language, rule = text.language, "named in the file"
        elif found and found.category is Category.TRANSLATION and text.output:
            language, rule = detect_language(text.output, expected_language), "found in the translation"
        elif language not in LANGUAGES:
            besides = detect_language(f"{text.input}\n{text.reasoning}", expected_language)
            if besides in LANGUAGES:
                language, rule = besides, "found in the input and the Reasoning"
        rows.append(ClassifiedRow(text=text, category=found, language=language, language_rule=rule))
    return rows


def group_rows(
    rows: Iterable[ClassifiedRow],
    provenance: Provenance,
    taken: Mapping[str, int],
    pair_by: str | None = None,
    used: Iterable[str] = (),
) -> GroupingResult:
    """Group rows with the same key and number the groups.

    Args:
        taken: the highest number of each category so far.
        pair_by: the column that holds the key, or `UNPAIRED`; by default the first of `PAIR_COLUMNS` that a row has,
            else its id.
        used: ids that are taken; a group whose rows name another one keeps that.
    """
    # 1. Collect the rows of each key; a row without one is alone.
    rows, result = list(rows), GroupingResult()
    columns = _pair_columns(rows, pair_by)
    by_key: dict[tuple[str, str], list[ClassifiedRow]] = {}
    for number, row in enumerate(rows):
        by_key.setdefault(_key(row.text, columns) or ("", str(number)), []).append(row)

    # 2. Two lists in two sheets may number their rows alike: then a key holds for its sheet alone.
    keyed: list[tuple[str, list[ClassifiedRow]]] = []
    for (column, _), members in by_key.items():
        sheets = list(dict.fromkeys(row.text.sheet for row in members))
        languages = [row.language for row in members]
        if len(sheets) > 1 and len(set(languages)) < len(languages):
            keyed += [(column, [row for row in members if row.text.sheet == sheet]) for sheet in sheets]
        else:
            keyed.append((column, members))

    # 3. Make a group of them, or a draft with the reasons. Drafts use up no number.
    numbers = dict(taken)
    taken_ids = set(used)
    for column, members in keyed:
        members = _agree_on_category(members)
        if column not in ("", ONE_ROW) and len({row.text.location for row in members}) > 1:
            shown = " / ".join(f"{row.text.instruction[:24]!r}" for row in members[:3])
            result.paired.setdefault(column, []).append(shown)
        reasons = _draft_reasons(members)
        categories = {row.category.category for row in members if row.category}
        if len(categories) == 1:
            (category,) = categories
            named = re.fullmatch(ID_PATTERN, str(members[0].text.columns.get("group_id", "")))
            number = numbers.get(category, 0) + 1
            group_id = f"{category}-{number:04}"
            if named and named["category"] == category and named[0] not in taken_ids:
                group_id = named[0]
            try:
                record = to_record(members, category, group_id, provenance)
                parse_group(json.dumps(record), "")
            except RecordError as error:
                faults = [fault.removeprefix(f": {group_id}: ") for fault in error.faults]
                text_is_broken = any("half of a character" in reason for reason in reasons)
                known = any("a group needs ja and en" in reason for reason in reasons)
                reasons += [
                    fault.removesuffix(", or move the group to drafts")
                    for fault in faults
                    if not (known and " is missing; every group has" in fault)
                    and not (text_is_broken and "surrogate" in fault)
                ]
        if reasons or len(categories) != 1:
            result.drafts.append(Draft(reasons=tuple(dict.fromkeys(reasons)), rows=tuple(members)))
            continue
        taken_ids.add(group_id)
        numbers[category] = max(numbers.get(category, 0), int(group_id.rsplit("-", 1)[1]))
        result.groups.append(CandidateGroup(record, tuple(members)))
    return result


def _pair_columns(rows: Sequence[ClassifiedRow], pair_by: str | None) -> list[str]:
    """Return the columns to pair by, the best first: one whose values rows of several languages share."""
    if pair_by:
        return [] if pair_by == UNPAIRED else [fold_name(pair_by)]

    def pairs(column: str) -> bool:
        languages: dict[str, str] = {}
        for row in rows:
            key = _key(row.text, [column])
            if key and languages.setdefault(key[1], row.language) != row.language:
                return True
        return False

    return sorted((*PAIR_COLUMNS, "id"), key=lambda column: not pairs(column))


def _key(text: ImportedText, columns: Sequence[str]) -> tuple[str, str] | None:
    """Return the column by which a text is paired and its value there; None if it is alone."""
    if text.key:
        return (ONE_ROW, text.key)
    for column in columns:
        if value := str(text.columns.get(column, "")):
            return (column, split_language(value) if column == "id" else value)
    return None


def _agree_on_category(rows: list[ClassifiedRow]) -> list[ClassifiedRow]:
    """Give rows whose instruction tells nothing the category of those whose instruction or column does."""
    told = {row.category for row in rows if row.category and not row.category.rule.startswith("no word tells")}
    if len({guess.category for guess in told}) == 1:
        (first, *_) = sorted(told, key=lambda guess: guess.guessed)
        rule = f"as the other languages: {first.rule}"
        quiet = [row for row in rows if row.category and row.category.rule.startswith("no word tells")]
        guess = CategoryGuess(first.category, rule, True)
        return [replace(row, category=guess) if row in quiet else row for row in rows]
    return rows


def _draft_reasons(rows: list[ClassifiedRow]) -> list[str]:
    """Explain why these rows can't be one group, all that is in the way; empty if they may be."""
    reasons = []
    for row in rows:
        place = f"{row.text.location}: " if len(rows) > 1 else ""
        reasons += [place + doubt for doubt in row.text.doubts]
        if row.category is None:
            category = row.text.columns["category"]
            reasons.append(f"{place}the category is {category!r}; write one of {', '.join(CATEGORIES)}")
        if row.language not in LANGUAGES and not any("the language is" in doubt for doubt in row.text.doubts):
            found = f"the language is '{row.language}'; records are in {', '.join(LANGUAGES)}"
            if row.language == "und":
                found = "no letter tells the language; write a column 'language'"
            reasons.append(place + found)
    categories = {row.category.category: row for row in rows if row.category}
    if len(categories) > 1:
        found = "; ".join(f"{row.text.location}: {name}" for name, row in categories.items())
        reasons.append(f"the rows of one group have several categories ({found}); write a column 'category'")
    if Category.TRANSLATION in categories:
        return reasons
    languages = [row.language for row in rows]
    for language in dict.fromkeys(languages):
        if languages.count(language) > 1 and language in LANGUAGES:
            locations = ", ".join(row.text.location for row in rows if row.language == language)
            reasons.append(f"two rows in '{language}' ({locations}) have the same key; give them different ones")
    missing = " and ".join(language for language in ("ja", "en") if language not in languages)
    if missing and not (reasons and len(rows) == 1 and rows[0].language not in LANGUAGES):
        reasons.append(f"no row in {missing}; a group needs ja and en: write it, or pair rows by 'group_id'")
    return reasons


def to_record(
    rows: Sequence[ClassifiedRow], category: Category, group_id: str, provenance: Provenance
) -> dict[str, Any]:
    """Return the group as a JSON object, of whatever its rows have.

    Raises:
        RecordError: with the reasons why it is none.
    """
    reasons: list[str] = []
    texts: dict[str, dict[str, Any]] = {}
    original: dict[str, dict[str, str]] = {}
    for row in rows:
        # 1. The texts by language. A translation has one from one or more directions; Reasoning belongs to the target.
        text, columns = row.text, row.text.columns
        earlier = {
            name: str(columns[f"{name}_original"]) for name in ("reasoning", "input") if f"{name}_original" in columns
        }
        if earlier:
            original[row.language] = earlier
        if category is not Category.TRANSLATION:
            earlier_turns = {"history": list(text.history)} if text.history else {}
            texts.setdefault(row.language, earlier_turns | {name: getattr(text, name) for name in TEXTS})
            continue
        if columns.get("text"):
            texts[row.language] = {"text": columns["text"], "reasoning": text.reasoning}
            continue
        source = parse_language(str(columns.get("source_language", ""))) or detect_language(text.input)
        if not text.input:
            reasons.append(
                f"{text.location}: a translation without its text in 'input'; move it there from the instruction"
            )
            continue
        if source == row.language or source not in LANGUAGES:
            got = f"translates '{source}' into '{row.language}'"
            reasons.append(f"{text.location}: {got}; name source_language and language")
            continue
        for language, wording in ((source, text.input), (row.language, text.output)):
            if texts.setdefault(language, {"text": wording, "reasoning": ""})["text"] != wording:
                reasons.append(
                    f"{text.location}: another text in '{language}' than the rows before it; make them the same"
                )
        texts[row.language]["reasoning"] = text.reasoning
    if reasons:
        raise RecordError(reasons)

    # 2. What the group has to name comes from the first row that has it, else from the caller.
    def named(column: str, otherwise: str) -> str:
        return next((str(value) for row in rows if (value := row.text.columns.get(column))), otherwise)

    license = named("license", provenance.license)
    step = named("step", "")
    whole = re.fullmatch(r"(\d+)(?:\.0+)?", step)  # a column with gaps holds floats
    record: dict[str, Any] = {
        "id": group_id,
        "category": str(category),
        "topic": named("topic", provenance.topic),
        **{language: texts[language] for language in LANGUAGES if language in texts},
        "original": {language: original[language] for language in LANGUAGES if language in original},
        "skills": _skills(rows),
        "chain": {"id": named("chain", ""), "step": int(whole[1]) if whole else step} if step else {},
        "source": known_source(named("source", provenance.source)),
        "license": LICENSE if is_mit(license) else license,
        "generator": named("generator", provenance.generator),
    }
    record = {name: value for name, value in record.items() if value not in ({}, [])}

    # 3. A group that the next step, `bonsai check`, would refuse for where it comes from is none.
    for issues in (
        source_issues(record["source"]),
        license_issues(record["license"]),
        generator_issues(record["generator"]),
    ):
        reasons += [f"{rows[0].text.location}: {issue.message}: {issue.hint}" for issue in issues]
    if reasons:
        raise RecordError(reasons)
    return record


def known_source(source: str) -> str:
    """Return a source in the words that the records have for it: who gives a file under MIT contributes it."""
    plain = source.strip()
    return plain if not any(source_issues(plain)) else f"contributed under MIT: {plain}"


def is_mit(license: str) -> bool:
    """Return whether a license is MIT, however it is spelled."""
    return re.fullmatch(r"(?:the )?mit(?:[ -]?licen[cs]e|ライセンス)?", license.strip(), re.IGNORECASE) is not None


def _skills(rows: Sequence[ClassifiedRow]) -> list[str]:
    """Return the skills of a group; in CSV they are a list in Python's, numpy's or a person's spelling."""
    for row in rows:
        value = row.text.columns.get("skills")
        if value:
            listed = parse_list(value)
            return (
                [str(skill) for skill in listed] if listed is not None else re.split(r"[\s,、;]+", str(value).strip())
            )
    return []
