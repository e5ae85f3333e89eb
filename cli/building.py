"""`bonsai build`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bonsai.builder.folder import exclusive
from bonsai.builder.standing import ingredients, standing, write_down
from bonsai.cli.quieting import quiet_libraries
from bonsai.hub.client.destination import in_namespace


def build(records: Path | None, *, out: Path, check: bool, again: bool, console: Console) -> None:
    """Build and check, unless the last build stands.

    Raises:
        RecordError: with every fault in the records, or every error the checks found.
        FolderInUseError: another build writes here.
    """
    from bonsai.builder.reader import default_records

    source, dataset = records or default_records(), out / "dataset"
    with exclusive(dataset):
        made_of = ingredients(source, in_namespace("qeu/bonsai"), check=check)
        summary = None if again else standing(dataset, made_of)
        if summary is not None:
            for line in summary:
                console.print(line)
            console.print("nothing has changed since that build; `--again` makes it anew")
            return
        summary = _build(source, dataset, check, console)
        write_down(dataset, made_of, summary)


def _build(source: Path, dataset: Path, check: bool, console: Console) -> list[str]:
    quiet_libraries()
    from bonsai.builder.build import build as build_dataset
    from bonsai.builder.checks.finding import Severity
    from bonsai.builder.reader import shown
    from bonsai.cli.tables import counts_table, dataset_table

    with console.status("building") as status:
        built = build_dataset(
            source,
            dataset,
            in_namespace("qeu/bonsai"),
            check=check,
            on_step=lambda step: status.update(f"checking and building: {step}"),
        )
    console.print(dataset_table(built.facts))
    console.print(counts_table(built.facts))
    summary = [
        f"{built.facts.groups} groups, {built.facts.rows} rows from {shown(source)} -> {built.path} "
        f"(card: {built.path}/README.md)"
    ]
    if built.checked is not None:
        warnings = sum(finding.severity is Severity.WARNING for finding in built.checked.findings)
        summary.append(f"checks: 0 errors, {warnings} warnings (report: {built.path}/report.html)")
    for line in summary:
        console.print(line)
    return summary
