"""`bonsai releases`: which there are, taking one back, and making an earlier one current."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bonsai.cli.console import OUT, Out, console
from bonsai.cli.publishing import connect
from bonsai.hub.client.destination import chosen_hub, in_namespace
from bonsai.recipes.training.registry import load_recipe

app = typer.Typer(
    help="List releases, take one back, make an earlier one current. リリースの一覧、取り下げ、差し戻し。",
    no_args_is_help=True,
)

What = Annotated[str, typer.Argument(help="'dataset' or a recipe's name. データセットかレシピ名。")]
Tag = Annotated[str, typer.Argument(help="A release, such as v0.1.0. リリースのタグ。")]


@app.command("list")
def list_(what: What, out: Out = OUT) -> None:
    """Tag, commit, date, and which of them main holds. 一覧。"""
    repo_id, repo_type = _repo(what)
    with chosen_hub(out / "hub") as destination:
        api = connect(destination, out)
        from bonsai.hub.client.releases import list_releases

        found = list_releases(api, repo_id, repo_type)
    table = Table("release", "commit", "date 日付", "", title=f"{repo_id} on {destination}", box=None)
    for release in found:
        current = "current 現行" if release.is_current else ""
        table.add_row(release.tag, release.commit[:12], f"{release.date:%Y-%m-%d %H:%M}", current)
    console.print(table if found else f"{repo_id}: no release yet. リリースはまだありません。")


@app.command()
def withdraw(
    what: What,
    tag: Tag,
    reason: Annotated[str, typer.Option(help="A sentence for the card. カードに書く理由。")],
    instead: Annotated[
        str | None, typer.Option(help="An earlier release for main, in the same commit. 代わりのリリース。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Remove a release's tag and say so on the card; its files stay in the history. 取り下げる。"""
    repo_id, repo_type = _repo(what)
    with chosen_hub(out / "hub") as destination:
        api = connect(destination, out)
        from bonsai.hub.client import releases

        commit = releases.withdraw(api, repo_id, repo_type, tag, reason=reason, instead=instead)
    put = f", main holds {instead} again" if instead else ""
    console.print(Text.assemble((repo_id, "bold"), f" {tag}: withdrawn, the card says so ({commit[:12]}){put}"))


@app.command()
def current(what: What, tag: Tag, out: Out = OUT) -> None:
    """Make main hold the files of an earlier release again, in one commit. 以前のリリースに戻す。"""
    repo_id, repo_type = _repo(what)
    with chosen_hub(out / "hub") as destination:
        api = connect(destination, out)  # before anything that imports the client, which reads then where it is
        from bonsai.hub.client.releases import make_current

        commit = make_current(api, repo_id, repo_type, tag)
    console.print(Text.assemble((repo_id, "bold"), f": main holds {tag} ({commit[:12]})"))


def _repo(what: str) -> tuple[str, str]:
    if what == "dataset":
        return in_namespace("qeu/bonsai"), "dataset"
    return in_namespace(load_recipe(what).repo_id), "model"
