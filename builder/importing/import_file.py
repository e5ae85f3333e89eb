"""Somebody's file becomes groups ready for the records, and drafts that say what they lack.

Nothing is added to the records here: the groups lie in a folder of their own, numbered on from the records, for a
person to read and to move.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.formats import detect_format, parse_row
from bonsai.builder.importing.pairing import ClassifiedRow, Draft, GroupingResult, Provenance, classify_row, group_rows
from bonsai.builder.importing.readers import read_rows
from bonsai.builder.records import default_records_dir
from bonsai.builder.schema import CATEGORIES, ID_PATTERN

Progress = Callable[[int, int | None], None]
"""Rows done, and rows in all where that is known."""
FAULTS_SHOWN = 50
_EVERY = 200
_ID = re.compile(rf'"id"\s*:\s*"{ID_PATTERN}"')


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came in, or would come in; everything that was guessed stands here with its rule."""

    rows: int
    shape: str
    encoding: str
    encoding_rule: str
    groups: tuple[dict[str, object], ...]
    places: tuple[str, ...]
    """of each group: the rows it was made of"""
    drafts: tuple[Draft, ...]
    languages: dict[str, int]
    """rows by language"""
    categories: dict[str, int]
    """groups by category"""
    guesses: dict[str, int]
    """rows by guess: ``open_qa: no word tells; there is no input``"""
    written: tuple[Path, ...]
    """empty after a dry run"""


def import_file(
    path: Path,
    output: Path,
    *,
    source: str,
    licence: str,
    generator: str = "unknown",
    topic: str = "imported",
    encoding: str | None = None,
    expected_language: str | None = None,
    pair_by: str | None = None,
    records: Path | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Read a CSV, TSV, XLSX, JSON, JSONL or Parquet file; write ``<category>.jsonl`` and ``drafts/drafts.jsonl``.

    Args:
        path: the file; its columns are Alpaca's, Dolly's, messages (or ShareGPT's conversations), BONSAI's, or parallel
            (``instruction_ja``, ``instruction_en``, …).
        output: the folder to write into; it doesn't exist yet.
        source: where the texts come from; a row's own column ``source`` goes first. Licence and generator likewise.
        licence: under which they may be published.
        generator: who or which model wrote them.
        topic: for rows without a column ``topic``.
        encoding: overrules the guess between UTF-8, CP932 and GB18030.
        expected_language: a prior where the script leaves Japanese and Chinese open.
        pair_by: the column whose equal values make a group; see `pairing.PAIR_COLUMNS` for the default.
        records: the folder whose ids are taken; by default the installation's own.
        dry_run: find out everything, write nothing.
        progress: called every 200 rows and at the end.

    Raises:
        RecordError: with every faulty row (at most 50, and the count of the others); nothing is written then.
    """
    _refuse_bad_arguments(output, source, licence, dry_run)
    read = read_rows(path, encoding)
    faults = list(read.faults)
    rows: list[ClassifiedRow] = []
    for number, row in enumerate(read.rows, 1):
        rows.extend(classify_row(piece, expected_language) for piece in parse_row(row, faults))
        if progress and number % _EVERY == 0:
            progress(number, len(read.rows))
    if faults:
        more = len(faults) - FAULTS_SHOWN
        raise RecordError(faults[:FAULTS_SHOWN] + ([f"{path}: and {more} faults more"] if more > 0 else []))
    provenance = Provenance(source=source, licence=licence, generator=generator, topic=topic)
    paired = group_rows(rows, provenance, _taken(records or default_records_dir()), pair_by)
    written = () if dry_run else _write(paired, provenance, output)
    if progress:
        progress(len(read.rows), len(read.rows))
    guessed = [row.category for row in rows if row.category and row.category.guessed]
    guesses = Counter(f"{guess.category}: {guess.rule}" for guess in guessed)
    return Imported(
        rows=len(read.rows),
        shape=detect_format(set(read.rows[0].columns)) or "",
        encoding=read.encoding,
        encoding_rule=read.encoding_rule,
        groups=tuple(paired.groups),
        places=tuple(paired.places),
        drafts=tuple(paired.drafts),
        languages=dict(Counter(row.language for row in rows).most_common()),
        categories=dict(Counter(str(group["category"]) for group in paired.groups).most_common()),
        guesses=dict(guesses.most_common()),
        written=written,
    )


def _refuse_bad_arguments(output: Path, source: str, licence: str, dry_run: bool) -> None:
    faults = []
    if not source.strip():
        faults.append("source: nothing given; say where the texts come from, a name or a URL")
    if not licence.strip():
        faults.append("licence: nothing given; say under which licence the texts may be published, for example MIT")
    if output.exists() and not dry_run:
        faults.append(f"{output}: exists already and is not overwritten; name another folder or move it away")
    if faults:
        raise RecordError(faults)


def _taken(records: Path) -> dict[str, int]:
    """The highest number of each category, drafts and faulty lines included: an id is never given twice."""
    highest: dict[str, int] = {}
    for file in sorted(records.glob("*.jsonl")):
        for found in _ID.finditer(file.read_text("utf-8", errors="replace")):
            highest[found["category"]] = max(highest.get(found["category"], 0), int(found["number"]))
    return highest


def _write(paired: GroupingResult, provenance: Provenance, output: Path) -> tuple[Path, ...]:
    """The whole folder is written beside and renamed, so that it is there in full or not at all."""
    beside = output.with_name(f"{output.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    names: list[str] = []
    for category in CATEGORIES:
        groups = [group for group in paired.groups if group["category"] == category]
        if groups:
            names.append(f"{category}.jsonl")
            _lines(beside / names[-1], groups)
    if paired.drafts:
        names.append("drafts/drafts.jsonl")
        (beside / "drafts").mkdir()
        _lines(beside / names[-1], [_draft(draft, provenance) for draft in paired.drafts])
    beside.replace(output)
    return tuple(output / name for name in names)


def _lines(path: Path, objects: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(found, ensure_ascii=False) + "\n" for found in objects)


def _draft(draft: Draft, provenance: Provenance) -> dict[str, object]:
    rows = [
        {
            "place": row.piece.place,
            "category": str(row.category.category) if row.category else None,
            "category_rule": row.category.rule if row.category else None,
            "language": row.language,
            "language_rule": row.language_rule,
            "instruction": row.piece.instruction,
            "input": row.piece.input,
            "reasoning": row.piece.reasoning,
            "output": row.piece.output,
            "columns": row.piece.columns,
        }
        for row in draft.rows
    ]
    return {"reason": draft.reason, "source": provenance.source, "licence": provenance.licence, "rows": rows}
