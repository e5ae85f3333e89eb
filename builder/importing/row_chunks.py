"""First pass over a large file: each chunk of lines becomes hashes, bands, languages and folded texts on disk.

A chunk depends on nothing but its own bytes, so chunks are worked in any order by any process, and one whose files lie
there is never worked again: that is the checkpoint. Files are written beside and renamed, so they are whole or absent.
"""

from __future__ import annotations

import codecs
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash

from bonsai.builder.importing.language import UNDETERMINED, by_model, decided, script_counts
from bonsai.builder.near_duplicates.folding import Texts, folded, normalised
from bonsai.builder.near_duplicates.signatures import index

CHUNK_BYTES = 2_000_000
ROWS_IN_BAND = 4
"""32 bands of 4: a pair at 0.55 meets with a chance of 95%, at 0.65 of 99.8%, and unlike ones rarely."""
MARKS = ("duplicate_of", "near_duplicate_of", "similarity", "detected_language")
_MARK_NAMES = tuple(f'"{mark}"'.encode() for mark in MARKS)
_BATCH = 256
"""Rows; their arrays fit a core's cache."""
_FIELD_BREAK = "\x1f"
FAULTS_KEPT = 50
"""Per chunk; the rest is counted."""


class Chunk(NamedTuple):
    """Some whole lines of the file: bytes ``start`` to ``end``, the first of them line ``line`` (from 1)."""

    number: int
    start: int
    end: int
    line: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker has to know."""

    source: Path
    folder: Path
    fields: tuple[str, ...]
    threshold: float


class ChunkResult(NamedTuple):
    """Rows read, and the faults: the first of them as sentences, all of them as a count."""

    rows: int
    faults: list[str]
    fault_count: int


def save(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write an array so that ``path`` is whole or absent, whatever happens meanwhile."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.save(file, array)
    beside.replace(path)


def part(folder: Path, number: int, what: str) -> Path:
    """The file of a chunk: ``rows``, ``bands``, ``sketches``, ``starts``, ``codes``, ``languages`` or ``hashes``."""
    return folder / f"{number:06}.{what}.npy"


def work_chunk(job: Job, chunk: Chunk) -> ChunkResult:
    """Read one chunk and write its files, unless they lie there from an earlier run."""
    done = part(job.folder, chunk.number, "hashes")
    if done.exists():
        return ChunkResult(len(np.load(done, mmap_mode="r")), [], 0)
    rows, faults = _read(job, chunk)
    if not faults:
        _write(job, chunk, rows)
    return ChunkResult(len(rows), faults[:FAULTS_KEPT], len(faults))


class _Read(NamedTuple):
    question: str
    answer: str
    marked: bool


def _read(job: Job, chunk: Chunk) -> tuple[list[_Read], list[str]]:
    """Lines to texts; a faulty line becomes a sentence."""
    names = {f"field_{i}": field for i, field in enumerate(job.fields)}
    line_type = msgspec.defstruct("Line", [(name, str | None, None) for name in names], rename=names, gc=False)
    decode = msgspec.json.Decoder(line_type).decode
    with job.source.open("rb") as file:
        file.seek(chunk.start)
        data = file.read(chunk.end - chunk.start)
    marks = [mark for mark in _MARK_NAMES if mark in data]
    rows: list[_Read] = []
    faults: list[str] = []
    for number, line in enumerate(lines_of(data, chunk), chunk.line):
        if not line.strip():
            continue
        try:
            *questions, answer = msgspec.structs.astuple(decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            faults.append(f"{job.source}:{number}: {_reason(error)}; write one JSON object with text columns")
            continue
        question = _FIELD_BREAK.join([text or "" for text in questions])
        if answer or len(question) >= len(job.fields):
            rows.append(_Read(question, answer or "", any(mark in line for mark in marks) if marks else False))
        else:
            wanted = ", ".join(job.fields)
            faults.append(f"{job.source}:{number}: none of the columns {wanted} has text; name the columns that have")
    return rows, faults


def lines_of(data: bytes, chunk: Chunk) -> list[bytes]:
    """The lines of a chunk, blank ones too, without the byte-order mark that some editors put first."""
    return (data.removeprefix(codecs.BOM_UTF8) if chunk.start == 0 else data).split(b"\n")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte 0x{error.object[error.start]:02x} is not UTF-8"
    return str(error).removeprefix("JSON is ").replace("Object", "object")


def _write(job: Job, chunk: Chunk, rows: list[_Read]) -> None:
    hashes = np.empty(len(rows), np.uint64)
    languages: list[str] = []
    folds: list[Texts] = []
    which, sketches, bands = [], [], []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        # Question and answer are texts of their own: the answer alone tells the language.
        halves = normalised([text for row in batch for text in (row.question + _FIELD_BREAK, row.answer)])
        whole = Texts(halves.codes, halves.starts[::2])
        raw, places = whole.codes.tobytes(), (whole.starts * whole.codes.itemsize).tolist()
        spans = itertools.pairwise(places)
        hashes[start : start + len(batch)] = [xxhash.xxh3_64_intdigest(raw[low:high]) for low, high in spans]
        languages.extend(_languages(batch, halves))
        fold = folded(whole)
        folds.append(fold)
        entries = index(fold, ROWS_IN_BAND)
        which.append(entries.which + start)
        sketches.append(entries.sketches)
        bands.append(entries.bands)
    codes = np.concatenate([fold.codes for fold in folds]) if folds else np.zeros(0, np.uint32)
    lengths = np.concatenate([fold.lengths() for fold in folds]) if folds else np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])

    def put(what: str, array: np.ndarray[Any, Any]) -> None:
        save(part(job.folder, chunk.number, what), array)

    put("codes", codes.astype(np.uint16) if codes.max(initial=0) < 1 << 16 else codes)
    put("starts", starts)
    put("marked", np.asarray([row.marked for row in rows], bool))
    put("languages", np.asarray(languages, "U3"))
    put("rows", np.concatenate(which) if which else np.zeros(0, np.int64))
    put("sketches", np.concatenate(sketches) if sketches else np.zeros((0, 128), np.uint8))
    put("bands", np.ascontiguousarray(np.concatenate(bands).T) if bands else np.zeros((32, 0), np.uint64))
    put("hashes", hashes)  # last: its presence says that the chunk is done


def _languages(rows: list[_Read], halves: Texts) -> list[str]:
    """The answer's language, or the question's where the answer has no letter."""
    counts = script_counts(halves)
    by_script = decided(counts)
    mute = by_script[1::2] == UNDETERMINED
    found: list[str] = np.where(mute, by_script[::2], by_script[1::2]).tolist()
    for i in [i for i, language in enumerate(found) if not language]:
        found[i] = by_model(rows[i].question if mute[i] else rows[i].answer, counts[2 * i + (not mute[i])])
    return found
