"""How far models are with their answers."""

from __future__ import annotations

import contextlib

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars(contextlib.AbstractContextManager["Bars"]):
    """A bar for each of them on a terminal; in a log file a line every quarter of the way."""

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

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def tell(self, name: str, done: int, total: int) -> None:
        """So many of its answers are there; told for the first time, they are from an earlier run."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
            if done:
                self._console.print(f"{name}: {done} of {total} answers are kept from an earlier run")
        elif not self._console.is_terminal and (done % max(1, total // 4) == 0 or done == total):
            self._console.print(f"{name} {done}/{total}")
        self._progress.update(self._tasks[name], completed=done)
