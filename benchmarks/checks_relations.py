"""How well the checks that compare records find faults: precision and recall on hand-labelled cases, in one table.

    python -m benchmarks.checks_relations [--records DIR] [--show]

The cases lie in ``tests/checks/cases``: faults, and innocents that look like faults, in Japanese, English and Chinese. They
were written before the thresholds were set and then served to set them, so the figures say how well the checks fit, not
how they will do elsewhere. The right half of the table is what the checks find in real records, and how long they take.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.reader import default_records, read_groups
from tests.checks.relation_cases import ALL, CHECKS, score


class Ran(NamedTuple):
    """One check over real records."""

    seconds: float
    findings: list[Finding]


def over_records(directory: Path) -> dict[str, Ran]:
    """Every check that needs no probes over a folder of records, in one process as the report runs them."""
    groups, ran = read_groups(directory), {}
    for name, check in CHECKS.items():
        start = time.perf_counter()
        findings = list(check(groups))
        ran[name] = Ran(time.perf_counter() - start, findings)
    return ran


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, default=default_records(), help="records to run over as well")
    parser.add_argument("--show", action="store_true", help="print the cases that were judged wrongly, and the findings")
    arguments = parser.parse_args()
    console = Console()
    ran = over_records(arguments.records)
    table = Table("check", "cases", "faults", "recall", "precision", "errors", "warnings", "notes", "seconds")
    for name in ALL:
        result = score(name)
        faults = result.found + len(result.missed)
        real = ran.get(name)
        levels = [sum(one.severity is each for one in real.findings) for each in Severity] if real else ["-"] * 3
        seconds = f"{real.seconds:.2f}" if real else "-"
        table.add_row(
            name,
            str(faults + result.innocent),
            str(faults),
            f"{result.recall:.2f}",
            f"{result.precision:.2f}",
            *map(str, levels),
            seconds,
        )
        if arguments.show:
            for kind, cases in (("missed", result.missed), ("wrongly flagged", result.wrongly)):
                for case in cases:
                    console.print(f"{name}: {kind}: {json.dumps(case, ensure_ascii=False)}", soft_wrap=True, markup=False)
            for finding in real.findings if real else ():
                console.print(
                    f"{finding.severity} {finding.check} {finding.group_id} {finding.field}: {finding.what}", markup=False
                )
    console.print(table)
    console.print(f"all over the records: {sum(each.seconds for each in ran.values()):.1f} s")


if __name__ == "__main__":
    main()
