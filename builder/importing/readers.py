"""Read CSV, TSV, XLSX, JSON, JSONL and Parquet files as rows.

Each row becomes a `RawRow`, its columns as the file has them:

    RawRow("notes.csv:2", {"instruction": "What is a bonsai?", "output": "A tree in a pot."})

A cell that a spreadsheet would evaluate is never evaluated. In CSV and TSV a leading ``=`` is text like any other; in
XLSX a formula is a fault, because its value is meant, and that is stale or missing in the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bonsai.builder.errors import RecordError

SUFFIXES = (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".parquet")
LARGEST_FILE = 512 * 1024**2
"""Bytes; a file to import is held in memory. `check_rows` has no such limit."""
LONGEST_CELL = 100_000
"""Characters; a spreadsheet cell holds 32,767, a record some hundred."""
LARGEST_SHEET = 256 * 1024**2
"""Bytes of an XLSX file once unpacked."""
HIGHEST_RATIO = 200
"""How many times as large an XLSX part may become when unpacked, from a megabyte on; real tables reach some 20."""
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_UNASSIGNED = re.compile("[\x80\xa0\uf8f0-\uf8f3]")
"""What Python makes of the bytes that CP932 leaves unassigned, instead of refusing them."""

Value = object


class DecodedText(NamedTuple):
    """A file's text, the encoding it was read with, and the rule that chose it."""

    text: str
    encoding: str
    rule: str


class RawRow(NamedTuple):
    """``location`` is ``file:line`` (CSV, JSONL), ``file:sheet:row`` (XLSX) or ``file:row n`` (JSON, Parquet)."""

    location: str
    columns: dict[str, Value]


class SourceRows(NamedTuple):
    """The rows of a file, how its bytes were decoded, and a sentence for each fault."""

    rows: list[RawRow]
    encoding: str
    encoding_rule: str
    faults: list[str]


def read_rows(path: Path, encoding: str | None = None) -> SourceRows:
    """Read all rows of a CSV, TSV, XLSX, JSON, JSONL or Parquet file.

    Args:
        encoding: of a text file; by default it is detected.

    Raises:
        RecordError: the file as a whole can't be read; faults of single rows are in `SourceRows.faults`.
    """
    # 1. Choose the reader by the suffix. XLSX and Parquet are binary, the others are decoded first.
    if not path.is_file():
        raise RecordError([f"{path}: no such file; name a {', '.join(SUFFIXES)} file"])
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RecordError([f"{path}: a '{path.suffix}' file; save it as one of {', '.join(SUFFIXES)}"])
    faults: list[str] = []
    binary = DecodedText("", "binary", f"{suffix} names its own encoding")
    decoded = binary if suffix in (".xlsx", ".parquet") else decode_text_file(path, encoding)
    match suffix:
        case ".xlsx":
            found = read_xlsx(path, faults)
        case ".parquet":
            found = read_parquet(path)
        case ".json":
            found = read_json(path, decoded.text, faults)
        case ".jsonl":
            found = read_jsonl(path, decoded.text, faults)
        case _:
            found = read_table(path, decoded.text, "\t" if suffix == ".tsv" else None, faults)

    # 2. Read the rows, and refuse those with an implausibly long cell.
    rows: list[RawRow] = []
    for row in found:
        too_long = [
            f"{row.location}: '{name}' has {len(value):,} characters; cut it to {LONGEST_CELL:,} or fewer"
            for name, value in row.columns.items()
            if isinstance(value, str) and len(value) > LONGEST_CELL
        ]
        faults.extend(too_long)
        if not too_long:
            rows.append(row)
    if not rows and not faults:
        faults.append(f"{path}: no row; a table needs a line of column names and a row below it")
    return SourceRows(rows, decoded.encoding, decoded.rule, faults)


def decode_text_file(path: Path, encoding: str | None = None) -> DecodedText:
    """Read a text file; ``encoding`` overrules the detection.

    Raises:
        RecordError: the file is too large, or no encoding fits.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise RecordError([f"{path}: {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}; split the file"])
    raw = path.read_bytes()
    # 1. The encoding that was asked for.
    if encoding is not None:
        try:
            return DecodedText(raw.decode(encoding), encoding, "as requested")
        except (UnicodeDecodeError, LookupError) as error:
            raise RecordError([f"{path}: not {encoding} ({error}); name the encoding the file was saved in"]) from None

    # 2. A byte-order mark is a promise: a file that breaks it is refused.
    for mark, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            try:
                return DecodedText(raw.decode(name), name, "byte-order mark")
            except UnicodeDecodeError as error:
                line = raw[: error.start].count(b"\n") + 1
                reason = f"the byte-order mark promises {name}, but this line is not; save the file again"
                raise RecordError([f"{path}:{line}: {reason}"]) from None

    # 3. UTF-8, which text in another encoding practically never is by accident.
    try:
        return DecodedText(raw.decode("utf-8"), "utf-8", "valid UTF-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1

    # 4. CP932 or GB18030. Most Chinese files decode as CP932 too, but give half-width kana all over, where Japanese
    #    text is full of full-width ones.
    japanese = _try_decode(raw, "cp932")
    if japanese is not None and _UNASSIGNED.search(japanese):
        japanese = None
    if japanese is not None:
        full_width = sum("\u3041" <= character <= "\u30fa" for character in japanese)
        half_width = sum("\uff61" <= character <= "\uff9f" for character in japanese)
        if full_width > half_width:
            return DecodedText(japanese, "cp932", "not UTF-8; valid CP932 with more full-width than half-width kana")
    chinese = _try_decode(raw, "gb18030")
    if chinese is not None:
        return DecodedText(chinese, "gb18030", "not UTF-8; not Japanese in CP932; valid GB18030")
    if japanese is not None:
        return DecodedText(japanese, "cp932", "not UTF-8; not GB18030; valid CP932")
    raise RecordError([f"{path}:{line}: neither UTF-8, CP932 nor GB18030; save it as UTF-8, or name its encoding"])


def _try_decode(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def read_table(path: Path, text: str, delimiter: str | None, faults: list[str]) -> Iterator[RawRow]:
    """Read CSV or TSV; without a ``delimiter`` it is the most frequent of ``,;`` and tab in the first line."""
    header_line = text.split("\n", 1)[0]
    delimiter = delimiter or max(",;\t", key=header_line.count)
    # The csv module's own limit is global and smaller than a cell that is worth a fault of its own.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1  # before the row is read: a quoted cell may go over several lines
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(f'{path}:{line}: {error}; double a quote inside a quoted cell ("") and close each quote')
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _parse_header(f"{path}:{line}", cells, faults)
            if header is None:
                return
        elif len(cells) > len(header) and any(cells[len(header) :]):
            got = f"{len(cells)} cells below {len(header)} column names"
            faults.append(f"{path}:{line}: {got}; put a cell that contains '{delimiter}' into quotes")
        else:
            yield RawRow(f"{path}:{line}", dict(zip(header, cells + [""] * len(header), strict=False)))


def read_xlsx(path: Path, faults: list[str]) -> Iterator[RawRow]:
    """Read the first sheet of a workbook; a row with a formula is a fault."""
    _check_zip_bomb(path)
    from openpyxl import load_workbook  # a tenth of a second that other formats need not pay

    try:
        book = load_workbook(path, read_only=True, data_only=False, keep_links=False)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what the file states may be wrong, and rows would be missed
            header: list[str] | None = None
            for number, cells in enumerate(sheet.iter_rows(), 1):
                location = f"{path}:{sheet.title}:{number}"
                formulas = [cell for cell in cells if cell.data_type == "f"]
                for cell in formulas:
                    formula = str(cell.value)[:60]
                    faults.append(
                        f"{location}: {cell.coordinate} holds the formula {formula!r}; paste its value as text"
                    )
                texts = ["" if cell.value is None else str(cell.value) for cell in cells]
                if formulas or not any(text.strip() for text in texts):
                    continue
                if header is None:
                    header = _parse_header(f"{path}:{number}", texts, faults)
                    if header is None:
                        return
                else:
                    yield RawRow(location, dict(zip(header, texts + [""] * len(header), strict=False)))
        finally:
            book.close()
    except Exception as error:  # noqa: BLE001  # of zipfile, zlib, an XML parser, or whatever openpyxl trips over
        raise RecordError([f"{path}: not a workbook ({error}); save it as .xlsx again"]) from None


def _parse_header(location: str, cells: list[str], faults: list[str]) -> list[str] | None:
    """Return the column names without empty ones at the end; None, and a fault, if one occurs twice."""
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        faults.append(f"{location}: the column name {duplicates[0]!r} occurs twice; give each column a name of its own")
        return None
    return names


def _check_zip_bomb(path: Path) -> None:
    """Refuse a workbook that would fill the memory, by the sizes in its directory and without unpacking it."""
    try:
        parts = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise RecordError([f"{path}: not an .xlsx file inside; save it again as .xlsx or .csv"]) from None
    unpacked = sum(part.file_size for part in parts)
    if unpacked > LARGEST_SHEET:
        got = f"{unpacked:,} bytes unpacked, more than {LARGEST_SHEET:,}"
        raise RecordError([f"{path}: {got}; save it as .csv or split it"])
    for part in parts:
        if part.file_size > 1_000_000 and part.file_size > HIGHEST_RATIO * max(part.compress_size, 1):
            got = f"'{part.filename}' grows from {part.compress_size:,} to {part.file_size:,} bytes"
            raise RecordError([f"{path}: {got}, as in a zip bomb; if you trust it, save it as .csv"])


def read_json(path: Path, text: str, faults: list[str]) -> Iterator[RawRow]:
    """Read a list of objects, bare or as the only list in an object, as in ``{"data": [...]}``."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError of its own
        location = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
        reason = f"not JSON ({error}); write a list of objects, or name the file .jsonl"
        raise RecordError([f"{location}: {reason}"]) from None
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 else found
    if not isinstance(found, list):
        raise RecordError([f"{path}: a JSON {type(found).__name__}; write a list of objects"])
    for number, row in enumerate(found, 1):
        yield from _to_raw_row(f"{path}:row {number}", row, faults)


def read_jsonl(path: Path, text: str, faults: list[str]) -> Iterator[RawRow]:
    """Read one object per line; blank lines are skipped."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(f"{path}:{number}: not JSON ({error}); write one whole object on this line")
            continue
        yield from _to_raw_row(f"{path}:{number}", row, faults)


def _to_raw_row(location: str, row: object, faults: list[str]) -> Iterator[RawRow]:
    if isinstance(row, dict):
        yield RawRow(location, row)
    else:
        faults.append(f'{location}: a JSON {type(row).__name__}, not an object; write {{"instruction": …}}')


def read_parquet(path: Path) -> Iterator[RawRow]:
    """Read the rows of a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield RawRow(f"{path}:row {number}", row)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two of single values
        raise RecordError([f"{path}: not readable as Parquet ({error}); save it again"]) from None
