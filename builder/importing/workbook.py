"""Read XLSX workbooks as a person sees them: visible sheets and rows, merged cells, values in their number format.

A formula is never evaluated. In a column that is read it is a fault, because its value is meant, and that is stale or
missing in the file.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.number_formats import BUILTIN, format_cell, is_date
from bonsai.builder.importing.tables import Formula, RawRow, TableLine, read_table

LARGEST_SHEET = 256 * 1024**2
"""Bytes of an XLSX file once unpacked."""
HIGHEST_RATIO = 200
"""How many times as large an XLSX part may become when unpacked, from a megabyte on; real tables reach some 20."""

_STRICT = b"http://purl.oclc.org/ooxml/"
_TRANSITIONAL = (
    (b"spreadsheetml/main", b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"),
    (b"officeDocument/relationships", b"http://schemas.openxmlformats.org/officeDocument/2006/relationships"),
    (b"drawingml/main", b"http://schemas.openxmlformats.org/drawingml/2006/main"),
)
"""Namespaces of Strict Open XML and those of the variant that everybody writes."""
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


def read_workbook(
    path: Path, renamed: Mapping[str, str], faults: list[str], notes: list[str], *, sheet_name: str | None = None
) -> Iterator[RawRow]:
    """Read every visible sheet that has columns to read, or the one that was named.

    Args:
        notes: gets a sentence for each sheet, row and cell that was left out or read in a way worth knowing.
    """
    _check_zip_bomb(path)
    from openpyxl import load_workbook  # a tenth of a second that other formats need not pay

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of extensions that only change how a sheet looks
            book = load_workbook(_transitional(path), read_only=True, keep_links=False)
        try:
            # 1. Choose the sheets. A hidden one is as a rule an old one.
            sheets = [sheet for sheet in book.worksheets if sheet_name in (None, sheet.title)]
            names = ", ".join(repr(sheet.title) for sheet in book.worksheets)
            if not sheets:
                faults.append(f"{path}: no sheet {sheet_name!r}; it has {names}" if sheet_name else f"{path}: no sheet")
                return
            visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
            if not sheet_name:
                for sheet in sheets:
                    if sheet not in visible:
                        notes.append(f"{path}: sheet {sheet.title!r} is hidden and was left out; --sheet names it")
                sheets = visible
            if not sheets:
                faults.append(f"{path}: every sheet is hidden ({names}); unhide one, or name it with --sheet")

            # 2. Read each; one without known columns is told, unless it is the only one and so meant.
            for sheet in sheets:
                lines = _visible_lines(path, sheet, book.epoch, notes)
                where = f"{path}:{sheet.title}"
                rows = read_table(where, lines, renamed, faults, notes, must=len(sheets) == 1)
                count = 0
                for row in rows:
                    count += 1
                    yield row
                if len(book.worksheets) > 1:
                    notes.append(f"{where}: {count} rows" if count else f"{where}: no column that is read; left out")
        finally:
            book.close()
    except RecordError:
        raise
    except Exception as error:  # noqa: BLE001  # of zipfile, zlib, an XML parser, or whatever openpyxl trips over
        raise RecordError([f"{path}: not a workbook ({error}); save it as .xlsx again"]) from None


def _visible_lines(path: Path, sheet: Any, epoch: Any, notes: list[str]) -> Iterator[TableLine]:
    """Yield the rows of a sheet that are not hidden, with a merged cell's value in each row that it covers."""
    hidden, merged = _hidden_and_merged(sheet)
    sheet.reset_dimensions()  # what the file states may be wrong, and rows would be missed
    covering: dict[int, tuple[int, Any]] = {}
    errors: list[str] = []
    dropped: list[int] = []
    filled = 0
    for number, cells in enumerate(sheet.iter_rows(), 1):
        values = []
        for cell in cells:
            if cell.data_type == "e":
                errors.append(f"{cell.coordinate} {cell.value}")
            values.append(_cell_value(cell, epoch))
        # 1. A merged cell counts for every row below its first one.
        for column, (last, value) in list(covering.items()):
            if number > last:
                del covering[column]
            elif any(value is not None for value in values):
                values += [None] * (column - len(values))
                values[column - 1] = value
                filled += 1
        for column, last in merged.get(number, {}).items():
            covering[column] = (last, values[column - 1] if column <= len(values) else None)
        # 2. Hidden rows are those that a filter or a person put out of sight.
        if number in hidden:
            dropped += [number] if any(value not in (None, "") for value in values) else []
            continue
        yield TableLine(f"{path}:{sheet.title}:{number}", values)
    if dropped:
        which = ", ".join(map(str, dropped[:10])) + (" …" if len(dropped) > 10 else "")
        notes.append(f"{path}:{sheet.title}: {len(dropped)} hidden rows were left out ({which}); unhide them to import")
    if errors:
        which = ", ".join(errors[:5]) + (" …" if len(errors) > 5 else "")
        notes.append(f"{path}:{sheet.title}: {len(errors)} cells with an error were read as missing ({which})")
    if filled:
        notes.append(f"{path}:{sheet.title}: merged cells were read as the same value in each of their rows")


def _cell_value(cell: Any, epoch: Any) -> Any:
    value = cell.value
    if value is None or cell.data_type == "e":
        return None
    if cell.data_type == "f":
        return Formula(cell.coordinate, str(getattr(value, "text", value))[:60])
    if isinstance(value, str):
        return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), value)
    code = BUILTIN.get(cell.style_array.numFmtId, cell.number_format)
    if isinstance(value, int | float) and not isinstance(value, bool) and is_date(code):
        from openpyxl.utils.datetime import from_excel

        try:
            value = from_excel(value, epoch)
        except (OverflowError, ValueError):
            return format_cell(value, "General")
    return format_cell(value, code)


def _hidden_and_merged(sheet: Any) -> tuple[set[int], dict[int, dict[int, int]]]:
    """Return the hidden rows, and for the first row of each merged cell its columns with their last row.

    openpyxl reads neither when it reads a sheet row by row, and would need a gigabyte to read a large one at once.
    """
    from openpyxl.utils.cell import range_boundaries

    hidden: set[int] = set()
    merged: dict[int, dict[int, int]] = {}
    number = 0
    with sheet.parent._archive.open(sheet._worksheet_path) as part:
        for _, element in ElementTree.iterparse(part):
            tag = element.tag.rpartition("}")[2]
            if tag == "row":
                number = int(element.get("r") or number + 1)
                if element.get("hidden") in ("1", "true"):
                    hidden.add(number)
                element.clear()
            elif tag == "mergeCell":
                left, top, _, bottom = range_boundaries(element.get("ref"))
                if bottom > top:
                    merged.setdefault(top, {})[left] = bottom
    return hidden, merged


def _transitional(path: Path) -> Path | io.BytesIO:
    """Return the file, or, of Strict Open XML, a copy under the namespaces that openpyxl knows."""
    with zipfile.ZipFile(path) as book:
        if "xl/workbook.xml" not in book.namelist() or _STRICT not in book.read("xl/workbook.xml"):
            return path
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as out:
            for name in book.namelist():
                data = book.read(name)
                for strict, usual in _TRANSITIONAL:
                    data = data.replace(_STRICT + strict, usual)
                out.writestr(name, data)
    copy.seek(0)
    return copy


def _check_zip_bomb(path: Path) -> None:
    """Refuse a workbook that would fill the memory, by the sizes in its directory and without unpacking it."""
    try:
        parts = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        hint = "save it again as .xlsx without a password, or as .csv"
        raise RecordError([f"{path}: not an .xlsx file inside; {hint}"]) from None
    unpacked = sum(part.file_size for part in parts)
    if unpacked > LARGEST_SHEET:
        got = f"{unpacked:,} bytes unpacked, more than {LARGEST_SHEET:,}"
        raise RecordError([f"{path}: {got}; save it as .csv or split it"])
    for part in parts:
        if part.file_size > 1_000_000 and part.file_size > HIGHEST_RATIO * max(part.compress_size, 1):
            got = f"'{part.filename}' grows from {part.compress_size:,} to {part.file_size:,} bytes"
            raise RecordError([f"{path}: {got}, as in a zip bomb; if you trust it, save it as .csv"])
