"""Read CSV, TSV, XLSX, JSON, JSONL, Parquet and Arrow files, or a folder that `datasets` has saved, as rows.

Each row becomes a `RawRow`, its columns as the file has them:

    RawRow("notes.csv:2", {"instruction": "What is a bonsai?", "output": "A tree in a pot."})

A cell that a spreadsheet would evaluate is never evaluated; in CSV and TSV a leading ``=`` is text like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.columns import ColumnMap
from bonsai.builder.importing.encodings import DecodedText, decode_text_file
from bonsai.builder.importing.tables import RawRow, read_csv
from bonsai.builder.importing.workbook import read_workbook
from bonsai.builder.schema import LANGUAGES

SUFFIXES = (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".parquet")
_ALSO = (".ndjson", ".arrow")
LONGEST_CELL = 100_000
"""Characters; a spreadsheet cell holds 32,767, a record some hundred."""


class SourceRows(NamedTuple):
    """The rows of a file, how its bytes were decoded, a sentence for each fault, and one for what was left out."""

    rows: list[RawRow]
    columns: ColumnMap
    encoding: str
    encoding_rule: str
    faults: list[str]
    notes: list[str]


def read_rows(
    path: Path, encoding: str | None = None, *, renamed: Mapping[str, str] | None = None, sheet: str | None = None
) -> SourceRows:
    """Read all rows of a file, or of a folder of Parquet or Arrow files.

    Args:
        encoding: of a text file; by default it is detected.
        renamed: canonical name by column; see `columns.ColumnMap`.
        sheet: of a workbook; by default every visible one.

    Raises:
        RecordError: the file as a whole can't be read; faults of single rows are in `SourceRows.faults`.
    """
    # 1. Choose the reader by the suffix. XLSX and Parquet are binary, the others are decoded first.
    suffix = path.suffix.lower()
    if not path.exists() or (path.is_file() and suffix not in (*SUFFIXES, *_ALSO)):
        kinds = ", ".join(SUFFIXES)
        got = f"a '{path.suffix}' file; save it as one of {kinds}" if path.exists() else f"no such file; name a {kinds}"
        raise RecordError([f"{path}: {got}" + ("" if path.exists() else " file")])
    faults: list[str] = []
    notes: list[str] = []
    names = renamed or {}
    binary = path.is_dir() or suffix in (".xlsx", ".parquet", ".arrow")
    decoded = DecodedText("", "binary", f"{suffix or 'Arrow'} names its own encoding")
    if not binary:
        decoded = decode_text_file(path, encoding)
    if sheet is not None and suffix != ".xlsx":
        faults.append(f"--sheet {sheet}: {path.name} has no sheets")
    found: Iterator[RawRow]
    match suffix:
        case _ if path.is_dir():
            found = (row for file in _files_of(path) for row in _read_part(file, faults))
        case ".xlsx":
            found = read_workbook(path, names, faults, notes, sheet_name=sheet)
        case ".parquet" | ".arrow":
            found = read_arrow(path)
        case ".json" | ".jsonl" | ".ndjson":
            found = read_json(path, decoded.text, faults)
        case _:
            found = read_csv(path, decoded.text, "\t" if suffix == ".tsv" else None, names, faults, notes)

    # 2. Read the rows, and refuse those with an implausibly long cell.
    rows: list[RawRow] = []
    columns: dict[str, None] = {}
    for row in found:
        too_long = [
            f"{row.location}: '{name}' has {len(value):,} characters; cut it to {LONGEST_CELL:,} or fewer"
            for name, value in row.columns.items()
            if isinstance(value, str) and len(value) > LONGEST_CELL
        ]
        faults.extend(too_long)
        if not too_long:
            rows.append(row)
            columns.update(dict.fromkeys(row.columns))
    if not rows and not faults:
        faults.append(f"{path}: no row; a table needs a line of column names and a row below it")
    if missing := [column for column in names if column not in columns and rows]:
        faults.append(f"{path}: there is no column {missing[0]!r}; there are {', '.join(columns)}")
    return SourceRows(rows, ColumnMap.of(columns, names), decoded.encoding, decoded.rule, faults, notes)


def read_json(path: Path, text: str, faults: list[str]) -> Iterator[RawRow]:
    """Read one object a line, a list of objects, or a table as pandas writes it.

    The suffix doesn't decide: `datasets` writes one object a line into ``.json``, and many a ``.jsonl`` is a list.
    """
    whole = None
    lines = path.suffix.lower() != ".json"
    if not lines or text.lstrip().startswith("["):
        try:
            whole = json.loads(text)
            # the first line of a list of lists is a fault of that line
            lines = lines and not (isinstance(whole, list) and whole and isinstance(whole[0], dict))
        except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError of its own
            location = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
            lines = lines or (isinstance(error, json.JSONDecodeError) and error.msg == "Extra data")
            if not lines:
                reason = f"not JSON ({error}); write a list of objects, or name the file .jsonl"
                raise RecordError([f"{location}: {reason}"]) from None
    if lines:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield from _to_raw_row(f"{path}:{number}", json.loads(line), faults)
                except (ValueError, RecursionError) as error:
                    faults.append(f"{path}:{number}: not JSON ({error}); write one whole object on this line")
        return
    if isinstance(whole, dict):
        whole = _unfold(whole)
    if not isinstance(whole, list):
        raise RecordError([f"{path}: a JSON {type(whole).__name__}; write a list of objects"])
    for number, row in enumerate(whole, 1):
        yield from _to_raw_row(f"{path}:row {number}", row, faults)


def _unfold(whole: dict[str, Any]) -> Any:
    """Return the rows that a JSON object holds in one of the ways of pandas and `datasets`, or the object itself."""
    values = list(whole.values())
    columns, data = whole.get("columns"), whole.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # orient="split"
        return [dict(zip(columns, row, strict=False)) for row in data if isinstance(row, list)]
    if ColumnMap.of(whole).format:
        if all(isinstance(value, list) for value in values):  # Dataset.to_dict
            if "messages" in whole and all(isinstance(turn, dict) for turn in whole["messages"]):
                return [whole]
            return [dict(zip(whole, row, strict=False)) for row in zip(*values, strict=False)]
        if all(isinstance(value, dict) for value in values):  # pandas' own: a column, then the row's number
            return [{name: column.get(key) for name, column in whole.items()} for key in values[0]]
        return [whole]
    if len(whole) > 1 and all(isinstance(value, dict) for value in values):  # orient="index"
        return values
    lists = [value for value in values if isinstance(value, list)]
    return lists[0] if len(lists) == 1 else whole


def _to_raw_row(location: str, row: object, faults: list[str]) -> Iterator[RawRow]:
    if isinstance(row, dict):
        # Argilla keeps the texts one level deeper, and so do records
        inner = row.get("fields")
        yield RawRow(location, _flatten_group(row | inner if isinstance(inner, dict) else row))
    else:
        faults.append(f'{location}: a JSON {type(row).__name__}, not an object; write {{"instruction": …}}')


def _flatten_group(row: dict[str, Any]) -> dict[str, Any]:
    """Return a line of records as a row with its languages side by side; any other row as it is."""
    own = {language: texts for language in LANGUAGES if isinstance(texts := row.get(language), dict)}
    if not own:
        return row
    flat = {name: value for name, value in row.items() if name not in (*LANGUAGES, "original", "chain")}
    original, chain = row.get("original"), row.get("chain")
    for language, texts in own.items():
        flat |= {f"{name}_{language}": value for name, value in texts.items()}
        earlier = original.get(language) if isinstance(original, dict) else None
        flat |= {f"{name}_original_{language}": value for name, value in (earlier or {}).items()}
    if isinstance(chain, dict):
        flat |= {"chain": chain.get("id"), "step": chain.get("step")}
    return flat | {"group_id": row.get("id")}


def _read_part(path: Path, faults: list[str]) -> Iterator[RawRow]:
    return read_json(path, decode_text_file(path).text, faults) if path.suffix == ".jsonl" else read_arrow(path)


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a folder: of `Dataset.save_to_disk`, of a download of a Hub's repository, or of records."""
    if (splits := folder / "dataset_dict.json").is_file():
        return [file for split in json.loads(splits.read_text())["splits"] for file in _files_of(folder / split)]
    if (state := folder / "state.json").is_file():
        return [folder / part["filename"] for part in json.loads(state.read_text())["_data_files"]]
    for place in (folder, folder / "default", folder / "data"):
        for ending in ("*.parquet", "*.arrow", "*.jsonl"):
            if found := sorted(place.glob(ending)):
                return found
    raise RecordError([f"{folder}: a folder without Parquet, Arrow or JSONL files; name the file to import"])


def read_arrow(path: Path) -> Iterator[RawRow]:
    """Read the rows of a Parquet or Arrow file, with the names of its class labels instead of their numbers."""
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".arrow":
                stored = ipc.open_file(file) if file.read(6) == b"ARROW1" else None
                if stored is None:
                    file.seek(0)
                    stored = ipc.open_stream(file)
                schema, batches = stored.schema, stored.read_all().to_batches()
            else:
                stored = parquet.ParquetFile(file)
                schema, batches = stored.schema_arrow, stored.iter_batches(batch_size=1024)
            described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            features = described.get("info", {}).get("features", {})
            labels = {
                name: feature["names"]
                for name, feature in features.items()
                if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
            }
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    for name, names in labels.items():
                        if isinstance(index := row.get(name), int):
                            row[name] = names[index] if 0 <= index < len(names) else None
                    yield RawRow(f"{path}:row {number}", row)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two of single values
        kind = "Arrow" if path.suffix.lower() == ".arrow" else "Parquet"
        raise RecordError([f"{path}: not readable as {kind} ({error}); save it again"]) from None
