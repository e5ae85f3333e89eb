"""Implement `bonsai diff`: what changed between two versions of the dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bonsai.builder.files import atomic_write_text
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.cli.common import OUT, Out, Records, console, quiet_libraries
from bonsai.hub.target import resolve_hub, with_namespace

RECORDS = "."
"""the version that is not released yet"""
GROUPS_SHOWN = 10
_STYLES = {"same": "", "removed": "red strike", "added": "green"}


def diff(
    before: Annotated[str, typer.Argument(help="A release, such as v0.1.0. 以前の版。")],
    after: Annotated[str, typer.Argument(help="A later one, or . for the records as they are. 後の版。")] = RECORDS,
    records: Records = None,
    to: Annotated[Path | None, typer.Option(help="Where page and JSON go. 書き出し先。")] = None,
    out: Out = OUT,
) -> None:
    """Show what changed since a release: as a table, a page and JSON. 版の違いを表示する。"""
    quiet_libraries()
    from bonsai.builder.changes import (
        KINDS,
        changes_html,
        changes_json,
        compare_versions,
        rows_of_records,
        rows_of_release,
    )
    from bonsai.cli.publish import hub_client

    # 1. Read both versions: a release from the Hub that HF_TOKEN decides on, or the records.
    repo_id = with_namespace("qeu/bonsai")
    groups = read_groups(records or default_records_dir()) if RECORDS in (before, after) else []
    with console.status("reading both versions"):
        rows = {name: rows_of_records(groups) for name in {before, after} if name == RECORDS}
        if others := {before, after} - {RECORDS}:
            with resolve_hub(out / "hub") as target:
                api = hub_client(target, out)
                rows |= {name: rows_of_release(api, repo_id, name) for name in sorted(others)}
        names = tuple("the records" if name == RECORDS else name for name in (before, after))
        found = compare_versions(rows[before], rows[after], names=(names[0], names[1]))

    # 2. Print the counts, and the first changed groups word by word.
    table = Table("rows 行", title=f"{found.before} → {found.after}", title_justify="left")
    for heading in ("added 追加", "changed 変更", "removed 削除", "unchanged 不変"):
        table.add_column(heading, justify="right")
    for language, counted in found.counts().items():
        table.add_row(language, *(str(counted[kind]) for kind in (*KINDS, "unchanged")))
    console.print(table)
    by_group = found.groups()
    changed = [rows for kind, rows in by_group.values() if kind == "changed"]
    for members in changed[:GROUPS_SHOWN]:
        for row in members:
            for field in row.fields:
                text = Text.assemble((f"{row.id} {field.name}: ", "bold"))
                for state, piece in field.words():
                    shown = {"removed": f"[-{piece}-]", "added": f"{{+{piece}+}}"}.get(state, piece)
                    text.append(shown, _STYLES[state])
                console.print(text, soft_wrap=True)
    if len(changed) > GROUPS_SHOWN:
        console.print(f"and {len(changed) - GROUPS_SHOWN} changed groups more")

    # 3. Write the page and the JSON, which have all of them.
    folder = to or out / "changes"
    name = f"{before}-to-{'records' if after == RECORDS else after}".replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / f"{name}.html", changes_html(found))
    atomic_write_text(folder / f"{name}.json", json.dumps(changes_json(found), ensure_ascii=False, indent=1) + "\n")
    numbers = ", ".join(f"{sum(kind == one for kind, _ in by_group.values())} {one}" for one in KINDS)
    console.print(Text.assemble(f"groups: {numbers} -> ", (str(folder / f"{name}.html"), "bold"), " (and .json)"))
