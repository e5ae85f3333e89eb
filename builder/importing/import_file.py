"""Import a file: rows become groups ready for the records, or drafts that name what they lack.

Nothing is added to the records. The groups are written to a folder of their own, numbered on from the records, for a
person to read and to move:

    new/open_qa.jsonl         groups, one a line, as in the records
    new/drafts/drafts.jsonl   rows that are no group yet, each with its reason
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_create_dir
from bonsai.builder.importing.formats import detect_format, parse_row
from bonsai.builder.importing.pairing import ClassifiedRow, Draft, Provenance, classify_row, group_rows
from bonsai.builder.importing.readers import read_rows
from bonsai.builder.records import default_records_dir
from bonsai.builder.schema import CATEGORIES, ID_PATTERN

Progress = Callable[[int, int | None], None]
"""Rows done, and rows in all where that is known."""
FAULTS_SHOWN = 50
_PROGRESS_ROWS = 200
_ID = re.compile(rf'"id"\s*:\s*"{ID_PATTERN}"')


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """The outcome of an import or a dry run, with the rule of everything that was guessed."""

    rows: int
    shape: str
    """The format, as `formats.detect_format` names it."""
    encoding: str
    encoding_rule: str
    groups: tuple[dict[str, object], ...]
    locations: tuple[str, ...]
    """Of each group: the rows it was made of."""
    drafts: tuple[Draft, ...]
    languages: dict[str, int]
    """Rows by language."""
    categories: dict[str, int]
    """Groups by category."""
    guesses: dict[str, int]
    """Rows by guess: ``open_qa: no word tells; there is no input``."""
    written: tuple[Path, ...]
    """Empty after a dry run."""


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
) -> ImportResult:
    """Read a CSV, TSV, XLSX, JSON, JSONL or Parquet file; write ``<category>.jsonl`` and ``drafts/drafts.jsonl``.

    Args:
        path: the file; its columns are Alpaca's, Dolly's, messages (or ShareGPT's conversations), BONSAI's, or parallel
            (``instruction_ja``, ``instruction_en``, …).
        output: the folder to write into; it doesn't exist yet.
        source: where the texts come from; a row's own column ``source`` takes precedence. Likewise the next two.
        licence: under which they may be published.
        generator: who or which model wrote them.
        topic: for rows without a column ``topic``.
        encoding: overrules the detection of UTF-8, CP932 and GB18030.
        expected_language: a prior where the script leaves Japanese and Chinese open.
        pair_by: the column whose equal values make a group; see `pairing.PAIR_COLUMNS` for the default.
        records: the folder whose ids are taken; by default the installation's own.
        dry_run: find out everything, write nothing.
        progress: called every 200 rows and at the end.

    Raises:
        RecordError: with every faulty row (at most 50, and the count of the others); nothing is written then.
    """
    # 1. Refuse bad arguments, all of them at once.
    faults = []
    if not source.strip():
        faults.append("source: nothing given; say where the texts come from, a name or a URL")
    if not licence.strip():
        faults.append("licence: nothing given; say under which licence the texts may be published, for example MIT")
    if output.exists() and not dry_run:
        faults.append(f"{output}: exists already and is not overwritten; name another folder or move it away")
    if faults:
        raise RecordError(faults)

    # 2. Read the rows and find their category and language.
    read = read_rows(path, encoding)
    faults = list(read.faults)
    rows: list[ClassifiedRow] = []
    for number, row in enumerate(read.rows, 1):
        rows.extend(classify_row(text, expected_language) for text in parse_row(row, faults))
        if progress and number % _PROGRESS_ROWS == 0:
            progress(number, len(read.rows))
    if faults:
        more = [f"{path}: and {len(faults) - FAULTS_SHOWN} more faults"] if len(faults) > FAULTS_SHOWN else []
        raise RecordError(faults[:FAULTS_SHOWN] + more)

    # 3. Number the groups on from the records. Drafts and faulty lines count too, so that no id is given twice.
    highest: dict[str, int] = {}
    for file in sorted((records or default_records_dir()).glob("*.jsonl")):
        for taken in _ID.finditer(file.read_text("utf-8", errors="replace")):
            highest[taken["category"]] = max(highest.get(taken["category"], 0), int(taken["number"]))
    provenance = Provenance(source=source, licence=licence, generator=generator, topic=topic)
    result = group_rows(rows, provenance, highest, pair_by)

    # 4. Write the folder, as a whole or not at all.
    files: dict[str, list[dict[str, object]]] = {
        f"{category}.jsonl": [group for group in result.groups if group["category"] == category]
        for category in CATEGORIES
    }
    files["drafts/drafts.jsonl"] = [_draft_entry(draft, provenance) for draft in result.drafts]
    files = {name: objects for name, objects in files.items() if objects and not dry_run}
    if not dry_run:
        with atomic_create_dir(output) as folder:
            for name, objects in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in objects)
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
    if progress:
        progress(len(read.rows), len(read.rows))

    guesses = [row.category for row in rows if row.category and row.category.guessed]
    return ImportResult(
        rows=len(read.rows),
        shape=detect_format(set(read.rows[0].columns)) or "",
        encoding=read.encoding,
        encoding_rule=read.encoding_rule,
        groups=tuple(result.groups),
        locations=tuple(result.locations),
        drafts=tuple(result.drafts),
        languages=dict(Counter(row.language for row in rows).most_common()),
        categories=dict(Counter(str(group["category"]) for group in result.groups).most_common()),
        guesses=dict(Counter(f"{guess.category}: {guess.rule}" for guess in guesses).most_common()),
        written=tuple(output / name for name in files),
    )


def _draft_entry(draft: Draft, provenance: Provenance) -> dict[str, object]:
    """Return a draft as a line of ``drafts.jsonl``."""
    rows = [
        {
            "place": row.text.location,
            "category": str(row.category.category) if row.category else None,
            "category_rule": row.category.rule if row.category else None,
            "language": row.language,
            "language_rule": row.language_rule,
            "instruction": row.text.instruction,
            "input": row.text.input,
            "reasoning": row.text.reasoning,
            "output": row.text.output,
            "columns": row.text.columns,
        }
        for row in draft.rows
    ]
    return {"reason": draft.reason, "source": provenance.source, "licence": provenance.licence, "rows": rows}
