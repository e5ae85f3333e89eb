"""Run jobs in the background with live progress and cancellation, and check what a visitor asks for."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from bonsai.builder.errors import BonsaiError, UserInputError
from bonsai.recipes.inference.generation import Engine, GenerationRequest, OnCompletion
from bonsai.recipes.inference.labels import Labels

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


def check_length(field: str, text: str | None, most: int, labels: Labels) -> str:
    """Strip white space and check the length.

    Raises:
        UserInputError: it is too long.
    """
    text = (text or "").strip()  # a field that nobody touched holds None
    if len(text) > most:
        raise UserInputError(labels.too_long.format(field, f"{len(text):,}", f"{most:,}"))
    return text


def check_question(text: str | None, labels: Labels) -> str:
    """Check that a question is neither empty nor too long.

    Raises:
        UserInputError: it is empty or too long.
    """
    text = check_length(labels.question, text, LONGEST_QUESTION, labels)
    if not text:
        raise UserInputError(labels.empty)
    return text


def parse_questions(text: str | None, labels: Labels) -> list[str]:
    """Read one question a line.

    Raises:
        UserInputError: there is none, or there are too many, or one is too long.
    """
    found = [line for line in (text or "").splitlines() if line.strip()]
    if not found:
        raise UserInputError(labels.empty)
    if len(found) > MOST_QUESTIONS:
        raise UserInputError(labels.too_many.format(len(found), MOST_QUESTIONS))
    return [check_question(line, labels) for line in found]


def error_message(error: Exception, labels: Labels) -> str:
    """Write what a visitor reads of an error; one that is not meant for visitors goes to the log under a number."""
    if isinstance(error, BonsaiError):
        return str(error)
    number = secrets.token_hex(3)
    _log.error("demo, record %s", number, exc_info=error)
    return labels.broken.format(number)


Shown = TypeVar("Shown")

REFRESH_SECONDS = 0.15
"""seconds between two snapshots of a growing answer"""


class RunCancelledError(Exception):
    """The visitor has stopped the work, has left, or has had the model long enough."""


class ActiveRuns:
    """Keep the running jobs by session, so that a button, a new run or leaving can stop them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[str, threading.Event] = {}

    def begin(self, session: str) -> threading.Event:
        """Register a new run and stop an earlier one of this visitor; setting the returned event stops the new one."""
        stop = threading.Event()
        with self._lock:
            earlier = self._stops.get(session)
            self._stops[session] = stop
        if earlier is not None:
            earlier.set()
        return stop

    def stop(self, session: str) -> None:
        """Stop this visitor's run, if there is one."""
        with self._lock:
            stop = self._stops.pop(session, None)
        if stop is not None:
            stop.set()

    def stop_all(self) -> None:
        """Stop all runs."""
        with self._lock:
            stops, self._stops = list(self._stops.values()), {}
        for stop in stops:
            stop.set()


@dataclass(frozen=True)
class CancellableEngine(Engine):
    """An engine under the name a visitor knows it by, which checks at each token whether its run was cancelled."""

    name: str
    engine: Engine
    check_cancelled: Callable[[], None]
    """raises `RunCancelledError` if the run was stopped, or took too long"""

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        """Complete as the engine does, until the run is cancelled."""
        self.check_cancelled()
        self.engine.complete(
            self._watched(requests), lambda index, completion: self._watched(on_completion(index, completion))
        )

    def _watched(self, requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
        def should_stop(request: GenerationRequest, text: str) -> bool:
            self.check_cancelled()
            return request.should_stop is not None and request.should_stop(text)

        return [request._replace(should_stop=partial(should_stop, request)) for request in requests]


class BackgroundStream(Generic[Shown]):
    """Run ``work`` in a thread and iterate over the newest snapshot it shows; what it raises is raised here.

    ``work`` is given the engine to ask and a function that shows a snapshot; both raise `RunCancelledError` when the
    work is to end. Cancelled work ends the iteration as if it were done.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        work: Callable[[Engine, Callable[[Shown], None]], None],
        stop: threading.Event,
    ) -> None:
        self._engine = CancellableEngine(name, engine, self._check_cancelled)
        self._work = work
        self._stop = stop
        self._until = time.monotonic() + SECONDS
        self._shown: queue.SimpleQueue[Shown] = queue.SimpleQueue()
        self._failed: Exception | None = None
        self._is_over = False
        """whether the iteration has ended, so that the work must too"""
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

    def _check_cancelled(self) -> None:
        if self._is_over or self._stop.is_set() or time.monotonic() > self._until:
            raise RunCancelledError

    def _show(self, snapshot: Shown) -> None:
        self._check_cancelled()
        self._shown.put(snapshot)

    def _run(self) -> None:
        try:
            self._work(self._engine, self._show)
        except RunCancelledError:
            self.was_stopped = True
        except Exception as error:  # noqa: BLE001 - raised again by the iteration
            self._failed = error

    def _newest(self) -> Iterator[Shown]:
        last: list[Shown] = []
        while not self._shown.empty():
            last = [self._shown.get()]
        yield from last
