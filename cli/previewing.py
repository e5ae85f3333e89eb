"""`bonsai publish --dry-run`: the exact tree, what is new in it, and the card before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bonsai.builder.release import Release
    from bonsai.hub.client.preview import Preview

_SIGNS = {"added": Text("+", "green"), "changed": Text("~", "yellow"), "removed": Text("-", "red")}


def show(api: HfApi, releases: Sequence[Release], console: Console) -> None:
    """Print what each release would do; only questions go to the Hub."""
    from bonsai.hub.client.preview import preview

    for one in releases:
        _print(preview(api, repo_id=one.repo_id, repo_type=one.repo_type, files=one.files, tag=one.tag), console)


def _print(plan: Preview, console: Console) -> None:
    table = Table(title=f"{plan.repo_id} {plan.tag}", title_justify="left", box=None)
    table.add_column("")
    # in a log a path stays whole, however long
    widest = None if console.is_terminal else max((cell_len(file.path) for file in plan.files), default=None)
    table.add_column("file ファイル", min_width=widest, no_wrap=widest is not None)
    table.add_column("bytes", justify="right")
    for file in plan.files:
        table.add_row(_SIGNS.get(file.state, " "), Text(file.path), f"{file.size:,}")
    console.print(table)
    counts = ", ".join(
        f"{number} {state}" for state in _SIGNS if (number := sum(file.state == state for file in plan.files))
    )
    console.print(f"main: {plan.head or 'no such repo yet'}; {counts or 'nothing would change'}; {plan.sent:,} bytes")
    if plan.tagged:
        console.print(f"{plan.tag} is at {plan.tagged} already")
    for line in plan.card.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        console.print(line, style=colour, soft_wrap=True)
    console.print()
