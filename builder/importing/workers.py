"""Processes that work through a list in order and go when their parent goes, even if it was killed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Protocol, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Workers(Protocol):
    """Like ``map``: results in the order of the pieces."""

    def __call__(self, work: Callable[[Piece], Result], pieces: Iterable[Piece], /) -> Iterator[Result]:
        """Do ``work`` on each piece."""
        ...


@contextmanager
def workers(processes: int) -> Iterator[Workers]:
    """A team of so many processes; with 1, the calling process. An error cancels what hasn't begun."""
    if processes == 1:
        yield map
        return
    # Spawned, not forked: a fork of a process with threads (a web page, torch) may hang.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_go_with_the_parent)
    try:
        yield pool.map
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _go_with_the_parent() -> None:
    """A killed parent closes no queue, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
