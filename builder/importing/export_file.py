"""Write the records as a table that a person edits in a spreadsheet and `bonsai import` merges back by id.

A row is a group in one language, with the fields of the group repeated, or a whole group with its languages side by
side (``output_ja``, ``output_en``). The column ``exported`` holds a digest of the row as it was written: with it the
way back (`bonsai.builder.importing.merge`) can tell what a person has changed from what the records have since.

A field of a record has a path, and in a table a column and perhaps a language:

    >>> [column_of(path) for path in ("topic", "ja.output", "original.ja.reasoning", "chain.id")]
    [('topic', ''), ('output', 'ja'), ('reasoning_original', 'ja'), ('chain', '')]
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from bonsai.builder.editing import read_lines
from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_open
from bonsai.builder.importing.columns import OF_LANGUAGE, parse_language, to_text
from bonsai.builder.records import read_groups
from bonsai.builder.schema import CATEGORIES, LANGUAGES

DIGEST = "exported"
ORDER = (
    *("id", "category", "topic", "language", "history", "instruction", "input", "text", "reasoning", "output"),
    *("reasoning_original", "input_original", "skills", "chain", "step", "source", "license", "generator", "read"),
)
"""Columns from left to right; those of keys that are not here follow, and the digest is last."""
_LONGEST_CELL = 32_767
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]|_(?=x[0-9A-Fa-f]{4}_)")
"""What XLSX writes as ``_xHHHH_``, and the underscore that would make a text look so."""


class ExportResult(NamedTuple):
    """How many groups were written, and in how many rows."""

    groups: int
    rows: int


def export_file(records: Path, output: Path, *, languages: Sequence[str] = (), wide: bool = False) -> ExportResult:
    """Write the groups of a folder as ``.xlsx``, ``.csv`` or ``.jsonl``.

    Args:
        languages: those to write; by default all.
        wide: one row a group, not one a group and language.

    Raises:
        RecordError: the records have faults, the file exists, or a text is too long for a cell.
    """
    # 1. Refuse bad arguments, all of them at once.
    suffix = output.suffix.lower()
    faults = []
    if suffix not in (".xlsx", ".csv", ".jsonl"):
        faults.append(f"{output}: a '{output.suffix}' file; name it .xlsx, .csv or .jsonl")
    if output.exists():
        faults.append(f"{output}: exists already and is not overwritten; name another file or move it away")
    wanted = [parse_language(name) or "" for name in languages]
    for name in (name for name, language in zip(languages, wanted, strict=True) if not language):
        faults.append(f"--language {name}: give one of {', '.join(LANGUAGES)}")
    if faults:
        raise RecordError(faults)

    # 2. The rows, of the lines as they are: what the schema doesn't know yet isn't lost either.
    located = read_groups(records)
    lines = read_lines(records)
    rows = [row for found in located for row in to_rows(lines[found.group.id].record, wanted or LANGUAGES, wide=wide)]
    present = dict.fromkeys(name for row in rows for name in row)
    columns = sorted(present, key=lambda name: (*_place(name), list(present).index(name)))

    # 3. The file.
    if suffix == ".xlsx":
        _write_workbook(output, columns, rows)
        return ExportResult(groups=len(located), rows=len(rows))
    out = io.StringIO(newline="")
    if suffix == ".csv":
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows({name: cell_text(value) for name, value in row.items()} for row in rows)
    else:
        for row in rows:
            out.write(json.dumps({name: row[name] for name in columns if name in row}, ensure_ascii=False) + "\n")
    with atomic_open(output) as file:
        # Excel takes a CSV without the mark for CP932
        file.write(out.getvalue().encode("utf-8-sig" if suffix == ".csv" else "utf-8"))
    return ExportResult(groups=len(located), rows=len(rows))


def to_rows(record: Mapping[str, Any], languages: Sequence[str], *, wide: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of a group with their digests: of each of the languages, or one of all of them."""
    fields = [(*column_of(path), value) for path, value in flatten(record).items()]
    shared = {column: value for column, language, value in fields if not language}
    own = [language for language in LANGUAGES if language in languages and language in record]
    rows: list[dict[str, Any]]
    if wide:
        beside = {f"{column}_{language}": value for column, language, value in fields if language in own}
        rows = [shared | beside] if own else []
    else:
        texts = {it: {column: value for column, language, value in fields if language == it} for it in own}
        rows = [shared | {"language": language} | texts[language] for language in own]
    for row in rows:
        yield row | {DIGEST: row_digest(row)}


def flatten(record: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the fields of a record by path, ``ja.output``; a list is a field, an object is not."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= flatten(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return flat


def column_of(path: str) -> tuple[str, str]:
    """Return the column of a field and its language, which is empty for the group's own fields."""
    match path.split("."):
        case ["original", language, name] if language in LANGUAGES:
            return f"{name}_original", language
        case [language, name] if language in LANGUAGES:
            return name, language
        case ["chain", name]:
            return ("chain" if name == "id" else name), ""
    return path, ""


def path_of(column: str, language: str) -> str:
    """Return the path of the field that a column holds; ``language`` is that of its row or of its own name."""
    base, _, named = column.rpartition("_")
    if named in LANGUAGES:
        column, language = base, named
    if language and column in OF_LANGUAGE:
        earlier = column.removesuffix("_original")
        return f"{language}.{column}" if earlier == column else f"original.{language}.{earlier}"
    return {"chain": "chain.id", "step": "chain.step"}.get(column, column)


def cell_text(value: Any) -> str:
    """Return a value as a cell holds it: skills with commas, what is deeper as JSON, a text as it comes back."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    text = to_text(value)
    return json.dumps(value, ensure_ascii=False) if text is None else text


def row_digest(row: Mapping[str, Any]) -> str:
    """Return a digest of what a row says, whatever the order of its columns."""
    cells = sorted((name, text) for name, value in row.items() if name != DIGEST and (text := cell_text(value)))
    return xxhash.xxh3_64_hexdigest(json.dumps(cells).encode())


def _place(name: str) -> tuple[int, int]:
    """Return where a column stands; those of several languages stand side by side."""
    base, _, language = name.rpartition("_")
    if language in LANGUAGES and base in ORDER:
        return (ORDER.index(base), LANGUAGES.index(language))
    return (ORDER.index(name) if name in ORDER else len(ORDER) + (name == DIGEST), 0)


def _write_workbook(output: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a sheet with its header frozen, cells wrapped, and the categories to choose from."""
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font, PatternFill
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    # 1. Every cell is text, so that what a person types ("1/2", "007") stays what it is, and a formula is none.
    book = Workbook()
    sheet = book.active
    sheet.title = "records"
    wrapped = Alignment(wrap_text=True, vertical="top")
    for number, name in enumerate(columns, 1):
        head = sheet.cell(1, number, name)
        head.font, head.fill = Font(bold=True), PatternFill("solid", start_color="DDE5DD")
        is_text = re.sub("_(?:ja|en|zh)$", "", name) in OF_LANGUAGE
        sheet.column_dimensions[get_column_letter(number)].width = 48 if is_text else 18
    for at, row in enumerate(rows, 2):
        for number, name in enumerate(columns, 1):
            text = cell_text(row.get(name))
            if len(text) > _LONGEST_CELL:
                got = f"'{name}' has {len(text):,} characters, a cell holds {_LONGEST_CELL:,}"
                raise RecordError([f"{output}: {row['id']}: {got}; export as .csv or .jsonl"])
            cell = sheet.cell(at, number, _CONTROL.sub(lambda match: f"_x{ord(match[0]):04X}_", text) or None)
            cell.number_format, cell.alignment, cell.data_type = "@", wrapped, "s" if text else "n"
    # 2. Chosen, not typed: a misspelt category would make the whole group a fault.
    for name, choices in (("category", CATEGORIES), ("language", LANGUAGES)):
        if name in columns:
            letter = get_column_letter(columns.index(name) + 1)
            chooser = DataValidation(type="list", formula1=f'"{",".join(choices)}"', allow_blank=True)
            chooser.add(f"{letter}2:{letter}{len(rows) + 1000}")
            sheet.add_data_validation(chooser)
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = sheet.dimensions
    with atomic_open(output) as file:
        book.save(file)
