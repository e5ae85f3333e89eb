"""The terminal, and the options that several commands share."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

LOG_WIDTH = 120
"""columns of a log; Rich would take 80, too few for the tables"""
console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LOG_WIDTH)

Out = Annotated[Path, typer.Option("--out", help="Where everything is made. 出力先。")]
OUT = Path("out")

STAGES = "BONSAI_STAGES"
"""environment variable: the file in which nox looks for what parts of a command took"""


def note_stage(name: str, seconds: float) -> None:
    """Tell nox, if it asks, how long a part of this command took."""
    if path := os.environ.get(STAGES):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, seconds]) + "\n")
