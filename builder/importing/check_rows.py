"""Mark duplicates and languages in files of up to millions of rows, in parallel and within bounded memory.

A chunk depends on nothing but its own bytes, so chunks are worked in any order by any process, and one whose files lie
there is never worked again: that is the checkpoint. Files are written beside and renamed, so they are whole or absent.

Bands, then blocks of candidate pairs, are pieces of work with one result file each, so this pass too goes on where a
killed run stopped. Only the sketches (128 bytes a row) lie in memory whole, as a file mapped by all workers.

Two passes and a last one that writes. Texts are spilled beside the output, so memory grows by some 300 bytes a row and
process however long the texts are: below a gigabyte for a million. A killed run is started again with the same call and
ends in the same bytes.
"""

from __future__ import annotations

import codecs
import itertools
import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from bonsai.builder.errors import RecordError
from bonsai.builder.language_id import UNDETERMINED, language_by_model, language_by_script, script_counts
from bonsai.builder.minhash import (
    THRESHOLD,
    CodepointTexts,
    Pairs,
    Places,
    build_index,
    candidate_pairs,
    closest,
    fold_for_dedup,
    jaccard,
    nfkc_batch,
    unique_pairs,
)

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
class CheckRowsJob:
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


def spill_path(folder: Path, number: int, what: str) -> Path:
    """The file of a chunk: ``rows``, ``bands``, ``sketches``, ``starts``, ``codes``, ``languages`` or ``hashes``."""
    return folder / f"{number:06}.{what}.npy"


def process_chunk(job: CheckRowsJob, chunk: Chunk) -> ChunkResult:
    """Read one chunk and write its files, unless they lie there from an earlier run."""
    done = spill_path(job.folder, chunk.number, "hashes")
    if done.exists():
        return ChunkResult(len(np.load(done, mmap_mode="r")), [], 0)
    rows, faults = _read_chunk(job, chunk)
    if not faults:
        _write_chunk(job, chunk, rows)
    return ChunkResult(len(rows), faults[:FAULTS_KEPT], len(faults))


class _Read(NamedTuple):
    question: str
    answer: str
    marked: bool


def _read_chunk(job: CheckRowsJob, chunk: Chunk) -> tuple[list[_Read], list[str]]:
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


def _write_chunk(job: CheckRowsJob, chunk: Chunk, rows: list[_Read]) -> None:
    hashes = np.empty(len(rows), np.uint64)
    languages: list[str] = []
    folds: list[CodepointTexts] = []
    which, sketches, bands = [], [], []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        # Question and answer are texts of their own: the answer alone tells the language.
        halves = nfkc_batch([text for row in batch for text in (row.question + _FIELD_BREAK, row.answer)])
        whole = CodepointTexts(halves.codes, halves.starts[::2])
        raw, places = whole.codes.tobytes(), (whole.starts * whole.codes.itemsize).tolist()
        spans = itertools.pairwise(places)
        hashes[start : start + len(batch)] = [xxhash.xxh3_64_intdigest(raw[low:high]) for low, high in spans]
        languages.extend(_languages(batch, halves))
        fold = fold_for_dedup(whole)
        folds.append(fold)
        entries = build_index(fold, ROWS_IN_BAND)
        which.append(entries.which + start)
        sketches.append(entries.sketches)
        bands.append(entries.bands)
    codes = np.concatenate([fold.codes for fold in folds]) if folds else np.zeros(0, np.uint32)
    lengths = np.concatenate([fold.lengths() for fold in folds]) if folds else np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])

    def put(what: str, array: np.ndarray[Any, Any]) -> None:
        save(spill_path(job.folder, chunk.number, what), array)

    put("codes", codes.astype(np.uint16) if codes.max(initial=0) < 1 << 16 else codes)
    put("starts", starts)
    put("marked", np.asarray([row.marked for row in rows], bool))
    put("languages", np.asarray(languages, "U3"))
    put("rows", np.concatenate(which) if which else np.zeros(0, np.int64))
    put("sketches", np.concatenate(sketches) if sketches else np.zeros((0, 128), np.uint8))
    put("bands", np.ascontiguousarray(np.concatenate(bands).T) if bands else np.zeros((32, 0), np.uint64))
    put("hashes", hashes)  # last: its presence says that the chunk is done


def _languages(rows: list[_Read], halves: CodepointTexts) -> list[str]:
    """The answer's language, or the question's where the answer has no letter."""
    counts = script_counts(halves)
    by_script = language_by_script(counts)
    mute = by_script[1::2] == UNDETERMINED
    found: list[str] = np.where(mute, by_script[::2], by_script[1::2]).tolist()
    for i in [i for i, language in enumerate(found) if not language]:
        found[i] = language_by_model(rows[i].question if mute[i] else rows[i].answer, counts[2 * i + (not mute[i])])
    return found


NONE = -1
_REACH = 2
_PAIRS_IN_BLOCK = 32_768
_PARTNERS = 8
"""Of an entry, checked exactly: the members of a form letter's bucket meet hundreds."""


class Links(NamedTuple):
    """For each row the row it repeats, or -1: shapes (rows,); the linked row always comes earlier."""

    duplicate_of: Places
    near_duplicate_of: Places
    similarity: npt.NDArray[np.float64]


def link_exact_duplicates(folder: Path, chunks: int) -> Places:
    """For each row the first row with the same text in NFKC, or -1 where it is the first itself.

    Texts are told apart by 64-bit hashes: among a million rows one false pair has a chance of 3 in 10⁸.
    """
    hashes = np.concatenate([np.load(spill_path(folder, chunk, "hashes")) for chunk in range(chunks)])
    order = np.argsort(hashes, kind="stable")
    opens = np.ones(len(hashes), bool)
    opens[1:] = hashes[order[1:]] != hashes[order[:-1]]
    firsts = order[np.maximum.accumulate(np.where(opens, np.arange(len(hashes)), 0))]
    found = np.full(len(hashes), NONE, np.int64)
    found[order[~opens]] = firsts[~opens]
    return found


def gather_entries(folder: Path, chunks: int, duplicate_of: Places) -> int:
    """Write what the bands' workers need: the row of each entry, which entries count, and the sketches of those.

    Returns the number of bands.
    """
    rows: list[Places] = []
    base = 0
    for chunk in range(chunks):
        rows.append(np.load(spill_path(folder, chunk, "rows")) + base)
        base += len(np.load(spill_path(folder, chunk, "hashes"), mmap_mode="r"))
    entry_rows = np.concatenate(rows)
    counted = duplicate_of[entry_rows] == NONE
    save(folder / "counted.npy", counted)
    save(folder / "entry_rows.npy", entry_rows[counted])
    if not (folder / "sketches.npy").exists():
        with (folder / "sketches.part").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (int(counted.sum()), 128)}
            np.lib.format.write_array_header_2_0(file, header)
            start = 0
            for chunk in range(chunks):
                sketches = np.load(spill_path(folder, chunk, "sketches"))
                file.write(sketches[counted[start : start + len(sketches)]].tobytes())
                start += len(sketches)
        (folder / "sketches.part").replace(folder / "sketches.npy")
    return int(np.load(spill_path(folder, 0, "bands"), mmap_mode="r").shape[0])


def process_band(folder: Path, chunks: int, band: int) -> None:
    """Write the pairs of entries that meet in one band."""
    done = folder / f"band-{band:02}.npy"
    if done.exists():
        return
    hashes = np.concatenate([_one_row(spill_path(folder, chunk, "bands"), band) for chunk in range(chunks)])
    save(done, candidate_pairs(hashes[np.load(folder / "counted.npy")], _REACH))


def _one_row(path: Path, row: int) -> npt.NDArray[np.uint64]:
    """A row of a two-dimensional array on disk, without mapping the rest."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        (_, width), _, dtype = np.lib.format.read_array_header_1_0(file)
        file.seek(row * width * dtype.itemsize, 1)
        return np.fromfile(file, np.uint64, width)


def gather_pairs(folder: Path, bands: int) -> int:
    """Merge the bands' pairs into one file, ordered by the later entry; returns how many blocks there are to check."""
    merged: Pairs = np.zeros((0, 2), np.int64)
    for band in range(bands):
        merged = unique_pairs(np.concatenate([merged, np.load(folder / f"band-{band:02}.npy")[:, ::-1]]))
    save(folder / "candidates.npy", merged)
    return -(-len(merged) // _PAIRS_IN_BLOCK)


def process_block(job: CheckRowsJob, chunks: int, block: int) -> None:
    """Write the verified pairs of one block: first row, second row, similarity; shape (P, 3)."""
    folder = job.folder
    done = folder / f"block-{block:05}.npy"
    if done.exists():
        return
    start = block * _PAIRS_IN_BLOCK
    met = np.array(np.load(folder / "candidates.npy", mmap_mode="r")[start : start + _PAIRS_IN_BLOCK])[:, ::-1]
    close = closest(met, np.load(folder / "sketches.npy", mmap_mode="r"), job.threshold, _PARTNERS)
    pairs = unique_pairs(np.load(folder / "entry_rows.npy", mmap_mode="r")[close])
    rows, places = np.unique(pairs, return_inverse=True)
    similarity = jaccard(_texts(folder, chunks, rows), places.reshape(pairs.shape))
    verified = similarity >= job.threshold
    save(done, np.column_stack([pairs[verified], similarity[verified]]))


def _texts(folder: Path, chunks: int, rows: Places) -> CodepointTexts:
    """The folded texts of these rows (ascending), read chunk by chunk."""
    found: list[CodepointTexts] = []
    base = 0
    for chunk in range(chunks):
        starts = np.load(spill_path(folder, chunk, "starts"))
        inside = rows[np.searchsorted(rows, base) : np.searchsorted(rows, base + len(starts) - 1)] - base
        base += len(starts) - 1
        if len(inside):
            codes: npt.NDArray[Any] = np.load(spill_path(folder, chunk, "codes"))
            taken = CodepointTexts(codes, starts).take(inside)
            found.append(CodepointTexts(taken.codes.astype(np.uint32, copy=False), taken.starts))
    lengths = np.concatenate([np.zeros(0, np.int64), *(texts.lengths() for texts in found)])
    codes = np.concatenate([np.zeros(0, np.uint32), *(texts.codes for texts in found)])
    return CodepointTexts(codes, np.concatenate([[0], np.cumsum(lengths)]))


def merge_links(folder: Path, blocks: int, duplicate_of: Places) -> Links:
    """Each near duplicate with the most similar earlier row; of equally similar ones, the earliest."""
    verified = np.concatenate(
        [np.zeros((0, 3)), *(np.load(folder / f"block-{block:05}.npy") for block in range(blocks))]
    )
    order = np.lexsort((verified[:, 0], -verified[:, 2], verified[:, 1]))
    verified = verified[order]
    _, best = np.unique(verified[:, 1], return_index=True)
    first, second = verified[best, 0].astype(np.int64), verified[best, 1].astype(np.int64)
    near = np.full(len(duplicate_of), NONE, np.int64)
    similarity = np.zeros(len(duplicate_of))
    near[second], similarity[second] = first, verified[best, 2]
    return Links(duplicate_of, near, similarity)


Piece = TypeVar("Piece")
Result = TypeVar("Result")


class ParallelMap(Protocol):
    """Like ``map``: results in the order of the pieces."""

    def __call__(self, work: Callable[[Piece], Result], pieces: Iterable[Piece], /) -> Iterator[Result]:
        """Do ``work`` on each piece."""
        ...


@contextmanager
def process_pool(processes: int) -> Iterator[ParallelMap]:
    """A team of so many processes; with 1, the calling process. An error cancels what hasn't begun."""
    if processes == 1:
        yield map
        return
    # Spawned, not forked: a fork of a process with threads (a web page, torch) may hang.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_exit_with_parent)
    try:
        yield pool.map
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _exit_with_parent() -> None:
    """A killed parent closes no queue, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
    job = CheckRowsJob(source=source, folder=folder, fields=tuple(fields), threshold=threshold)
    with process_pool(processes) as team:
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


def _read(team: ParallelMap, job: CheckRowsJob, chunks: list[Chunk], progress: Progress | None) -> int:
    rows, fault_count = 0, 0
    faults: list[str] = []
    size = chunks[-1].end
    for chunk, result in zip(chunks, team(partial(process_chunk, job), chunks), strict=True):
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


def _link(team: ParallelMap, job: CheckRowsJob, chunks: int) -> Links:
    duplicate_of = link_exact_duplicates(job.folder, chunks)
    bands = gather_entries(job.folder, chunks, duplicate_of)
    list(team(partial(process_band, job.folder, chunks), range(bands)))
    blocks = gather_pairs(job.folder, bands)
    list(team(partial(process_block, job, chunks), range(blocks)))
    return merge_links(job.folder, blocks, duplicate_of)


def _write(job: CheckRowsJob, chunks: list[Chunk], links: Links, output: Path) -> Counter[str]:
    """Lines go through as they are, the new columns put before the closing brace: no number or escape is rewritten."""
    plain = {language: f",{_marks(None, None, None, language)}}}\n".encode() for language in ("ja", "en", "zh", "und")}
    beside = output.with_name(f"{output.name}.part")
    languages: Counter[str] = Counter()
    row = 0
    with job.source.open("rb") as file, beside.open("wb") as out:
        for chunk in chunks:
            found = np.load(spill_path(job.folder, chunk.number, "languages")).tolist()
            marked = np.load(spill_path(job.folder, chunk.number, "marked")).tolist()
            here = slice(row, row + len(found))
            exact, near = (links.duplicate_of[here] + 1).tolist(), (links.near_duplicate_of[here] + 1).tolist()
            similarity = links.similarity[here].tolist()
            lines = [line for line in lines_of(file.read(chunk.end - chunk.start), chunk) if line.strip()]
            written: list[bytes] = []
            for i, line in enumerate(lines):
                text = _strip_marks(line) if marked[i] else line.rstrip()
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


def _strip_marks(line: bytes) -> bytes:
    """A row that was checked before, without the columns of that time."""
    return msgspec.json.encode({name: value for name, value in msgspec.json.decode(line).items() if name not in MARKS})
