"""Second pass over a large file: which row repeats which, from the files that the first pass left.

Bands, then blocks of candidate pairs, are pieces of work with one result file each, so this pass too goes on where a
killed run stopped. Only the sketches (128 bytes a row) lie in memory whole, as a file mapped by all workers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bonsai.builder.importing.row_chunks import Job, part, save
from bonsai.builder.near_duplicates.candidates import Pairs, closest, distinct, meeting
from bonsai.builder.near_duplicates.exact import jaccard
from bonsai.builder.near_duplicates.folding import Places, Texts

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


def first_of_each(folder: Path, chunks: int) -> Places:
    """For each row the first row with the same text in NFKC, or -1 where it is the first itself.

    Texts are told apart by 64-bit hashes: among a million rows one false pair has a chance of 3 in 10⁸.
    """
    hashes = np.concatenate([np.load(part(folder, chunk, "hashes")) for chunk in range(chunks)])
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
        rows.append(np.load(part(folder, chunk, "rows")) + base)
        base += len(np.load(part(folder, chunk, "hashes"), mmap_mode="r"))
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
                sketches = np.load(part(folder, chunk, "sketches"))
                file.write(sketches[counted[start : start + len(sketches)]].tobytes())
                start += len(sketches)
        (folder / "sketches.part").replace(folder / "sketches.npy")
    return int(np.load(part(folder, 0, "bands"), mmap_mode="r").shape[0])


def work_band(folder: Path, chunks: int, band: int) -> None:
    """Write the pairs of entries that meet in one band."""
    done = folder / f"band-{band:02}.npy"
    if done.exists():
        return
    hashes = np.concatenate([_one_row(part(folder, chunk, "bands"), band) for chunk in range(chunks)])
    save(done, meeting(hashes[np.load(folder / "counted.npy")], _REACH))


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
        merged = distinct(np.concatenate([merged, np.load(folder / f"band-{band:02}.npy")[:, ::-1]]))
    save(folder / "candidates.npy", merged)
    return -(-len(merged) // _PAIRS_IN_BLOCK)


def work_block(job: Job, chunks: int, block: int) -> None:
    """Write the verified pairs of one block: first row, second row, similarity; shape (P, 3)."""
    folder = job.folder
    done = folder / f"block-{block:05}.npy"
    if done.exists():
        return
    start = block * _PAIRS_IN_BLOCK
    met = np.array(np.load(folder / "candidates.npy", mmap_mode="r")[start : start + _PAIRS_IN_BLOCK])[:, ::-1]
    close = closest(met, np.load(folder / "sketches.npy", mmap_mode="r"), job.threshold, _PARTNERS)
    pairs = distinct(np.load(folder / "entry_rows.npy", mmap_mode="r")[close])
    rows, places = np.unique(pairs, return_inverse=True)
    similarity = jaccard(_texts(folder, chunks, rows), places.reshape(pairs.shape))
    verified = similarity >= job.threshold
    save(done, np.column_stack([pairs[verified], similarity[verified]]))


def _texts(folder: Path, chunks: int, rows: Places) -> Texts:
    """The folded texts of these rows (ascending), read chunk by chunk."""
    found: list[Texts] = []
    base = 0
    for chunk in range(chunks):
        starts = np.load(part(folder, chunk, "starts"))
        inside = rows[np.searchsorted(rows, base) : np.searchsorted(rows, base + len(starts) - 1)] - base
        base += len(starts) - 1
        if len(inside):
            codes: npt.NDArray[Any] = np.load(part(folder, chunk, "codes"))
            taken = Texts(codes, starts).take(inside)
            found.append(Texts(taken.codes.astype(np.uint32, copy=False), taken.starts))
    lengths = np.concatenate([np.zeros(0, np.int64), *(texts.lengths() for texts in found)])
    codes = np.concatenate([np.zeros(0, np.uint32), *(texts.codes for texts in found)])
    return Texts(codes, np.concatenate([[0], np.cumsum(lengths)]))


def linked(folder: Path, blocks: int, duplicate_of: Places) -> Links:
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
