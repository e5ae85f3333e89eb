"""Read CSV, TSV, XLSX, JSON, JSONL and Parquet files as rows.

A cell that a spreadsheet would evaluate is never evaluated: in CSV and TSV a leading ``=`` is text like any other, in
XLSX a formula is a fault, because what was meant is its value, and that is stale or missing in the file.
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
from typing import Any, NamedTuple

from bonsai.builder.errors import RecordError

LARGEST_FILE = 512 * 1024**2
"""Bytes; a file to be paired is held in memory. `check_rows` has no such limit."""
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

_NO_CHARACTER = re.compile("[\x80\xa0\uf8f0-\uf8f3]")
"""What Python makes of the bytes that CP932 leaves free, instead of refusing them."""


class Decoded(NamedTuple):
    """A file's text, the encoding it was read with, and the rule that chose it."""

    text: str
    encoding: str
    rule: str


def decode_text_file(path: Path, encoding: str | None = None) -> Decoded:
    """Read a text file; ``encoding`` overrules the guess.

    Raises:
        RecordError: if the file is too large, or no encoding fits.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise RecordError([f"{path}: {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}; split the file"])
    raw = path.read_bytes()
    if encoding is not None:
        try:
            return Decoded(raw.decode(encoding), encoding, "as told")
        except (UnicodeDecodeError, LookupError) as error:
            raise RecordError([f"{path}: not {encoding} ({error}); name the encoding the file was saved in"]) from None
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return _with(path, raw, name, "byte-order mark")
    strict = _attempt(raw, "utf-8")
    if strict is not None:
        return Decoded(strict, "utf-8", "valid UTF-8")
    return _legacy(path, raw)


def _legacy(path: Path, raw: bytes) -> Decoded:
    """Chinese read as CP932 is full of half-width kana; Japanese is full of full-width ones."""
    japanese = _attempt(raw, "cp932")
    if japanese is not None and _NO_CHARACTER.search(japanese):
        japanese = None
    if japanese is not None:
        full = sum("\u3041" <= character <= "\u30fa" for character in japanese)
        half = sum("\uff61" <= character <= "\uff9f" for character in japanese)
        if full > half:
            return Decoded(japanese, "cp932", "not UTF-8; valid CP932 with more full-width than half-width kana")
    chinese = _attempt(raw, "gb18030")
    if chinese is not None:
        return Decoded(chinese, "gb18030", "not UTF-8; not Japanese in CP932; valid GB18030")
    if japanese is not None:
        return Decoded(japanese, "cp932", "not UTF-8; not GB18030; valid CP932")
    line = raw[: _first_fault(raw)].count(b"\n") + 1
    raise RecordError([f"{path}:{line}: neither UTF-8, CP932 nor GB18030; save it as UTF-8, or name its encoding"])


def _with(path: Path, raw: bytes, encoding: str, rule: str) -> Decoded:
    try:
        return Decoded(raw.decode(encoding), encoding, rule)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RecordError(
            [f"{path}:{line}: the file has the mark of {encoding}, this line not; save it anew"]
        ) from None


def _attempt(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _first_fault(raw: bytes) -> int:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(raw)


LONGEST_CELL = 100_000
"""Characters; a spreadsheet holds 32,767, a record some hundred."""
LARGEST_SHEET = 256 * 1024**2
"""Bytes of an XLSX file once unpacked."""
HIGHEST_RATIO = 200
"""How many times as large an XLSX part may become when unpacked, from a megabyte on; real tables reach some 20."""
SUFFIXES = (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".parquet")

Value = object


class RawRow(NamedTuple):
    """``place`` is ``file:line`` (CSV, JSONL), ``file:sheet:row`` (XLSX) or ``file:row n`` (JSON, Parquet)."""

    place: str
    columns: dict[str, Value]


class Source(NamedTuple):
    """What was read: its rows, how its bytes were understood, and a sentence for each fault."""

    rows: list[RawRow]
    encoding: str
    encoding_rule: str
    faults: list[str]


def read_rows(path: Path, encoding: str | None = None) -> Source:
    """All rows of a CSV, TSV, XLSX, JSON, JSONL or Parquet file.

    Raises:
        RecordError: if the file as a whole can't be read; faults of single rows are in `Source.faults`.
    """
    if not path.is_file():
        raise RecordError([f"{path}: no such file; name a {', '.join(SUFFIXES)} file"])
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RecordError([f"{path}: a '{path.suffix}' file; save it as one of {', '.join(SUFFIXES)}"])
    faults: list[str] = []
    binary = Decoded("", "binary", f"{suffix} names its own encoding")
    decoded = binary if suffix in (".xlsx", ".parquet") else decode_text_file(path, encoding)
    match suffix:
        case ".xlsx":
            rows = _xlsx(path, faults)
        case ".parquet":
            rows = _parquet(path)
        case ".json":
            rows = _json(path, decoded.text, faults)
        case ".jsonl":
            rows = _jsonl(path, decoded.text, faults)
        case _:
            rows = _table(path, decoded.text, "\t" if suffix == ".tsv" else None, faults)
    kept = [row for row in rows if not _too_long(row, faults)]
    if not kept and not faults:
        faults.append(f"{path}: no row; a table needs a line of column names and a row below it")
    return Source(kept, decoded.encoding, decoded.rule, faults)


def _too_long(row: RawRow, faults: list[str]) -> bool:
    long = [name for name, value in row.columns.items() if isinstance(value, str) and len(value) > LONGEST_CELL]
    for name in long:
        size = len(str(row.columns[name]))
        faults.append(f"{row.place}: '{name}' has {size:,} characters; cut it to {LONGEST_CELL:,} or fewer")
    return bool(long)


def _table(path: Path, text: str, delimiter: str | None, faults: list[str]) -> Iterator[RawRow]:
    header_line = text.split("\n", 1)[0]
    delimiter = delimiter or max(",;\t", key=header_line.count)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            advice = 'double a quote inside a quoted cell ("") and close each quote'
            faults.append(f"{path}:{line}: {error}; {advice}")
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(path, cells, line, faults)
            if header is None:
                return
        elif len(cells) > len(header) and any(cells[len(header) :]):
            got = f"{len(cells)} cells below {len(header)} column names"
            faults.append(f"{path}:{line}: {got}; put a cell that contains '{delimiter}' into quotes")
        else:
            yield RawRow(f"{path}:{line}", dict(zip(header, cells + [""] * len(header), strict=False)))


def _header(path: Path, cells: list[str], line: int, faults: list[str]) -> list[str] | None:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        faults.append(f"{path}:{line}: the column name {twice[0]!r} stands there twice; give each a name of its own")
        return None
    return names


def _xlsx(path: Path, faults: list[str]) -> Iterator[RawRow]:
    _check_zip_bomb(path)
    from openpyxl import load_workbook  # a tenth of a second that other formats need not pay

    try:
        book = load_workbook(path, read_only=True, data_only=False, keep_links=False)
        yield from _sheet(path, book, faults)
    except Exception as error:  # noqa: BLE001  # of zipfile, zlib, an XML parser, or whatever openpyxl trips over
        raise RecordError([f"{path}: not a workbook ({error}); save it as .xlsx anew"]) from None


def _sheet(path: Path, book: Any, faults: list[str]) -> Iterator[RawRow]:
    try:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()
        header: list[str] | None = None
        for number, cells in enumerate(sheet.iter_rows(), 1):
            place = f"{path}:{sheet.title}:{number}"
            formulas = [cell for cell in cells if cell.data_type == "f"]
            for cell in formulas:
                shown = str(cell.value)[:60]
                faults.append(f"{place}: {cell.coordinate} holds the formula {shown!r}; paste its value as text")
            texts = ["" if cell.value is None else str(cell.value) for cell in cells]
            if formulas or not any(text.strip() for text in texts):
                continue
            if header is None:
                header = _header(path, texts, number, faults)
                if header is None:
                    return
            else:
                yield RawRow(place, dict(zip(header, texts + [""] * len(header), strict=False)))
    finally:
        book.close()


def _check_zip_bomb(path: Path) -> None:
    try:
        parts = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise RecordError([f"{path}: not an .xlsx file inside; save it anew as .xlsx or .csv"]) from None
    unpacked = sum(part.file_size for part in parts)
    if unpacked > LARGEST_SHEET:
        raise RecordError(
            [f"{path}: {unpacked:,} bytes unpacked, more than {LARGEST_SHEET:,}; save it as .csv or split it"]
        )
    for part in parts:
        if part.file_size > 1_000_000 and part.file_size > HIGHEST_RATIO * max(part.compress_size, 1):
            got = f"'{part.filename}' grows from {part.compress_size:,} to {part.file_size:,} bytes"
            raise RecordError([f"{path}: {got}, as in a zip bomb; if you trust it, save it as .csv"])


def _json(path: Path, text: str, faults: list[str]) -> Iterator[RawRow]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError of its own
        place = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
        raise RecordError([f"{place}: not JSON ({error}); write a list of objects, or name the file .jsonl"]) from None
    if isinstance(found, dict):  # {"data": [...]}, as some exports have it
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 else found
    if not isinstance(found, list):
        raise RecordError([f"{path}: a JSON {type(found).__name__}; write a list of objects"])
    for number, row in enumerate(found, 1):
        if isinstance(row, dict):
            yield RawRow(f"{path}:row {number}", row)
        else:
            faults.append(
                f'{path}:row {number}: a JSON {type(row).__name__}, not an object; write {{"instruction": …}}'
            )


def _jsonl(path: Path, text: str, faults: list[str]) -> Iterator[RawRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(f"{path}:{number}: not JSON ({error}); write one whole object on this line")
            continue
        if isinstance(row, dict):
            yield RawRow(f"{path}:{number}", row)
        else:
            faults.append(f'{path}:{number}: a JSON {type(row).__name__}, not an object; write {{"instruction": …}}')


def _parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield RawRow(f"{path}:row {number}", row)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two of single values
        raise RecordError([f"{path}: not readable as Parquet ({error}); save it anew"]) from None
