"""The terminal, and the options that several commands share."""

from __future__ import annotations

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
