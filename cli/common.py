"""What every command shares: the terminal, options, and how the libraries are kept quiet.

Commands import heavy libraries (torch, transformers, gradio, and the Hub's client) inside their functions, for three
reasons: `bonsai --help` answers at once; a machine without torch can build, check, publish and ask a model elsewhere;
and the libraries read their settings at import, so a command must first have silenced them (`quiet_libraries`) and
chosen a Hub (`bonsai.cli.hub.local_hub_for`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from bonsai.cli.errors import abandon_stdout


def quiet_libraries() -> None:
    """Silence the libraries' own progress bars and warnings, which would run into ours.

    Call this before the libraries are imported: that is when they read most of it. Nothing is imported here, for a
    model behind an address needs none of them.
    """
    os.environ |= {
        "TQDM_DISABLE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it recommends a package for inference
    # trl 1.16 and peft 0.21 cause this one on transformers 5.23; it is theirs to mend
    warnings.filterwarnings("ignore", ".*gradient_checkpointing. is deprecated", FutureWarning)


LOG_WIDTH = 120
"""columns of a log; Rich's own 80 are too few for the tables"""


class Terminal(Console):
    """A console that prints text as it is: no markup, no emoji, and in a pipe no line broken.

    Rich reads ``[v2]`` in a path as a style and drops it, ``[/b]`` as the end of one and fails, and ``:100:`` as an
    emoji. Style is given beside the text instead: ``Text.assemble("-> ", (path, "bold"))``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        self.outlives_reader = False
        """whether the work continues in silence when nobody reads the output or the disk it goes to is full"""
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = LOG_WIDTH

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, as `rich.console.Console.print` does.

        In a pipe a line of text stays one line, so that other programs find paths in it, and a table is not cropped.
        """
        if not self.is_terminal:
            # trees and panels are laid out to the width, and would lose what does not fit if nothing may wrap
            options.setdefault("soft_wrap", all(isinstance(item, str | Text) for item in objects))
            if any(isinstance(item, Table) for item in objects):
                options.setdefault("crop", False)
        super().print(*objects, **options)

    def __exit__(self, *raised: Any) -> None:
        """Write what was collected; `print`, spinners and bars all come through here."""
        try:
            super().__exit__(*raised)
        except OSError:
            if not self.outlives_reader:
                raise
            self.quiet = True
            abandon_stdout()

    def on_broken_pipe(self) -> None:
        """Handle a reader that is gone (``| head -1``), at which Rich would end the command whatever it is doing.

        Raises:
            BrokenPipeError: `__exit__` swallows it if the work outlives its reader.
        """
        self.quiet = True
        raise BrokenPipeError

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show a spinner with a text, which Rich's own would take for markup whatever the console says."""
        return PlainStatus(status, console=self, **options)


class PlainStatus(Status):
    """A spinner whose text is no markup."""

    def __init__(self, status: RenderableType, **options: Any) -> None:
        super().__init__(Text(status) if isinstance(status, str) else status, **options)

    def update(self, status: RenderableType | None = None, **options: Any) -> None:
        """Change the text, as `rich.status.Status.update` does."""
        super().update(Text(status) if isinstance(status, str) else status, **options)


console = Terminal()

OUT = Path("out")
Out = Annotated[Path, typer.Option("--out", help="Where everything is made. 出力先。")]
Records = Annotated[Path | None, typer.Option(help="Folder of *.jsonl records. レコードのフォルダー。")]
DecoderName = Annotated[str, typer.Option("--decoder", help="greedy, or post: the posts' settings. 生成の設定。")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Tokens of an answer at most. 回答の最大トークン数。")]

STAGES = "BONSAI_STAGES"
"""environment variable: the file in which nox looks for how long the parts of a command took"""


def note_stage(name: str, seconds: float) -> None:
    """Tell nox, if it asks, how long a part of this command took."""
    if path := os.environ.get(STAGES):
        with Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps([name, seconds]) + "\n")


class AnswerProgress(contextlib.AbstractContextManager["AnswerProgress"]):
    """Progress of answering models: a bar each on a terminal, in a log a line every quarter of the way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> AnswerProgress:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def update(self, name: str, done: int, total: int) -> None:
        """Report how many answers of a model there are; the first report counts those of an earlier run."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
            if done:
                self._console.print(f"{name}: {done} of {total} answers are kept from an earlier run")
        elif not self._console.is_terminal and (done % max(1, total // 4) == 0 or done == total):
            self._console.print(f"{name} {done}/{total}")
        self._progress.update(self._tasks[name], completed=done)
