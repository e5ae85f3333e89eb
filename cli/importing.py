"""`bonsai import` and `bonsai check-rows`: somebody's own data, with a bar while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bonsai.builder.importing.check_rows import CheckedRows, check_rows
from bonsai.builder.importing.import_file import Imported, import_file

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


def bring_in(
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
        console.print(f"draft {', '.join(row.piece.place for row in draft.rows)}: {draft.reason}")
    if len(imported.drafts) > DRAFTS_SHOWN:
        console.print(f"and {len(imported.drafts) - DRAFTS_SHOWN} drafts more")
    if dry_run:
        console.print("a dry run: nothing was written. 試しただけで、何も書いていません。")
    for written in imported.written:
        console.print(Text.assemble("-> ", (str(written), "bold")))


def _table(imported: Imported) -> Table:
    table = Table(title=f"{len(imported.groups)} groups, {len(imported.drafts)} drafts", title_style="bold")
    table.add_column("category")
    table.add_column("groups", justify="right")
    for category, groups in imported.categories.items():
        table.add_row(category, str(groups))
    table.add_section()
    for language, rows in imported.languages.items():
        table.add_row(f"rows in {language}", str(rows))
    return table


def mark_rows(path: Path, output: Path, console: Console) -> None:
    """Mark duplicates and languages of a large JSONL file and say what was found."""
    with _bar(f"checking {path.name}", console) as progress:
        checked: CheckedRows = check_rows(path, output, progress=progress)
    languages = ", ".join(f"{language} {rows:,}" for language, rows in checked.languages.items())
    console.print(
        f"{checked.rows:,} rows: {checked.duplicates:,} exact and {checked.near_duplicates:,} near duplicates marked, "
        f"none dropped; {languages}"
    )
    console.print(Text.assemble("-> ", (str(checked.output), "bold")))
