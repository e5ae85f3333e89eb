"""Implement the commands for records: `bonsai build`, `check`, `import`, `export` and `check-rows`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.files import exclusive
from bonsai.builder.records import default_probes, default_records_dir, display_path, read_groups, read_probes
from bonsai.cli.common import OUT, Out, Records, console, quiet_libraries
from bonsai.dataset_card.facts import DatasetFacts
from bonsai.hub.target import with_namespace

DRAFTS_SHOWN = 10
REASONS_SHOWN = 20
_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def build(
    records: Records = None,
    check: Annotated[bool, typer.Option(help="Without the checks it can't be released. 検査の有無。")] = True,
    again: Annotated[bool, typer.Option("--again", help="Build though nothing changed. 無変更でも作る。")] = False,
    out: Out = OUT,
) -> None:
    """Build the dataset from the records: out/dataset/. レコードからデータセットを作る。"""
    quiet_libraries()
    from bonsai.builder.build import build_dataset, input_fingerprint, load_if_up_to_date, save_build_stamp

    console.outlives_reader = True
    source, dataset, repo_id = records or default_records_dir(), out / "dataset", with_namespace("qeu/bonsai")
    with exclusive(dataset):
        # 1. The stamp of the last build names everything that went into it; if that is unchanged, so is the dataset.
        fingerprint = input_fingerprint(source, repo_id, check=check)
        summary = None if again else load_if_up_to_date(dataset, fingerprint)
        if summary is not None:
            for line in summary:
                console.print(line)
            console.print("nothing has changed since that build; `--again` builds it anew")
            return
        # 2. Check and build.
        with console.status("building") as status:
            built = build_dataset(
                source,
                dataset,
                repo_id,
                check=check,
                on_step=lambda step: status.update(f"checking and building: {step}"),
            )
        # 3. Print what was built, and keep the last lines for a run that finds nothing changed.
        console.print(dataset_table(built.facts))
        console.print(counts_table(built.facts))
        summary = [
            f"{built.facts.groups} groups, {built.facts.rows} rows from {display_path(source)} -> {built.path} "
            f"(card: {built.path}/README.md)"
        ]
        summary += built.left_out
        if built.checked is not None:
            warnings = sum(finding.severity is Severity.WARNING for finding in built.checked.findings)
            summary.append(f"checks: 0 errors, {warnings} warnings (report: {built.path}/report.html)")
        for line in summary:
            console.print(line)
        save_build_stamp(dataset, fingerprint, summary)


def check(
    records: Records = None,
    notes: Annotated[bool, typer.Option("--notes", help="Tell the notes in full too. 注記も全部表示する。")] = False,
) -> None:
    """Look for contradictions, duplicates, wrong languages and more. レコードの疑わしい所を探す。"""
    from bonsai.builder.checks.run import run_checks

    groups = read_groups(records or default_records_dir())
    with console.status("checking") as status:
        checked = run_checks(
            groups, read_probes(default_probes()), on_step=lambda name: status.update(f"checking {name}")
        )
    console.print(findings_table(checked.findings, len(groups)))
    for finding in checked.findings:
        if finding.severity is not Severity.NOTE or notes:
            # path:line: is the form that an editor turns into a link
            field = f" {finding.field}" if finding.field else ""
            location = f" {finding.location}: {finding.group_id}{field}:"
            severity = (finding.severity.value, _COLORS[finding.severity])
            console.print(Text.assemble(severity, f"{location} [{finding.check}] {finding.message}; {finding.hint}"))
    if checked.errors:
        raise typer.Exit(1)


def import_(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, XLSX, JSON, JSONL, Parquet, drafts. 取り込むファイル。")],
    source: Annotated[str | None, typer.Option(help="Where the texts come from. 出所。")] = None,
    # The second spelling is that of versions before 0.2.0.
    license: Annotated[
        str | None, typer.Option("--license", "--licence", help="Under which they may be published. ライセンス。")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="Who or which model wrote them. 書き手。")] = None,
    to: Annotated[Path | None, typer.Option(help="A new folder for groups and drafts: imported. 出力先。")] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the folder --to. 既存のフォルダーに足す。")] = False,
    category: Annotated[str | None, typer.Option(help="Where the file names none; else guessed. カテゴリ。")] = None,
    column: Annotated[list[str] | None, typer.Option(help="What a column is: output=NAME. 列の読み替え。")] = None,
    pair_by: Annotated[str | None, typer.Option(help="Column of what belongs together, or none. 対にする列。")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of a workbook; else each visible one. シート名。")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of the text, as in cp932; else guessed. 文字コード。")] = None,
    expect: Annotated[
        Literal["ja", "zh"] | None, typer.Option(help="The language where the script is no help. 言語。")
    ] = None,
    records: Records = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write an edited export without asking. 確認を省く。")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come in. 試すだけ。")] = False,
) -> None:
    """Bring in your own data, or an edited export. 自分のデータや編集した書き出しを取り込む。"""
    from bonsai.builder.importing.columns import parse_renames
    from bonsai.builder.importing.import_file import import_file
    from bonsai.builder.importing.merge import is_export

    renamed = parse_renames(column or ())
    if to is None and not append and is_export(file):
        _merge_export(file, records or default_records_dir(), sheet=sheet, yes=yes, dry_run=dry_run)
        return
    with row_progress(f"reading {file.name}") as progress:
        imported = import_file(
            file,
            to or Path("imported"),
            source=source,
            license=license,
            generator=generator,
            category=category,
            encoding=encoding,
            expected_language=expect,
            pair_by=pair_by,
            renamed=renamed,
            sheet=sheet,
            records=records,
            append=append,
            dry_run=dry_run,
            progress=progress,
        )
    # 1. What came in.
    how = f"{imported.encoding} ({imported.encoding_rule})"
    console.print(f"{imported.rows} rows in {imported.shape} columns, {how}")
    table = Table(title=f"{len(imported.groups)} groups, {len(imported.drafts)} drafts", title_style="bold")
    table.add_column("category")
    table.add_column("groups", justify="right")
    for name, groups in imported.categories.items():
        table.add_row(name, str(groups))
    table.add_section()
    for language, rows in imported.languages.items():
        table.add_row(f"rows in {language}", str(rows))
    console.print(table)
    # 2. What was guessed and left out, and what a person still has to complete.
    for line in (*imported.notes, *imported.pairs):
        console.print(line)
    for guess, rows in imported.guesses.items():
        console.print(f"guessed {rows}x {guess} (--category names it)")
    for reason, drafts in list(imported.reasons.items())[:REASONS_SHOWN]:
        console.print(f"{drafts} {'draft' if drafts == 1 else 'drafts'}: {reason}")
    if len(imported.reasons) > REASONS_SHOWN:
        console.print(f"and {len(imported.reasons) - REASONS_SHOWN} reasons more, in drafts.jsonl")
    for draft in imported.drafts[:DRAFTS_SHOWN]:
        console.print(f"draft {', '.join(row.text.location for row in draft.rows)}: {draft.reason}")
    if len(imported.drafts) > DRAFTS_SHOWN:
        console.print(f"and {len(imported.drafts) - DRAFTS_SHOWN} drafts more")
    # 3. What was written.
    if dry_run:
        console.print("a dry run: nothing was written. 試しただけで、何も書いていません。")
    for written in imported.written:
        console.print(Text.assemble("-> ", (str(written), "bold")))
        if written.name == "drafts.jsonl" and imported.drafts:
            console.print(f"complete them there, then: bonsai import {written} --to {to or 'imported'} --append")


def _merge_export(file: Path, records: Path, *, sheet: str | None, yes: bool, dry_run: bool) -> None:
    """Show what an edited export changes, text by text, ask, and write the changed lines."""
    from bonsai.builder.importing.merge import plan_merge, write_merge

    plan = plan_merge(file, records, sheet=sheet)
    for note in plan.notes:
        console.print(note)
    for edit in plan.edits:
        console.print(
            Text.assemble((f"{edit.group_id} {edit.field}", "bold"), "\n", *word_difference(edit.old, edit.new))
        )
    count = f"{len(plan.edits)} texts of {len(plan.changes)} groups"
    if not plan.changes:
        console.print(f"nothing differs from {display_path(records)}")
    elif dry_run:
        console.print(f"{count} differ; a dry run: nothing was written. 試しただけで、何も書いていません。")
    else:
        if not yes:
            typer.confirm(f"Write {count} to {display_path(records)}? 書き込みますか。", abort=True)
        write_merge(plan, records, note=f"import {file.name}")
        console.print(f"{count} written; the other lines are as they were")


def word_difference(old: str, new: str) -> list[tuple[str, str]]:
    """Return the earlier and the later text as styled pieces, with the words that differ set off."""
    one, other = _words(old), _words(new)
    parts: dict[str, list[tuple[str, str]]] = {"- ": [], "+ ": []}
    for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for sign, piece, style in (("- ", one[a:b], "red reverse"), ("+ ", other[c:d], "green reverse")):
            parts[sign].append(("".join(piece), "dim" if tag == "equal" else style))
    return [piece for sign, pieces in parts.items() for piece in ((sign, ""), *pieces, ("\n", ""))][:-1]


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9']+|\s+|.", text, re.DOTALL)


def export(
    to: Annotated[Path, typer.Option(help="sheet.xlsx, .csv or .jsonl, to be made. 作るファイル。")],
    records: Records = None,
    language: Annotated[list[str] | None, typer.Option(help="ja, en, zh; else all. 言語。")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="A group a row, its languages side by side. 1行1組。")] = False,
) -> None:
    """Write the records as a table to edit; `bonsai import` takes it back. 編集用の表に書き出す。"""
    from bonsai.builder.importing.export_file import export_file

    exported = export_file(records or default_records_dir(), to, languages=language or (), wide=wide)
    console.print(f"{exported.groups} groups in {exported.rows} rows; edit them, then: bonsai import {to}")
    console.print(Text.assemble("-> ", (str(to), "bold")))


def check_rows(
    file: Annotated[Path, typer.Argument(help="JSONL with instruction, input, output. 調べるファイル。")],
    to: Annotated[Path, typer.Argument(help="The marked copy. 印を付けた写し。")],
    column: Annotated[list[str] | None, typer.Option(help="What a column is: output=NAME. 列の読み替え。")] = None,
) -> None:
    """Mark duplicates and languages in a file of up to millions of rows. 重複と言語に印を付ける。"""
    from bonsai.builder.importing import check_rows as checking
    from bonsai.builder.importing.columns import parse_renames

    with row_progress(f"checking {file.name}") as progress:
        checked = checking.check_rows(file, to, renamed=parse_renames(column or ()), progress=progress)
    languages = ", ".join(f"{language} {rows:,}" for language, rows in checked.languages.items())
    console.print(
        f"{checked.rows:,} rows: {checked.duplicates:,} exact and {checked.near_duplicates:,} near duplicates marked, "
        f"none dropped; {languages}"
    )
    console.print(f"compared by {', '.join(checked.columns)}; the marks are {', '.join(checked.marks)}")
    console.print(Text.assemble("-> ", (str(checked.output), "bold")))


@contextmanager
def row_progress(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show progress in rows; yields a function that takes the rows done and, once known, their total."""
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
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def findings_table(findings: Sequence[Finding], groups: int) -> Table:
    """Show how many findings there are of each check and severity."""
    from bonsai.builder.checks.run import CHECKS

    counts = Counter((finding.check, finding.severity) for finding in findings)
    table = Table(title=f"{groups} groups, {len(CHECKS) + 1} checks", title_style="bold")
    table.add_column("check")
    for severity in Severity:
        table.add_column(f"{severity.value}s", justify="right", style=_COLORS[severity])
    for name in sorted({finding.check for finding in findings}):
        table.add_row(name, *(str(counts[name, severity] or "") for severity in Severity))
    table.add_section()
    totals = Counter(finding.severity for finding in findings)
    table.add_row("all", *(str(totals[severity]) for severity in Severity))
    return table


def dataset_table(facts: DatasetFacts) -> Table:
    """Show the rows by category and language."""
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
    """Show what the groups have, how many rows are derived, and the number of probes."""
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
