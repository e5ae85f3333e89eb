"""Read tables of cells: find the line of column names, and what lies above, below and beside it.

Used for CSV, TSV and XLSX alike. A title above the table, cells without a name and columns that nothing is read from
are told, never dropped in silence.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bonsai.builder.importing.columns import ColumnMap, is_missing, is_read

HEADER_WITHIN = 10
"""Lines with something in them, among which the column names are looked for."""
_READ_WITHOUT = ("input", "reasoning", "category", "topic", "source", "license", "generator", "language")
"""Columns whose cells may be missing at the end of a line; spreadsheet programs leave out trailing delimiters."""


class RawRow(NamedTuple):
    """``location`` is ``file:line`` (CSV, JSONL), ``file:sheet:row`` (XLSX) or ``file:row n`` (JSON, Parquet)."""

    location: str
    columns: dict[str, Any]
    sheet: str = ""
    """rows of one sheet belong together more closely than those of two"""


class TableLine(NamedTuple):
    """One line of cells."""

    location: str
    cells: list[Any]


class Formula(NamedTuple):
    """A cell that a spreadsheet would compute."""

    coordinate: str
    text: str


def read_table(
    where: str,
    lines: Iterator[TableLine],
    renamed: Mapping[str, str],
    faults: list[str],
    notes: list[str],
    *,
    delimiter: str | None = None,
    must: bool = True,
) -> Iterator[RawRow]:
    """Yield the rows below the column names.

    Args:
        where: the file, or the file and sheet.
        renamed: what a person said that columns are; see `ColumnMap.of`.
        delimiter: of a text file, where a line with more or fewer cells is a fault; in a spreadsheet cells may lie
            beside the table, and empty ones are not there.
        must: whether a table without known columns is yielded nevertheless, for the importer to refuse.
    """
    # 1. The first line that names a format's columns; else the first one that has anything.
    full = (line for line in lines if not all(is_missing(cell) for cell in line.cells))
    head = list(itertools.islice(full, HEADER_WITHIN))
    named = (n for n, line in enumerate(head) if ColumnMap.of(_names(line), renamed).format)
    found = next(named, None)
    if not head or (found is None and not must):
        return
    header, rest = head[found or 0], itertools.chain(head[(found or 0) + 1 :], full)
    for above in head[: found or 0]:
        text = " ".join(str(cell) for cell in above.cells if not is_missing(cell))
        notes.append(f"{above.location}: above the column names, and left out: {text[:40]!r}")
    names = _names(header)
    columns = [(n, name) for n, name in enumerate(names) if name]
    doubled = sorted({name for _, name in columns if names.count(name) > 1})
    if doubled:
        reason = f"the column name {doubled[0]!r} occurs twice; give each column a name of its own"
        faults.append(f"{header.location}: {reason}")
        return
    width = max((n for n, _ in columns), default=-1) + 1
    meant = {name: ColumnMap.of([name], renamed).names[name] for _, name in columns}
    needed = [n for n, name in columns if meant[name] not in _READ_WITHOUT]

    # 2. The rows. In CSV a line of another length is a cell that was cut, and the rest of the file can't be trusted.
    nameless: list[str] = []
    for line in rest:
        cells = line.cells
        count = f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} below {width} column names"
        if delimiter and any(not is_missing(cell) for cell in cells[width:]):
            faults.append(f"{line.location}: {count}; put a cell that contains {delimiter!r} into quotes")
            continue
        if delimiter and any(n >= len(cells) for n in needed):
            faults.append(f"{line.location}: {count}; put a cell that contains a line break into quotes")
            continue
        beside = [cell for n, cell in enumerate(cells) if not (n < width and names[n]) and not is_missing(cell)]
        if beside:
            nameless.append(f"{line.location} {str(beside[0])[:20]!r}")
        row = {name: cells[n] if n < len(cells) else None for n, name in columns}
        for name, cell in row.items():
            if isinstance(cell, Formula):
                row[name] = None
                if is_read(meant[name]):
                    reason = f"{cell.coordinate} holds the formula {cell.text!r}; paste its value as text"
                    faults.append(f"{line.location}: {reason}")
        if any(not is_missing(cell) for cell in row.values()):
            yield RawRow(line.location, row, where)
    if nameless:
        more = f" and {len(nameless) - 3} more" if len(nameless) > 3 else ""
        notes.append(f"{where}: cells without a column name were left out ({', '.join(nameless[:3])}{more})")


def read_csv(
    path: Path, text: str, delimiter: str | None, renamed: Mapping[str, str], faults: list[str], notes: list[str]
) -> Iterator[RawRow]:
    """Read CSV or TSV; without a ``delimiter`` it is the one of ``,;`` and tab that makes known columns."""
    # Excel writes and reads a first line "sep=;"
    skipped = 0
    if said := re.match(r'"?sep=(.)"?\r?\n', text):
        delimiter, text, skipped = said[1], text[said.end() :], 1
    if delimiter is None:
        beginning = text.split("\n", HEADER_WITHIN)[:HEADER_WITHIN]
        delimiter = max(",;\t", key=lambda mark: (_makes_columns(beginning, mark, renamed), text[:2000].count(mark)))
    broken: list[str] = []
    lines = _csv_lines(path, text, delimiter, skipped, broken)
    yield from read_table(str(path), lines, renamed, faults, notes, delimiter=delimiter)
    faults += broken


def _makes_columns(lines: list[str], delimiter: str, renamed: Mapping[str, str]) -> bool:
    return any(ColumnMap.of([cell.strip(' "\r') for cell in line.split(delimiter)], renamed).format for line in lines)


def _csv_lines(path: Path, text: str, delimiter: str, skipped: int, faults: list[str]) -> Iterator[TableLine]:
    # The csv module's own limit is global and smaller than a cell that is worth a fault of its own.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1 + skipped  # before the row is read: a quoted cell may go over several lines
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(f'{path}:{line}: {error}; double a quote inside a quoted cell ("") and close each quote')
            return
        yield TableLine(f"{path}:{line}", [cell if cell else None for cell in cells])


def _names(line: TableLine) -> list[str]:
    names = ["" if is_missing(cell) else str(cell).strip() for cell in line.cells]
    while names and not names[-1]:
        names.pop()
    return names
