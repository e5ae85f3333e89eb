"""Measure precision and recall of the checks that compare records.

    python -m benchmarks.checks_relations [--records DIR] [--show]

The hand-labelled cases are in ``tests/checks/cases``: faults, and innocents that look like faults, in Japanese, English
and Chinese. They were written before the thresholds were set and then used to set them, so the figures show how well
the checks fit. The second table is closer to how they do elsewhere: faults planted by machine into real records, which
showed where rules were missing but set no threshold. The right half of the first table shows what the checks find in
these records as they are, and how long they take.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bonsai.builder.checks.base import Check, Finding, Severity
from bonsai.builder.checks.decontamination import check_decontamination
from bonsai.builder.records import SourcedGroup, default_probes, default_records_dir, read_groups, read_probes
from tests.checks.relation_cases import ALL, CHECKS, score
from tests.checks.relation_planted import plant


class Ran(NamedTuple):
    """One check over real records."""

    seconds: float
    findings: list[Finding]


def over_records(groups: Sequence[SourcedGroup]) -> dict[str, Ran]:
    """Run every check over the records in one process, as the report does: what is cached counts once."""
    probes = read_probes(default_probes())
    checks: dict[str, Check] = CHECKS | {"decontamination": lambda found: check_decontamination(found, probes)}
    ran = {}
    for name, check in checks.items():
        start = time.perf_counter()
        findings = list(check(groups))
        ran[name] = Ran(time.perf_counter() - start, findings)
    return ran


def labelled_table(ran: dict[str, Ran]) -> tuple[Table, list[str]]:
    """Return the table of labelled cases beside real records, and the cases that were judged wrongly."""
    table = Table("check", "cases", "faults", "recall", "precision", "errors", "warnings", "notes", "seconds")
    wrong: list[str] = []
    for name in ALL:
        result = score(name)
        faults = result.found + len(result.missed)
        row = [name, str(faults + result.innocent), str(faults), f"{result.recall:.2f}", f"{result.precision:.2f}"]
        if real := ran.get(name):
            row += [str(sum(one.severity is each for one in real.findings)) for each in Severity]
            row.append(f"{real.seconds:.2f}")
        table.add_row(*row)
        wrong += [f"{name}: missed: {json.dumps(case, ensure_ascii=False)}" for case in result.missed]
        wrong += [f"{name}: wrongly flagged: {json.dumps(case, ensure_ascii=False)}" for case in result.false_alarms]
    return table, wrong


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Recall and precision of the checks that compare records.")
    parser.add_argument("--records", type=Path, default=default_records_dir(), help="records to run over")
    parser.add_argument("--show", action="store_true", help="also print what was judged wrongly, and the findings")
    arguments = parser.parse_args()
    groups = read_groups(arguments.records)
    ran = over_records(groups)
    console = Console(width=120)
    table, wrong = labelled_table(ran)
    console.print(table)
    console.print(f"all over {len(groups)} groups: {sum(each.seconds for each in ran.values()):.1f} s")
    planted = Table("check", "planted into real records", "planted", "found", "recall")
    for check, kind, found, total in plant(groups):
        planted.add_row(check, kind, str(total), str(found), f"{found / max(1, total):.2f}")
    console.print(planted)
    if arguments.show:
        findings = [one for each in ran.values() for one in each.findings if one.severity is not Severity.NOTE]
        wrong += [f"{one.severity}: {one.check}: {one.location}: {one.field}: {one.message}" for one in findings]
        for line in wrong:
            console.print(line, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
