"""Implement `bonsai build`, `check`, `import` and `check-rows`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bonsai.builder.build import input_fingerprint, load_if_up_to_date, save_build_stamp
from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.checks.run import CHECKS, CheckReport, run_checks
from bonsai.builder.files import exclusive
from bonsai.builder.importing.check_rows import CheckedRows, check_rows
from bonsai.builder.importing.import_file import ImportResult, import_file
from bonsai.builder.records import default_probes, read_groups, read_probes
from bonsai.cli.common import quiet_libraries
from bonsai.dataset_card.facts import DatasetFacts
from bonsai.hub.target import with_namespace


def build(records: Path | None, *, out: Path, check: bool, again: bool, console: Console) -> None:
    """Build and check, unless the last build stands.

    Raises:
        RecordError: with every fault in the records, or every error the checks found.
        FolderInUseError: another build writes here.
    """
    from bonsai.builder.records import default_records_dir

    source, dataset = records or default_records_dir(), out / "dataset"
    with exclusive(dataset):
        made_of = input_fingerprint(source, with_namespace("qeu/bonsai"), check=check)
        summary = None if again else load_if_up_to_date(dataset, made_of)
        if summary is not None:
            for line in summary:
                console.print(line)
            console.print("nothing has changed since that build; `--again` makes it anew")
            return
        summary = _build(source, dataset, check, console)
        save_build_stamp(dataset, made_of, summary)


def _build(source: Path, dataset: Path, check: bool, console: Console) -> list[str]:
    quiet_libraries()
    from bonsai.builder.build import build_dataset
    from bonsai.builder.checks.base import Severity
    from bonsai.builder.records import display_path

    with console.status("building") as status:
        built = build_dataset(
            source,
            dataset,
            with_namespace("qeu/bonsai"),
            check=check,
            on_step=lambda step: status.update(f"checking and building: {step}"),
        )
    console.print(dataset_table(built.facts))
    console.print(counts_table(built.facts))
    summary = [
        f"{built.facts.groups} groups, {built.facts.rows} rows from {display_path(source)} -> {built.path} "
        f"(card: {built.path}/README.md)"
    ]
    if built.checked is not None:
        warnings = sum(finding.severity is Severity.WARNING for finding in built.checked.findings)
        summary.append(f"checks: 0 errors, {warnings} warnings (report: {built.path}/report.html)")
    for line in summary:
        console.print(line)
    return summary


_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def check(records: Path, console: Console, *, notes: bool) -> CheckReport:
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
            print_finding(finding, console)
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


def print_finding(finding: Finding, console: Console) -> None:
    """One finding, in the form an editor makes a link of."""
    colour = _COLOURS[finding.severity]
    field = f" {finding.field}" if finding.field else ""
    said = f" {finding.location}: {finding.group_id}{field}: [{finding.check}] {finding.message}; {finding.hint}"
    console.print(Text.assemble((finding.severity.value, colour), said))


DRAFTS_SHOWN = 10


@contextmanager
def _bar(what: str, console: Console) -> Iterator[Callable[[int, int | None], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def run_import(
    path: Path,
    output: Path,
    console: Console,
    *,
    source: str,
    licence: str,
    generator: str,
    encoding: str | None,
    expected_language: str | None,
    dry_run: bool,
) -> None:
    """Import one file and say what came in, what was guessed, and what is still a draft."""
    with _bar(f"reading {path.name}", console) as progress:
        imported = import_file(
            path,
            output,
            source=source,
            licence=licence,
            generator=generator,
            encoding=encoding,
            expected_language=expected_language,
            dry_run=dry_run,
            progress=progress,
        )
    console.print(f"{imported.rows} rows in {imported.shape} columns, {imported.encoding} ({imported.encoding_rule})")
    console.print(_table(imported))
    for guess, rows in imported.guesses.items():
        console.print(f"guessed {rows}x {guess}")
    for draft in imported.drafts[:DRAFTS_SHOWN]:
        console.print(f"draft {', '.join(row.text.location for row in draft.rows)}: {draft.reason}")
    if len(imported.drafts) > DRAFTS_SHOWN:
        console.print(f"and {len(imported.drafts) - DRAFTS_SHOWN} drafts more")
    if dry_run:
        console.print("a dry run: nothing was written. 試しただけで、何も書いていません。")
    for written in imported.written:
        console.print(Text.assemble("-> ", (str(written), "bold")))


def _table(imported: ImportResult) -> Table:
    table = Table(title=f"{len(imported.groups)} groups, {len(imported.drafts)} drafts", title_style="bold")
    table.add_column("category")
    table.add_column("groups", justify="right")
    for category, groups in imported.categories.items():
        table.add_row(category, str(groups))
    table.add_section()
    for language, rows in imported.languages.items():
        table.add_row(f"rows in {language}", str(rows))
    return table


def run_check_rows(path: Path, output: Path, console: Console) -> None:
    """Mark duplicates and languages of a large JSONL file and say what was found."""
    with _bar(f"checking {path.name}", console) as progress:
        checked: CheckedRows = check_rows(path, output, progress=progress)
    languages = ", ".join(f"{language} {rows:,}" for language, rows in checked.languages.items())
    console.print(
        f"{checked.rows:,} rows: {checked.duplicates:,} exact and {checked.near_duplicates:,} near duplicates marked, "
        f"none dropped; {languages}"
    )
    console.print(Text.assemble("-> ", (str(checked.output), "bold")))


def dataset_table(facts: DatasetFacts) -> Table:
    """Rows by category and language."""
    table = Table(title=f"{facts.repo_id} v{facts.version}", title_style="bold")
    table.add_column("category")
    for language in (*facts.languages, "all"):
        table.add_column(language, justify="right")
    for category, counts in facts.category_language.items():
        table.add_row(
            category, *(str(counts.get(language, 0)) for language in facts.languages), str(sum(counts.values()))
        )
    totals = [sum(c.get(language, 0) for c in facts.category_language.values()) for language in facts.languages]
    table.add_section()
    table.add_row("all", *map(str, totals), str(sum(totals)))
    return table


def counts_table(facts: DatasetFacts) -> Table:
    """What the groups have, and how many rows are derived."""
    table = Table(title=f"{facts.groups} groups", title_style="bold")
    table.add_column("of them with")
    table.add_column("groups", justify="right")
    table.add_column("share", justify="right")
    for name, groups in facts.groups_with.items():
        table.add_row(name, str(groups), f"{groups / facts.groups:.0%}")
    table.add_section()
    table.add_row("rows derived from other groups", str(facts.derived_rows), f"{facts.derived_rows / facts.rows:.1%}")
    table.add_row("probes", str(sum(facts.probe_kinds.values())), "")
    return table
