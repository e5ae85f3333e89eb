"""Check a file of a million rows: exact and near duplicates and the language, marked on each row, none dropped.

Two passes and a last one that writes. Texts are spilled beside the output, so memory grows by some 300 bytes a row and
process however long the texts are: below a gigabyte for a million. A killed run is started again with the same call and
ends in the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from bonsai.builder.importing.row_chunks import CHUNK_BYTES, MARKS, Chunk, Job, lines_of, part, work_chunk
from bonsai.builder.importing.row_links import (
    NONE,
    Links,
    first_of_each,
    gather_entries,
    gather_pairs,
    linked,
    work_band,
    work_block,
)
from bonsai.builder.importing.workers import Workers, workers
from bonsai.builder.near_duplicates import THRESHOLD
from bonsai.builder.schema import RecordError

Progress = Callable[[int, int | None], None]
"""Rows done, and rows in all where that is known."""

FAULTS_SHOWN = 50
_FORMAT = 1
"""Raised when the work files change their meaning, so that an older run's are not gone on with."""


@dataclass(frozen=True, kw_only=True)
class CheckedRows:
    """What was found; ``languages`` counts rows by language, most frequent first."""

    output: Path
    rows: int
    duplicates: int
    near_duplicates: int
    languages: dict[str, int]


def check_rows(
    source: Path,
    output: Path,
    *,
    fields: Sequence[str] = ("instruction", "input", "output"),
    threshold: float = THRESHOLD,
    processes: int = 2,
    progress: Progress | None = None,
) -> CheckedRows:
    """Copy the JSONL file ``source`` to ``output`` row by row, each with four columns more.

    ``duplicate_of`` is the number (from 1) of the first row with the same text in NFKC; ``near_duplicate_of`` that of
    the most similar earlier row from ``threshold`` on, and ``similarity`` the Jaccard similarity of the two;
    ``detected_language`` is the language of the last of ``fields`` that has letters. Blank lines are left out.

    Args:
        source: one JSON object a line, UTF-8.
        output: must not exist. Beside it lies ``<output>.work`` while the run goes on, two to three times the source.
        fields: the text columns, in reading order; the last one is the answer.
        threshold: 0.3 to 1.
        processes: with 1 everything runs in the calling process.
        progress: called after each chunk read, and at the end.

    Raises:
        RecordError: with the faulty lines, at most 50 of them and the count of the others; nothing is written then.
    """
    _refuse_bad_arguments(source, output, fields, threshold)
    chunks, digest = _plan(source)
    settings = json.dumps([_FORMAT, digest, list(fields), threshold])
    folder = output.with_name(f"{output.name}.work") / xxhash.xxh3_64_hexdigest(settings.encode())
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(source=source, folder=folder, fields=tuple(fields), threshold=threshold)
    with workers(processes) as team:
        rows = _read(team, job, chunks, progress)
        links = _link(team, job, len(chunks))
    languages = _write(job, chunks, links, output)
    shutil.rmtree(folder.parent)
    if progress:
        progress(rows, rows)
    return CheckedRows(
        output=output,
        rows=rows,
        duplicates=int((links.duplicate_of != NONE).sum()),
        near_duplicates=int((links.near_duplicate_of != NONE).sum()),
        languages=dict(languages.most_common()),
    )


def _refuse_bad_arguments(source: Path, output: Path, fields: Sequence[str], threshold: float) -> None:
    faults = []
    if not source.is_file():
        faults.append(f"{source}: no such file; name a JSONL file")
    if output.exists():
        faults.append(f"{output}: exists already and is not overwritten; name another file or move it away")
    if not fields or set(fields) & set(MARKS):
        faults.append(f"fields: got {list(fields)}; name one text column or more, none of {', '.join(MARKS)}")
    if not 0.3 <= threshold <= 1:
        faults.append(f"threshold: got {threshold}; give a similarity from 0.3 to 1, for example {THRESHOLD}")
    if faults:
        raise RecordError(faults)


def _plan(source: Path) -> tuple[list[Chunk], str]:
    """Cut the file at line ends every `CHUNK_BYTES`, and take the digest of its whole content."""
    chunks: list[Chunk] = []
    digest = xxhash.xxh3_128()
    line, start = 1, 0
    with source.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            block += file.readline()
            digest.update(block)
            chunks.append(Chunk(len(chunks), start, start + len(block), line))
            line += block.count(b"\n")
            start += len(block)
    if not chunks:
        raise RecordError([f"{source}: the file is empty; write one JSON object a line"])
    return chunks, digest.hexdigest()


def _read(team: Workers, job: Job, chunks: list[Chunk], progress: Progress | None) -> int:
    rows, fault_count = 0, 0
    faults: list[str] = []
    size = chunks[-1].end
    for chunk, result in zip(chunks, team(partial(work_chunk, job), chunks), strict=True):
        rows += result.rows
        faults.extend(result.faults)
        fault_count += result.fault_count
        if progress:
            # The number of rows is known only once all are read; until then it is estimated from the bytes.
            progress(rows, round(rows * size / chunk.end))
    if faults:
        more = fault_count - FAULTS_SHOWN
        raise RecordError(faults[:FAULTS_SHOWN] + ([f"{job.source}: and {more} faulty lines more"] if more > 0 else []))
    if not rows:
        raise RecordError([f"{job.source}: only blank lines; write one JSON object a line"])
    return rows


def _link(team: Workers, job: Job, chunks: int) -> Links:
    duplicate_of = first_of_each(job.folder, chunks)
    bands = gather_entries(job.folder, chunks, duplicate_of)
    list(team(partial(work_band, job.folder, chunks), range(bands)))
    blocks = gather_pairs(job.folder, bands)
    list(team(partial(work_block, job, chunks), range(blocks)))
    return linked(job.folder, blocks, duplicate_of)


def _write(job: Job, chunks: list[Chunk], links: Links, output: Path) -> Counter[str]:
    """Lines go through as they are, the new columns put before the closing brace: no number or escape is rewritten."""
    plain = {language: f",{_marks(None, None, None, language)}}}\n".encode() for language in ("ja", "en", "zh", "und")}
    beside = output.with_name(f"{output.name}.part")
    languages: Counter[str] = Counter()
    row = 0
    with job.source.open("rb") as file, beside.open("wb") as out:
        for chunk in chunks:
            found = np.load(part(job.folder, chunk.number, "languages")).tolist()
            marked = np.load(part(job.folder, chunk.number, "marked")).tolist()
            here = slice(row, row + len(found))
            exact, near = (links.duplicate_of[here] + 1).tolist(), (links.near_duplicate_of[here] + 1).tolist()
            similarity = links.similarity[here].tolist()
            lines = [line for line in lines_of(file.read(chunk.end - chunk.start), chunk) if line.strip()]
            written: list[bytes] = []
            for i, line in enumerate(lines):
                text = _unmarked(line) if marked[i] else line.rstrip()
                if not exact[i] and not near[i] and found[i] in plain:
                    ending = plain[found[i]]
                else:
                    close = round(similarity[i], 4) if near[i] else None
                    ending = f",{_marks(exact[i] or None, near[i] or None, close, found[i])}}}\n".encode()
                written.append(text[:-1] + ending)
            out.write(b"".join(written))
            languages.update(found)
            row += len(found)
    beside.replace(output)
    return languages


def _marks(exact: int | None, near: int | None, similarity: float | None, language: str) -> str:
    return json.dumps(dict(zip(MARKS, (exact, near, similarity, language), strict=True)))[1:-1]


def _unmarked(line: bytes) -> bytes:
    """A row that was checked before, without the columns of that time."""
    return msgspec.json.encode({name: value for name, value in msgspec.json.decode(line).items() if name not in MARKS})
