"""Merge an edited export back into the records: only what a person has changed, and only the lines it is in.

For each row there are three versions: as it was exported (its digest), as it is in the file now, and as it is in the
records now. What differs between the last two is an edit; where the records have moved on since the export and the row
was edited too, it is told and left alone, for neither side may be overwritten unseen.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.run import run_checks
from bonsai.builder.editing import GroupChange, GroupLine, change_groups, next_free_id, read_lines
from bonsai.builder.errors import RecordError
from bonsai.builder.importing.columns import canonical_name, parse_category, parse_language
from bonsai.builder.importing.export_file import (
    DIGEST,
    ORDER,
    cell_text,
    column_of,
    flatten,
    path_of,
    row_digest,
    to_rows,
)
from bonsai.builder.importing.import_file import FAULTS_SHOWN, parse_rows
from bonsai.builder.importing.pairing import Provenance, classify_rows, group_rows
from bonsai.builder.importing.readers import SourceRows, read_rows
from bonsai.builder.importing.tables import RawRow
from bonsai.builder.records import SourcedGroup, display_path, parse_group
from bonsai.builder.schema import LANGUAGES

_JSON = ("history", "read")
"""Fields whose cell holds JSON, and so those of keys that the schema doesn't know yet."""


class TextEdit(NamedTuple):
    """One text of a group, before and after; ``field`` as in ``ja.output``."""

    group_id: str
    field: str
    old: str
    new: str


@dataclass(kw_only=True)
class MergePlan:
    """What an edited export changes, and what a person should hear of before it is written."""

    edits: list[TextEdit] = field(default_factory=list)
    changes: list[GroupChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_export(path: Path) -> bool:
    """Return whether a file is one of our exports, edited or not."""
    mark, suffix, found = DIGEST.encode(), path.suffix.lower(), False
    if suffix == ".xlsx" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as book:
            parts = [part for part in book.infolist() if re.search(r"sharedStrings|worksheets/", part.filename)]
            found = any(mark in book.read(part) for part in parts if part.file_size < 64 * 1024**2)
    elif suffix in (".csv", ".tsv", ".jsonl", ".json") and path.is_file():
        with path.open("rb") as file:
            found = mark in file.read(8192).replace(b"\0", b"")
    return found and {DIGEST, "id"} <= {canonical_name(name) for name in read_rows(path).columns.names}


def plan_merge(path: Path, records: Path, *, sheet: str | None = None) -> MergePlan:
    """Compare an edited export with the records; nothing is written.

    Raises:
        RecordError: with every fault of the rows, or of the groups as they would become.
    """
    # 1. Compare each row with its group as it is now.
    read = read_rows(path, sheet=sheet)
    faults, plan = list(read.faults), MergePlan(notes=list(read.notes))
    lines = read_lines(records) if records.is_dir() else {}
    known = {path_of(name, "ja") for name in ORDER} | {DIGEST}
    known |= {_shape(name) for line in lines.values() for name in flatten(line.record)}
    wanted: dict[str, dict[str, dict[str, str]]] = {}
    new_rows: list[RawRow] = []
    older: list[str] = []
    unknown: dict[str, None] = {}
    for row in read.rows:
        cells = {canonical_name(name): cell_text(value) for name, value in row.columns.items()}
        if (group_id := cells.get("id", "")) not in lines:
            named = {"group_id": group_id} if group_id else {}
            new_rows.append(row._replace(columns={n: v for n, v in row.columns.items() if n != DIGEST} | named))
            continue
        language = parse_language(cells.get("language", "")) or ""
        if "language" in cells and not language:
            faults.append(f"{row.location}: the language is {cells['language']!r}; write one of {', '.join(LANGUAGES)}")
            continue
        unknown |= dict.fromkeys(name for name in cells if _shape(path_of(name, language)) not in known)
        was = cells.pop(DIGEST, "")
        cells = {name: text for name, text in cells.items() if name not in unknown}
        now, digest = _row_now(lines[group_id], language, cells)
        edits = {n: t for n, t in cells.items() if n not in ("id", "language") and t != now.get(n, "") and (t or was)}
        if edits and was and digest != was:
            # the records have moved on; a row that nobody touched is only old
            if row_digest(cells) == was:
                older.append(group_id)
            else:
                hint = "edited here, and changed in the records since the export; left alone: export it again"
                plan.notes.append(f"{row.location} {group_id}: {hint}")
            edits = {}
        for name, text in edits.items():
            wanted.setdefault(group_id, {}).setdefault(path_of(name, language), {})[text] = row.location
    if older:
        plan.notes.append(
            f"{len(older)} rows are older than the records and untouched; the records stay ({older[0]} …)"
        )
    if unknown:
        plan.notes.append(f"columns that records don't have: {', '.join(unknown)}; left out")
    if read.rows and len(new_rows) == len(read.rows):
        faults.append(f"{path}: none of its groups is in {display_path(records)}; name their folder: --records")
        new_rows = []
    if absent := len(lines.keys() - {cell_text(row.columns.get("id")) for row in read.rows}):
        plan.notes.append(f"{absent} groups of the records are not in the file; they stay as they are")

    # 2. What becomes of each group, and of the new ones.
    ids = list(lines)
    for group_id, fields in wanted.items():
        record = _edited(lines[group_id], fields, ids, plan, faults)
        ids.append(record["id"])
        plan.changes.append(GroupChange(read=lines[group_id], record=record))
        try:
            parse_group(json.dumps(record), next(iter(next(iter(fields.values())).values())))
        except RecordError as error:
            faults += error.faults
    if new_rows and not faults:
        _add_new(read, new_rows, lines, plan, faults)
    if faults:
        more = [f"{path}: and {len(faults) - FAULTS_SHOWN} more faults"] if len(faults) > FAULTS_SHOWN else []
        raise RecordError(faults[:FAULTS_SHOWN] + more)

    # 3. What the checks say of the groups as they would be.
    groups = [parse_group(json.dumps(change.record), "") for change in plan.changes]
    located = [SourcedGroup(group=group, path=path, line=number) for number, group in enumerate(groups)]
    names = ("language", "unicode", "personal data", "provenance", "parallel")
    for finding in run_checks(located, (), only=names).findings:
        if finding.severity is Severity.ERROR:
            plan.notes.append(f"error: {finding.group_id} {finding.field}: {finding.message}; {finding.hint}")
    return plan


def write_merge(plan: MergePlan, records: Path, *, note: str) -> None:
    """Write the changed lines, all of them or none.

    Raises:
        EditConflictError: a group was changed while a person read the differences; nothing was written.
    """
    change_groups(records, plan.changes, note=note)


def _shape(path: str) -> str:
    """Return a path that is the same for every language."""
    return re.sub(r"\b(?:en|zh)\b", "ja", path)


def _row_now(line: GroupLine, language: str, given: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the cells of a row as it would be exported now, and their digest; of a new language the group's fields."""
    languages = [language] if language else [it for it in LANGUAGES if any(name.endswith(f"_{it}") for name in given)]
    rows = list(to_rows(line.record, languages, wide=not language))
    if not rows:
        fields = [(*column_of(path), value) for path, value in flatten(line.record).items()]
        rows = [{column: value for column, own, value in fields if not own}]
    cells = {name: cell_text(value) for name, value in rows[0].items()}
    return cells, cells.pop(DIGEST, "")


def _edited(
    line: GroupLine, fields: Mapping[str, Mapping[str, str]], ids: list[str], plan: MergePlan, faults: list[str]
) -> dict[str, Any]:
    """Return the record with what its rows change.

    Args:
        fields: the new texts of each field, with their places. A field of the group stands in each of its rows: one row
            with another value is enough, two values are not.
    """
    flat = flatten(line.record)
    for path, texts in fields.items():
        if len(texts) > 1:
            both = " and ".join(f"{text[:30]!r} ({location})" for text, location in texts.items())
            faults.append(f"{line.id}: two rows give {path!r} different values: {both}; make them the same")
        ((text, location), *_) = texts.items()
        plan.edits.append(TextEdit(line.id, path, cell_text(flat.get(path)), text))
        name = path.rpartition(".")[2]
        if path == "category":
            if (category := parse_category(text)) is None:
                faults.append(f"{location}: {line.id}: the category is {text!r}; choose one of the list")
                continue
            # the id begins with the category, so the group gets the next one there
            flat |= {"category": str(category[0]), "id": next_free_id(category[0], ids)}
            plan.edits.append(TextEdit(line.id, "id", line.id, flat["id"]))
        elif not text and (path not in flat or path.startswith(("original.", "chain.")) or name in ("skills", *_JSON)):
            flat.pop(path, None)
        elif path == "skills":
            flat[path] = [skill for skill in re.split(r"[\s,、;]+", text) if skill]
        elif path == "chain.step" and text.isdigit():
            flat[path] = int(text)
        elif name in _JSON or not isinstance(flat.get(path, ""), str):
            try:
                flat[path] = json.loads(text)
            except ValueError:
                faults.append(f"{location}: '{name}' is no JSON any more; take its cell from the export again")
        else:
            flat[path] = text
    record: dict[str, Any] = {}
    for path, value in flat.items():
        *above, name = path.split(".")
        place = record
        for step in above:
            place = place.setdefault(step, {})
        place[name] = value
    return record


def _add_new(
    read: SourceRows, rows: list[RawRow], lines: Mapping[str, GroupLine], plan: MergePlan, faults: list[str]
) -> None:
    """Add groups of rows that a person has written below the exported ones."""
    named = replace(read.columns, names=read.columns.names | {"group_id": "group_id"})
    texts, _ = parse_rows(read._replace(rows=rows, columns=named), {})
    highest: dict[str, int] = {}
    for group_id in lines:
        category, _, number = group_id.rpartition("-")
        highest[category] = max(highest.get(category, 0), int(number) if number.isdigit() else 0)
    nobody = Provenance(source="", license="", generator="", topic="")
    result = group_rows(classify_rows(texts, None), nobody, highest, used=lines)
    faults.extend(f"{draft.rows[0].text.location}: a new row, but no group: {draft.reason}" for draft in result.drafts)
    for record, _ in result.groups:
        plan.changes.append(GroupChange(record=record))
        plan.edits += [TextEdit(record["id"], path, "", cell_text(value)) for path, value in flatten(record).items()]
