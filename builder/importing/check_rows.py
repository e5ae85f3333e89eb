"""Mark duplicates and languages in JSONL files of up to millions of rows, in parallel and within bounded memory.

Each row is copied as it is, with four more columns, as in

    {"output": "A tree.","duplicate_of": null, "near_duplicate_of": 17, "similarity": 0.8125, "detected_language": "en"}

The texts are found under the names that `import` knows (`bonsai.builder.importing.columns`), in conversations too. A
column of the person's own that has the name of a mark stays: then all marks are called ``bonsai_…``.

The source is cut into chunks of whole lines. Pass one indexes each chunk by itself; pass two compares rows across
chunks, one LSH band and then one block of candidate pairs at a time; a last pass writes the output. Every unit of work
(chunk, band, block) depends on its input only and writes result files that are whole or absent, so a killed run resumes
where it stopped when the same call is made again, and ends in the same bytes.

Texts are spilled to the work folder, so memory grows by some 300 bytes a row and process however long the texts are:
below a gigabyte for a million rows. Only the sketches (128 bytes a row) are needed whole, and all workers map one file.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_open
from bonsai.builder.importing.row_texts import (
    Chunk,
    chunk_lines,
    find_columns,
    parse_with_nan,
    split_into_chunks,
    texts_of,
)
from bonsai.builder.language_id import UNDETERMINED, language_by_model, language_by_script, row_counts, script_counts
from bonsai.builder.minhash import (
    BINS,
    THRESHOLD,
    CodepointTexts,
    Indices,
    Pairs,
    build_index,
    candidate_pairs,
    closest,
    first_of_run,
    fold_for_dedup,
    jaccard,
    nfkc_batch,
    unique_pairs,
)

ROWS_IN_BAND = 4
"""32 bands of 4: a pair at 0.55 meets with a chance of 95%, at 0.65 of 99.8%, and dissimilar pairs rarely."""
MARKS = ("duplicate_of", "near_duplicate_of", "similarity", "detected_language")
PREFIXED = tuple(f"bonsai_{mark}" for mark in MARKS)
"""The marks of a file that has columns of these names already."""
FAULTS_SHOWN = 50
NONE = -1
_BANDS = BINS // ROWS_IN_BAND
_MARK_NAMES = tuple(f'"{mark}"'.encode() for mark in (*MARKS, *PREFIXED))
_MARKED, _OWN_COLUMN = 1, 2
"""Whether a row has all marks of an earlier run, and whether it has a column of the person's own of such a name."""
_BATCH = 256
"""Rows; their arrays fit a core's cache."""
_FIELD_BREAK = "\x1f"
_REACH = 2
_PAIRS_IN_BLOCK = 32_768
_PARTNERS = 8
"""Candidates of an entry that are checked exactly: in the bucket of a form letter an entry meets hundreds."""
_FORMAT = 2
"""Raised when the work files change their meaning, so that the files of an older run are not reused."""

Progress = Callable[[int, int | None], None]
"""Rows done, and rows in all where that is known."""

ParallelMap = Callable[..., Iterator[Any]]
"""Like `map`: results in the order of the units of work."""


@dataclass(frozen=True, kw_only=True)
class CheckRowsJob:
    """The settings that every worker needs."""

    source: Path
    folder: Path
    fields: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    """Of each field the names in the file, as a rule one; the last tuple those of conversations."""
    threshold: float


class ChunkResult(NamedTuple):
    """Rows read, and the faults: the first `FAULTS_SHOWN` as sentences, all of them as a count."""

    rows: int
    faults: list[str]
    fault_count: int


class Links(NamedTuple):
    """For each row the row it repeats, or -1: shapes (rows,); the linked row always comes earlier."""

    duplicate_of: Indices
    near_duplicate_of: Indices
    similarity: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CheckedRows:
    """The counts of a run; ``languages`` counts rows by language, most frequent first."""

    output: Path
    rows: int
    duplicates: int
    near_duplicates: int
    languages: dict[str, int]
    columns: tuple[str, ...]
    """Those that were compared, as the file names them."""
    marks: tuple[str, ...]
    """The columns that were added."""


def check_rows(
    source: Path,
    output: Path,
    *,
    fields: Sequence[str] = ("instruction", "input", "output"),
    renamed: Mapping[str, str] | None = None,
    threshold: float = THRESHOLD,
    processes: int = 2,
    progress: Progress | None = None,
) -> CheckedRows:
    """Copy the JSONL file ``source`` to ``output`` row by row, each with four columns more.

    ``duplicate_of`` is the number (from 1) of the first row with the same text in NFKC; ``near_duplicate_of`` that of
    the most similar earlier row from ``threshold`` on, and ``similarity`` the Jaccard similarity of the two;
    ``detected_language`` is that of the first and the last of ``fields`` together, the question and its answer. Blank
    lines are left out.

    Args:
        source: one JSON object per line, UTF-8.
        output: must not exist. The folder ``<output>.work`` beside it exists until the run ends and takes two to three
            times the room of the source.
        fields: the text columns, in reading order; the last one is the answer. A conversation fills the first and last.
        renamed: field by column, for names that the table of aliases doesn't know.
        threshold: 0.3 to 1.
        processes: with 1 everything runs in the calling process.
        progress: called after each chunk read, and at the end.

    Raises:
        RecordError: with the faulty lines, at most 50 of them and the count of the others; nothing is written then.
    """
    # 1. Refuse bad arguments, all of them at once.
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

    # 2. Cut the file at line ends and open the work folder. It is named after all that decides the work files, so a
    #    resumed run can rely on the ones it finds.
    chunks, digest = split_into_chunks(source)
    columns = find_columns(source, fields, renamed or {})
    settings = json.dumps([_FORMAT, digest, list(fields), columns, threshold])
    folder = output.with_name(f"{output.name}.work") / xxhash.xxh3_64_hexdigest(settings.encode())
    folder.mkdir(parents=True, exist_ok=True)
    job = CheckRowsJob(source=source, folder=folder, fields=tuple(fields), columns=columns, threshold=threshold)

    with process_pool(processes) as parallel:
        # 3. Index the rows of each chunk. The number of rows is estimated from the bytes until all are read.
        rows, fault_count = 0, 0
        for chunk, result in zip(chunks, parallel(partial(process_chunk, job), chunks), strict=True):
            rows += result.rows
            faults.extend(result.faults)
            fault_count += result.fault_count
            if progress:
                progress(rows, round(rows * chunks[-1].end / chunk.end))
        if faults:
            more = [f"{source}: and {fault_count - FAULTS_SHOWN} more faulty lines"]
            raise RecordError(faults[:FAULTS_SHOWN] + (more if fault_count > FAULTS_SHOWN else []))
        if not rows:
            raise RecordError([f"{source}: only blank lines; write one JSON object per line"])

        # 4. Find duplicates across chunks: exact ones by hash, near ones by band and then by block.
        duplicate_of = link_exact_duplicates(folder, len(chunks))
        gather_entries(folder, len(chunks), duplicate_of)
        list(parallel(partial(process_band, folder, len(chunks)), range(_BANDS)))
        blocks = gather_pairs(folder)
        list(parallel(partial(process_block, job, len(chunks)), range(blocks)))
        links = merge_links(folder, blocks, duplicate_of)

    # 5. Write the output and remove the work folder.
    languages, marks = write_output(job, chunks, links, output)
    shutil.rmtree(folder.parent)
    if progress:
        progress(rows, rows)
    return CheckedRows(
        output=output,
        rows=rows,
        duplicates=int((links.duplicate_of != NONE).sum()),
        near_duplicates=int((links.near_duplicate_of != NONE).sum()),
        languages=dict(languages.most_common()),
        columns=tuple(itertools.chain.from_iterable(columns)),
        marks=marks,
    )


@contextmanager
def process_pool(processes: int) -> Iterator[ParallelMap]:
    """Yield a ``map`` over so many processes; with 1, the calling process. An error cancels what hasn't begun."""
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
    """End this worker when its parent ends: a killed parent closes no queue, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def save(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write an array; ``path`` is whole or absent at any moment."""
    with atomic_open(path) as file:
        np.save(file, array)


def spill_path(folder: Path, number: int, kind: str) -> Path:
    """Name a file of a chunk: ``rows``, ``bands``, ``sketches``, ``starts``, ``codes``, ``languages``, ``hashes``."""
    return folder / f"{number:06}.{kind}.npy"


def process_chunk(job: CheckRowsJob, chunk: Chunk) -> ChunkResult:
    """Read the rows of one chunk and write their index files, unless an earlier run has done so."""
    done = spill_path(job.folder, chunk.number, "hashes")
    if done.exists():
        return ChunkResult(len(np.load(done, mmap_mode="r")), [], 0)

    # 1. Parse the lines; msgspec decodes the text columns only and skips the rest.
    listed = list(itertools.chain.from_iterable(job.columns))
    names = {f"column_{i}": column for i, column in enumerate(listed)}
    line_type = msgspec.defstruct("Line", [(name, Any, None) for name in names], rename=names, gc=False)
    decode = msgspec.json.Decoder(line_type).decode
    with job.source.open("rb") as file:
        file.seek(chunk.start)
        data = file.read(chunk.end - chunk.start)
    marks = [mark for mark in _MARK_NAMES if mark in data]
    asked: list[str] = []
    besides: list[str] = []
    answers: list[str] = []
    marked: list[int] = []
    faults: list[str] = []
    for number, line in enumerate(chunk_lines(data, chunk), chunk.line):
        if not line.strip():
            continue
        try:
            values = msgspec.structs.astuple(decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            # NaN is no JSON, but what pandas and Python write
            row = parse_with_nan(line)
            if row is None:
                if isinstance(error, UnicodeDecodeError):
                    reason = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
                else:
                    reason = str(error).removeprefix("JSON is ").replace("Object", "object")
                faults.append(f"{job.source}:{number}: {reason}; write one JSON object with text columns")
                continue
            values = tuple(row.get(column) for column in listed)
        *before, answer = texts_of(values, job.columns)
        if not answer and not any(before):
            wanted = ", ".join(listed)
            faults.append(f"{job.source}:{number}: none of the columns {wanted} has text; write one, or drop the line")
            continue
        asked.append(before[0] + _FIELD_BREAK if before else _FIELD_BREAK)
        besides.append("".join(text + _FIELD_BREAK for text in before[1:]))
        answers.append(answer)
        marked.append(_marks_of(line) if any(mark in line for mark in marks) else 0)
    if faults:
        return ChunkResult(len(asked), faults[:FAULTS_SHOWN], len(faults))

    # 2. Hash, fold and index the texts in batches, and detect their languages.
    hashes = np.empty(len(asked), np.uint64)
    languages: list[str] = []
    folds: list[CodepointTexts] = []
    rows, sketches, bands = [np.zeros(0, np.int64)], [np.zeros((0, BINS), np.uint8)], [np.zeros((0, _BANDS), np.uint64)]
    for start in range(0, len(asked), _BATCH):
        batch = slice(start, start + _BATCH)
        # The parts of a row are texts of their own, because question and answer tell the language, and the input not.
        parts = nfkc_batch(list(itertools.chain(*zip(asked[batch], besides[batch], answers[batch], strict=True))))
        whole = CodepointTexts(parts.codes, parts.starts[::3])
        raw, offsets = whole.codes.tobytes(), (whole.starts * whole.codes.itemsize).tolist()
        hashes[batch] = [xxhash.xxh3_64_intdigest(raw[low:high]) for low, high in itertools.pairwise(offsets)]

        counts = script_counts(parts)
        together = row_counts(counts[::3], counts[2::3])
        by_script = language_by_script(together)
        # The input's language counts where neither has a letter.
        mute = by_script == UNDETERMINED
        together[mute] = counts[1::3][mute]
        found: list[str] = np.where(mute, language_by_script(together), by_script).tolist()
        for i in [i for i, language in enumerate(found) if not language]:
            at = start + i
            found[i] = language_by_model(besides[at] if mute[i] else f"{asked[at]}{answers[at]}", together[i])
        languages.extend(found)

        folds.append(fold_for_dedup(whole))
        entries = build_index(folds[-1], ROWS_IN_BAND)
        rows.append(entries.which + start)
        sketches.append(entries.sketches)
        bands.append(entries.bands)

    # 3. Write the files. ``hashes`` comes last: its presence says that the chunk is done.
    codes, starts = CodepointTexts.concatenate(folds)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "codes": codes.astype(np.uint16) if codes.max(initial=0) < 1 << 16 else codes,
        "starts": starts,
        "marked": np.asarray(marked, np.uint8),
        "languages": np.asarray(languages, "U3"),
        "rows": np.concatenate(rows),
        "sketches": np.concatenate(sketches),
        "bands": np.ascontiguousarray(np.concatenate(bands).T),
        "hashes": hashes,
    }
    for kind, array in arrays.items():
        save(spill_path(job.folder, chunk.number, kind), array)
    return ChunkResult(len(asked), [], 0)


def _marks_of(line: bytes) -> int:
    """Tell an earlier run's marks, which are four together, from a column of the person's own."""
    names = (parse_with_nan(line) or json.loads(line)).keys()
    flags = 0
    for marks in (set(MARKS), set(PREFIXED)):
        flags |= _MARKED if marks <= names else _OWN_COLUMN if marks & names else 0
    return flags


def link_exact_duplicates(folder: Path, chunks: int) -> Indices:
    """Link each row to the first row with the same text in NFKC; -1 where it is the first itself.

    Texts are compared by 64-bit hashes: among a million rows one false pair has a chance of 3 in 10⁸.
    """
    hashes = np.concatenate([np.load(spill_path(folder, chunk, "hashes")) for chunk in range(chunks)])
    order = np.argsort(hashes, kind="stable")
    first = first_of_run(hashes[order])
    repeats = first != np.arange(len(hashes))
    found = np.full(len(hashes), NONE, np.int64)
    found[order[repeats]] = order[first[repeats]]
    return found


def gather_entries(folder: Path, chunks: int, duplicate_of: Indices) -> None:
    """Write what the bands' workers need: the row of each entry, which entries count, and the sketches of those.

    An exact duplicate is left out: its first occurrence stands for it.
    """
    rows: list[Indices] = []
    base = 0
    for chunk in range(chunks):
        rows.append(np.load(spill_path(folder, chunk, "rows")) + base)
        base += len(np.load(spill_path(folder, chunk, "hashes"), mmap_mode="r"))
    entry_rows = np.concatenate(rows)
    counted = duplicate_of[entry_rows] == NONE
    save(folder / "counted.npy", counted)
    save(folder / "entry_rows.npy", entry_rows[counted])
    if (folder / "sketches.npy").exists():
        return
    # Chunk by chunk below one header: the whole array would not fit in the memory that the docstring promises.
    with atomic_open(folder / "sketches.npy") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (int(counted.sum()), BINS)}
        np.lib.format.write_array_header_2_0(file, header)
        start = 0
        for chunk in range(chunks):
            sketches = np.load(spill_path(folder, chunk, "sketches"))
            file.write(sketches[counted[start : start + len(sketches)]].tobytes())
            start += len(sketches)


def process_band(folder: Path, chunks: int, band: int) -> None:
    """Write the pairs of entries that meet in one band."""
    done = folder / f"band-{band:02}.npy"
    if done.exists():
        return
    hashes = []
    for chunk in range(chunks):
        # One row of the two-dimensional array is read from the file, and the others are not.
        with spill_path(folder, chunk, "bands").open("rb") as file:
            np.lib.format.read_magic(file)
            (_, width), _, dtype = np.lib.format.read_array_header_1_0(file)
            file.seek(band * width * dtype.itemsize, os.SEEK_CUR)
            hashes.append(np.fromfile(file, np.uint64, width))
    save(done, candidate_pairs(np.concatenate(hashes)[np.load(folder / "counted.npy")], _REACH))


def gather_pairs(folder: Path) -> int:
    """Merge the bands' pairs into one file, ordered by the later entry.

    Returns:
        The number of blocks to check.
    """
    merged: Pairs = np.zeros((0, 2), np.int64)
    for band in range(_BANDS):
        merged = unique_pairs(np.concatenate([merged, np.load(folder / f"band-{band:02}.npy")[:, ::-1]]))
    save(folder / "candidates.npy", merged)
    return -(-len(merged) // _PAIRS_IN_BLOCK)


def process_block(job: CheckRowsJob, chunks: int, block: int) -> None:
    """Write the verified pairs of one block: first row, second row, similarity; shape (P, 3)."""
    folder = job.folder
    done = folder / f"block-{block:05}.npy"
    if done.exists():
        return
    # 1. Keep the candidates that the sketches make likely.
    start = block * _PAIRS_IN_BLOCK
    candidates = np.array(np.load(folder / "candidates.npy", mmap_mode="r")[start : start + _PAIRS_IN_BLOCK])[:, ::-1]
    close = closest(candidates, np.load(folder / "sketches.npy", mmap_mode="r"), job.threshold, _PARTNERS)
    pairs = unique_pairs(np.load(folder / "entry_rows.npy", mmap_mode="r")[close])
    rows, positions = np.unique(pairs, return_inverse=True)

    # 2. Read the folded texts of their rows (ascending), chunk by chunk.
    texts: list[CodepointTexts] = []
    base = 0
    for chunk in range(chunks):
        starts = np.load(spill_path(folder, chunk, "starts"))
        inside = rows[np.searchsorted(rows, base) : np.searchsorted(rows, base + len(starts) - 1)] - base
        base += len(starts) - 1
        if len(inside):
            texts.append(CodepointTexts(np.load(spill_path(folder, chunk, "codes")), starts).take(inside))

    # 3. Their exact similarity decides.
    similarity = jaccard(CodepointTexts.concatenate(texts), positions.reshape(pairs.shape))
    verified = similarity >= job.threshold
    save(done, np.column_stack([pairs[verified], similarity[verified]]))


def merge_links(folder: Path, blocks: int, duplicate_of: Indices) -> Links:
    """Link each near duplicate to the most similar earlier row; of equally similar ones, to the earliest."""
    parts = [np.load(folder / f"block-{block:05}.npy") for block in range(blocks)]
    verified = np.concatenate([np.zeros((0, 3)), *parts])
    verified = verified[np.lexsort((verified[:, 0], -verified[:, 2], verified[:, 1]))]
    _, best = np.unique(verified[:, 1], return_index=True)
    first, second = verified[best, 0].astype(np.int64), verified[best, 1].astype(np.int64)
    near = np.full(len(duplicate_of), NONE, np.int64)
    similarity = np.zeros(len(duplicate_of))
    near[second], similarity[second] = first, verified[best, 2]
    return Links(duplicate_of, near, similarity)


def write_output(
    job: CheckRowsJob, chunks: list[Chunk], links: Links, output: Path
) -> tuple[Counter[str], tuple[str, ...]]:
    """Copy the lines, with the new columns before the closing brace; return the count of languages and the columns.

    Lines are copied as bytes, so no number or escape changes; only rows with marks of an earlier run are rewritten.
    """
    # A column of the person's own in any row moves the marks of all rows to other names.
    stored = [np.load(spill_path(job.folder, chunk.number, "marked")) for chunk in chunks]
    marks = PREFIXED if any((found & _OWN_COLUMN).any() for found in stored) else MARKS
    # Most rows repeat nothing, and end in one of four ways.
    plain = {language: _line_end(marks, None, None, None, language) for language in ("ja", "en", "zh", UNDETERMINED)}
    # In the work folder first, where the leftover of a killed run is cleared away with the other work files.
    draft = job.folder / "output.jsonl"
    languages: Counter[str] = Counter()
    row = 0
    with job.source.open("rb") as file, atomic_open(draft) as out:
        for chunk, marked in zip(chunks, stored, strict=True):
            found = np.load(spill_path(job.folder, chunk.number, "languages")).tolist()
            here = slice(row, row + len(found))
            exact, near = (links.duplicate_of[here] + 1).tolist(), (links.near_duplicate_of[here] + 1).tolist()
            similarity = links.similarity[here].tolist()
            written: list[bytes] = []
            lines = [line for line in chunk_lines(file.read(chunk.end - chunk.start), chunk) if line.strip()]
            for i, line in enumerate(lines):
                if marked[i] & _MARKED:
                    columns = parse_with_nan(line) or json.loads(line)
                    ours = {name for names in (MARKS, PREFIXED) if columns.keys() >= set(names) for name in names}
                    kept = {name: value for name, value in columns.items() if name not in ours}
                    line = json.dumps(kept, ensure_ascii=False).encode("utf-8", "backslashreplace")
                if not exact[i] and not near[i] and found[i] in plain:
                    end = plain[found[i]]
                else:
                    close = round(similarity[i], 4) if near[i] else None
                    end = _line_end(marks, exact[i] or None, near[i] or None, close, found[i])
                written.append(line.rstrip()[:-1] + end)
            out.write(b"".join(written))
            languages.update(found)
            row += len(found)
    draft.replace(output)
    return languages, marks


def _line_end(
    marks: Sequence[str], exact: int | None, near: int | None, similarity: float | None, language: str
) -> bytes:
    written = json.dumps(dict(zip(marks, (exact, near, similarity, language), strict=True)))
    return f",{written[1:]}\n".encode()
