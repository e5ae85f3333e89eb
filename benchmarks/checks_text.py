"""Measure recall and precision of the single-record checks, and how long they take over the real records.

    python -m benchmarks.checks_text

``cases`` are hand-labelled (tests/checks/cases), ``planted`` are faults put into the real records by machine
(tests/checks/planted.py), ``records`` are findings in the records as they are: errors, warnings, notes.
"""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console
from rich.table import Table

from bonsai.builder.checks.base import Severity
from bonsai.builder.records import default_records_dir, read_groups
from tests.checks.labelled import TEXT_CHECKS, score
from tests.checks.planted import plant


def main() -> None:
    """Print one row a check, then what was missed and the false alarms."""
    groups = read_groups(default_records_dir())
    planted = [*plant(groups)]
    table = Table("check", "faults", "innocents", "recall", "precision", "planted", "found", "records e/w/n", "seconds")
    wrong: list[str] = []
    for name, check in TEXT_CHECKS.items():
        result = score(name)
        start = time.perf_counter()
        severities = Counter(finding.severity for finding in check(groups))
        seconds = time.perf_counter() - start
        here = [kind for kind in planted if kind.check == name]
        total = sum(kind.planted for kind in here)
        table.add_row(
            name,
            str(result.faults),
            str(result.innocents),
            f"{result.recall:.3f}",
            f"{result.precision:.3f}",
            str(total or "–"),
            f"{sum(kind.found for kind in here) / total:.3f}" if total else "–",
            "/".join(str(severities[severity]) for severity in Severity),
            f"{seconds:.2f}",
        )
        wrong += [f"{name}: missed: {why}" for why in result.missed]
        wrong += [f"{name}: blamed: {why}" for why in result.false_alarms]
        wrong += [f"{name}: {kind.kind}: {kind.found} of {kind.planted} found" for kind in here]
    console = Console(width=110)
    console.print(table)
    for line in wrong:
        console.print(line, markup=False)


if __name__ == "__main__":
    main()
