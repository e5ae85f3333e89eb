"""A release under every fault at every request: does it end whole or as before, and does a second one complete?

    python -m benchmarks.faults [--every N] [--workers N]

The real clients publish a tiny dataset and a tiny adapter to the local Hub through a proxy that harms one request, or
all from one on; see tests/faults. The silence is one of 30 s, broken off by the clients after 0.5 s instead of 60. A
case is survived when the release completed, or main is as it was, or main holds the whole release and only the tag is
missing; and when a second try, without the fault, completes it in at most one commit and a third makes none.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.faults.cases import FAULTS, INTRUSIONS, KINDS, End, requests_of_a_release, run_case
from tests.faults.stage import staged

LOST = "NOT SURVIVED"


class Case(NamedTuple):
    """A fault at a request."""

    kind: str
    fault: str
    at: int


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take every Nth case only")
    parser.add_argument("--workers", type=int, default=4, help="each with a Hub of its own; they mostly wait")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as root, staged(Path(root)) as stage:
        requests = {name: requests_of_a_release(stage, kind) for name, kind in KINDS.items()}
    faults = {fault.name: fault for fault in (*FAULTS, *INTRUSIONS)}
    cases = [Case(kind, fault, at) for kind in KINDS for fault in faults for at in range(len(requests[kind]))]
    cases = cases[:: arguments.every]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        shares = [cases[worker :: arguments.workers] for worker in range(arguments.workers)]
        ends = [pair for share in pool.map(_run, shares, chunksize=1) for pair in share]
    console = Console(width=140)
    columns = [*map(str, End), LOST]
    title = f"{len(cases)} faults, {time.monotonic() - started:.0f} s with {arguments.workers} workers"
    table = Table("fault", "tried", *columns, title=title)
    for name in (*faults, "all"):
        counted = Counter(end for case, end in ends if name in (case.fault, "all"))
        table.add_row(name, str(counted.total()), *(str(counted[column] or "") for column in columns))
    console.print(table)
    console.print("requests in a release without a fault:", {name: len(asked) for name, asked in requests.items()})
    raise SystemExit(any(end == LOST for _, end in ends))


def _run(cases: list[Case]) -> list[tuple[Case, str]]:
    faults = {fault.name: fault for fault in (*FAULTS, *INTRUSIONS)}
    ends = []
    with tempfile.TemporaryDirectory() as root, staged(Path(root)) as stage:
        for done, case in enumerate(cases):
            try:
                end = str(run_case(stage, KINDS[case.kind], faults[case.fault], case.at))
            except Exception as error:  # noqa: BLE001  # whatever it is: a fault that was not survived, and is listed
                end = LOST
                sys.stderr.write(f"{case}: {type(error).__name__} {error}\n")
            ends.append((case, end))
            if done % 25 == 24:
                sys.stderr.write(f"{done + 1} of {len(cases)}\n")
    return ends


if __name__ == "__main__":
    main()
