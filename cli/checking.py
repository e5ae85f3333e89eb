"""`bonsai check`, and the checks of every build: told on the terminal, gravest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.run import CHECKS, Checked, run_checks
from bonsai.builder.probes import default_probes, read_probes
from bonsai.builder.reader import read_groups

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def check(records: Path, console: Console, *, notes: bool) -> Checked:
    """Run the checks with a progress line; print what they found, errors and warnings in full.

    Args:
        notes: print the notes in full too.
    """
    groups = read_groups(records)
    with console.status("checking") as status:
        checked = run_checks(
            groups, read_probes(default_probes()), on_step=lambda name: status.update(f"checking {name}")
        )
    console.print(summary(checked.findings, len(groups)))
    for finding in checked.findings:
        if finding.severity is not Severity.NOTE or notes:
            tell(finding, console)
    return checked


def summary(findings: Sequence[Finding], groups: int) -> Table:
    """How many findings of each check and severity."""
    counts = Counter((finding.check, finding.severity) for finding in findings)
    table = Table(title=f"{groups} groups, {len(CHECKS) + 1} checks", title_style="bold")
    table.add_column("check")
    for severity in Severity:
        table.add_column(f"{severity.value}s", justify="right", style=_COLOURS[severity])
    for name in sorted({finding.check for finding in findings}):
        table.add_row(name, *(str(counts[name, severity] or "") for severity in Severity))
    table.add_section()
    totals = Counter(finding.severity for finding in findings)
    table.add_row("all", *(str(totals[severity]) for severity in Severity))
    return table


def tell(finding: Finding, console: Console) -> None:
    """One finding, in the form an editor makes a link of."""
    colour = _COLOURS[finding.severity]
    field = f" {finding.field}" if finding.field else ""
    said = f" {finding.place}: {finding.group_id}{field}: [{finding.check}] {finding.what}; {finding.why}"
    console.print(Text.assemble((finding.severity.value, colour), said))
