"""Work in the background that shows how far it is, and that a visitor may stop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from bonsai.recipes.inference.demo.limits import SECONDS
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Engine, Generation, OnAnswer, Watch

Shown = TypeVar("Shown")

EVERY = 0.15
"""seconds between two pictures of a growing answer"""


class StoppedError(Exception):
    """The visitor has stopped the work, has left, or has had the model long enough."""


class Visitors:
    """Who has something running, by session, so that a button, a new run or leaving can stop it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[str, threading.Event] = {}

    def begins(self, session: str) -> threading.Event:
        """The switch of a new run; an earlier one of this visitor is stopped."""
        stop = threading.Event()
        with self._lock:
            earlier = self._stops.get(session)
            self._stops[session] = stop
        if earlier is not None:
            earlier.set()
        return stop

    def stop(self, session: str) -> None:
        """Stop what this visitor has running, if anything."""
        with self._lock:
            stop = self._stops.pop(session, None)
        if stop is not None:
            stop.set()

    def stop_all(self) -> None:
        """Stop what anybody has running."""
        with self._lock:
            stops, self._stops = list(self._stops.values()), {}
        for stop in stops:
            stop.set()


class Interruptible:
    """An engine under the name a visitor knows it by, which looks after each token whether it is still wanted."""

    def __init__(self, name: str, engine: Engine, go_on: Callable[[], None]) -> None:
        self._name = name
        self._engine = engine
        self._go_on = go_on

    @property
    def name(self) -> str:
        """The visitor's."""
        return self._name

    def generate(
        self,
        prompts: Sequence[str],
        decoder: Decoder,
        *,
        on_answer: OnAnswer | None = None,
        watch: Watch | None = None,
    ) -> list[Generation]:
        """As the engine does, unless it is stopped.

        Raises:
            StoppedError: it is.
        """

        def watching(place: int, text: str) -> bool:
            self._go_on()
            return watch is not None and watch(place, text)

        self._go_on()
        return self._engine.generate(prompts, decoder, on_answer=on_answer, watch=watching)


class Snapshots(Generic[Shown]):
    """Iterates over what ``work`` shows while it runs in a thread, the newest each time, and raises what it raised.

    ``work`` is given the engine to ask and a function that shows a snapshot; both raise `StoppedError` when the work is
    to end. Stopped work ends the iteration as if it were done.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        work: Callable[[Engine, Callable[[Shown], None]], None],
        stop: threading.Event,
    ) -> None:
        self._engine = Interruptible(name, engine, self._go_on)
        self._work = work
        self._stop = stop
        self._until = time.monotonic() + SECONDS
        self._shown: queue.SimpleQueue[Shown] = queue.SimpleQueue()
        self._failed: Exception | None = None
        self._is_over = False
        """nobody looks any more"""
        self.was_stopped = False

    def __iter__(self) -> Iterator[Shown]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(EVERY)
                yield from self._newest()
            yield from self._newest()
        finally:
            self._is_over = True
            thread.join()
        if self._failed is not None:
            raise self._failed

    def _go_on(self) -> None:
        if self._is_over or self._stop.is_set() or time.monotonic() > self._until:
            raise StoppedError

    def _show(self, snapshot: Shown) -> None:
        self._go_on()
        self._shown.put(snapshot)

    def _run(self) -> None:
        try:
            self._work(self._engine, self._show)
        except StoppedError:
            self.was_stopped = True
        except Exception as error:  # noqa: BLE001 - raised again where the iteration is
            self._failed = error

    def _newest(self) -> Iterator[Shown]:
        last: list[Shown] = []
        while not self._shown.empty():
            last = [self._shown.get()]
        yield from last
