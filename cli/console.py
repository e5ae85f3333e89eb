"""The terminal, and the options that several commands share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

from bonsai.cli.entry_point import abandon_stdout

LOG_WIDTH = 120
"""columns of a log; Rich would take 80, too few for the tables"""


class Terminal(Console):
    """A console that prints text as it is: no markup, no emoji, and in a pipe no line broken.

    Rich reads ``[v2]`` in a path as a style and drops it, ``[/b]`` as the end of one and fails, and ``:100:`` as an
    emoji. Style is given beside the text instead: ``Text.assemble("-> ", (path, "bold"))``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        self.outlives_reader = False
        """whether the work goes on, in silence, when nobody reads or no room is left for what is printed"""
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = LOG_WIDTH

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, as `rich.console.Console.print` does.

        In a pipe, a line of text stays one line, so that other programs find the places in it, and a table is not cut.
        """
        if not self.is_terminal:
            # trees and panels are laid out to the width, and would lose what does not fit if nothing may wrap
            options.setdefault("soft_wrap", all(isinstance(one, str | Text) for one in objects))
            if any(isinstance(one, Table) for one in objects):
                options.setdefault("crop", False)
        super().print(*objects, **options)

    def __exit__(self, *raised: Any) -> None:
        """Write what was collected; print, spinners and bars all come through here."""
        try:
            super().__exit__(*raised)
        except OSError:
            if not self.outlives_reader:
                raise
            self.quiet = True
            abandon_stdout()

    def on_broken_pipe(self) -> None:
        """Whoever read the output is gone (``| head -1``): Rich would end the command, whatever it is in the middle of.

        Raises:
            BrokenPipeError: which ends it here too, unless the work outlives its reader.
        """
        self.quiet = True
        raise BrokenPipeError

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A spinner with a text, which Rich's own would take for markup whatever the console says."""
        return _PlainStatus(Text(status) if isinstance(status, str) else status, console=self, **options)


class _PlainStatus(Status):
    def update(self, status: RenderableType | None = None, **options: Any) -> None:
        super().update(Text(status) if isinstance(status, str) else status, **options)


console = Terminal()

Out = Annotated[Path, typer.Option("--out", help="Where everything is made. 出力先。")]
OUT = Path("out")

STAGES = "BONSAI_STAGES"
"""environment variable: the file in which nox looks for what parts of a command took"""


def note_stage(name: str, seconds: float) -> None:
    """Tell nox, if it asks, how long a part of this command took."""
    if path := os.environ.get(STAGES):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, seconds]) + "\n")
