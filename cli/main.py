"""The `bonsai` command: what the nox sessions run. Each command is one function, registered here in help order."""

from __future__ import annotations

if __name__ == "__main__":  # before anything that may be missing, or be interrupted, is imported
    from bonsai.cli.entry_point import main

    main()

import importlib.metadata
import platform
from pathlib import Path
from typing import Annotated

import typer

from bonsai.cli.ask import ask
from bonsai.cli.common import console
from bonsai.cli.compare import compare
from bonsai.cli.dataset import build, check, check_rows, export, import_
from bonsai.cli.demo import demo
from bonsai.cli.diff import diff
from bonsai.cli.entry_point import hide_unused_packages, rest_waiting_threads
from bonsai.cli.entry_point import main as main
from bonsai.cli.evaluate import evaluate
from bonsai.cli.hub import hub
from bonsai.cli.plan import plan
from bonsai.cli.publish import app as releases
from bonsai.cli.publish import publish
from bonsai.cli.qtq import qtq
from bonsai.cli.tend import tend
from bonsai.cli.train import train

# torch reads the settings of its threads when it is imported, which a command does only once it runs
hide_unused_packages()
rest_waiting_threads()

app = typer.Typer(
    help="BONSAI 盆栽: a small dataset and the adapters grown from it.\n\n"
    "データセットを作り、アダプターを育て、公開します。",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def print_versions(wanted: bool) -> None:
    """Print which installation this is and what it computes with, and exit."""
    if not wanted:
        return
    for name in ("qeu-bonsai", "torch", "transformers", "peft", "trl", "datasets", "huggingface_hub"):
        try:
            version = importlib.metadata.version(name)  # imports nothing: what is broken is to be shown too
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        if name == "qeu-bonsai":
            version += f" from {Path(__file__).resolve().parents[1]}, Python {platform.python_version()}"
        console.print(f"{name} {version}")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_versions, help="Show versions and exit. バージョン。"),
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


app.command()(build)
app.command()(check)
app.command()(tend)
app.command()(diff)
app.command("import")(import_)
app.command()(export)
app.command("check-rows")(check_rows)
app.command()(train)
app.command()(evaluate)
app.command()(plan)
app.command()(publish)
app.command()(hub)
app.add_typer(releases, name="releases")

# typer lists groups after commands; a group without a name keeps these below `releases`
talking = typer.Typer()
talking.command()(ask)
talking.command()(qtq)
talking.command()(compare)
talking.command()(demo)
app.add_typer(talking)
