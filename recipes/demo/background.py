"""Run jobs in the background with live progress and cancellation, and check what a visitor asks for."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from bonsai.builder.errors import BonsaiError, UserInputError
from bonsai.recipes.inference.generation import Completion, Engine, GenerationSettings, OnAnswer, StopCheck
from bonsai.recipes.inference.labels import DemoLabels

LONGEST_QUESTION = 500
LONGEST_MATERIAL = 2_000
LONGEST_PERSONA = 200
"""characters; with an answer they fit the 2,048 tokens of Phi-2, at 1.6 tokens a character of Japanese"""
LONGEST_SEARCH = 100
MOST_QUESTIONS = 5
MOST_SAMPLES = 3
DEEPEST = 9
"""steps"""
SECONDS = 600.0
"""that one visitor may keep the model busy at a stretch"""
WAITING = 20
"""visitors in the queue; the next is told that it is crowded"""
MOST_BYTES = 100_000
"""of one request: the fields above and what gradio adds"""

_log = logging.getLogger(__name__)


def check_length(field: str, text: str | None, most: int, said: DemoLabels) -> str:
    """The text without white space around it.

    Raises:
        VisitorError: it is too long.
    """
    text = (text or "").strip()  # a field that nobody touched holds None
    if len(text) > most:
        raise UserInputError(said.too_long.format(field, f"{len(text):,}", f"{most:,}"))
    return text


def check_question(text: str | None, said: DemoLabels) -> str:
    """A question of a length that can be asked.

    Raises:
        VisitorError: it is empty or too long.
    """
    text = check_length(said.question, text, LONGEST_QUESTION, said)
    if not text:
        raise UserInputError(said.empty)
    return text


def parse_questions(text: str | None, said: DemoLabels) -> list[str]:
    """The questions of several lines.

    Raises:
        VisitorError: there is none, or there are too many, or one is too long.
    """
    found = [line for line in (text or "").splitlines() if line.strip()]
    if not found:
        raise UserInputError(said.empty)
    if len(found) > MOST_QUESTIONS:
        raise UserInputError(said.too_many.format(len(found), MOST_QUESTIONS))
    return [check_question(line, said) for line in found]


def error_message(error: Exception, said: DemoLabels) -> str:
    """What a visitor reads of an error; one that is not meant for visitors goes to the log under a number."""
    if isinstance(error, BonsaiError):
        return str(error)
    number = secrets.token_hex(3)
    _log.error("demo, record %s", number, exc_info=error)
    return said.broken.format(number)


Shown = TypeVar("Shown")

REFRESH_SECONDS = 0.15
"""seconds between two pictures of a growing answer"""


class RunCancelledError(Exception):
    """The visitor has stopped the work, has left, or has had the model long enough."""


class ActiveRuns:
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


class CancellableEngine:
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
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        """As the engine does, unless it is stopped.

        Raises:
            StoppedError: it is.
        """

        def watching(place: int, text: str) -> bool:
            self._go_on()
            return watch is not None and watch(place, text)

        self._go_on()
        return self._engine.generate(prompts, decoder, on_answer=on_answer, watch=watching)


class BackgroundStream(Generic[Shown]):
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
        self._engine = CancellableEngine(name, engine, self._go_on)
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
                thread.join(REFRESH_SECONDS)
                yield from self._newest()
            yield from self._newest()
        finally:
            self._is_over = True
            thread.join()
        if self._failed is not None:
            raise self._failed

    def _go_on(self) -> None:
        if self._is_over or self._stop.is_set() or time.monotonic() > self._until:
            raise RunCancelledError

    def _show(self, snapshot: Shown) -> None:
        self._go_on()
        self._shown.put(snapshot)

    def _run(self) -> None:
        try:
            self._work(self._engine, self._show)
        except RunCancelledError:
            self.was_stopped = True
        except Exception as error:  # noqa: BLE001 - raised again where the iteration is
            self._failed = error

    def _newest(self) -> Iterator[Shown]:
        last: list[Shown] = []
        while not self._shown.empty():
            last = [self._shown.get()]
        yield from last
