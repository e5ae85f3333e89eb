"""Send requests to a server a few at a time, one thread each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bonsai.recipes.inference.generation import Completion, GenerationError, GenerationRequest, OnCompletion


class RequestFailedError(GenerationError):
    """One prompt that could not be completed."""

    def __init__(self, message: str, *, for_all: bool) -> None:
        super().__init__(message)
        self.for_all = for_all
        """whether the other prompts need not be tried: the server is down, the key is wrong"""


@dataclass(frozen=True, kw_only=True)
class RequestStream:
    """A request in progress: passes its completion on as it grows, and ends it when nobody waits for it."""

    request: GenerationRequest
    lock: threading.Lock
    """of all stop checks"""
    over: threading.Event
    """set when nobody waits for the completion any more"""

    def should_stop(self, text: str) -> bool:
        """Pass on the text so far; returns True to end the completion."""
        if self.over.is_set():
            return True
        with self.lock:
            return self.request.should_stop is not None and self.request.should_stop(text)


Complete = Callable[[RequestStream], Completion]
"""Completes one request; raises `RequestFailedError` if it cannot."""
_Outcome = Completion | Exception | None


def complete_in_threads(
    name: str, requests: Sequence[GenerationRequest], on_completion: OnCompletion, complete: Complete, *, threads: int
) -> None:
    """Complete requests, and those that ``on_completion`` returns, in a few threads.

    ``on_completion`` is called in this thread, the requests' stop checks never concurrently.

    Args:
        name: the model's, for the error.

    Raises:
        GenerationError: some failed; the message says how many did not, and those have gone to ``on_completion``.
    """
    # 1. Queue the requests; None ends a thread.
    known = list(requests)
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, _Outcome]] = queue.SimpleQueue()
    over, given_up, lock = threading.Event(), threading.Event(), threading.Lock()
    for index in range(len(known)):
        waiting.put(index)

    # 2. A thread takes one after the other; after an error that concerns all, the rest is not sent.
    def work() -> None:
        while (index := waiting.get()) is not None:
            outcome: _Outcome = None
            if not given_up.is_set():
                try:
                    outcome = complete(RequestStream(request=known[index], lock=lock, over=over))
                except Exception as error:  # noqa: BLE001 - raised again in the calling thread
                    if not isinstance(error, RequestFailedError) or error.for_all:
                        given_up.set()
                    outcome = error
            ended.put((index, outcome))

    # 3. Collect the results; Ctrl-C or an error of the caller ends all of them.
    outcomes = completed = 0
    failures: list[RequestFailedError] = []
    try:
        for _ in range(threads):
            # daemons: after Ctrl-C nobody waits for a silent server
            threading.Thread(target=work, daemon=True).start()
        while outcomes < len(known):
            index, outcome = ended.get()
            outcomes += 1
            if isinstance(outcome, Completion):
                completed += 1
                for request in on_completion(index, outcome):
                    known.append(request)
                    waiting.put(len(known) - 1)
            elif isinstance(outcome, RequestFailedError):
                failures.append(outcome)
            elif outcome is not None:
                raise outcome
    finally:
        given_up.set()
        over.set()
        for _ in range(threads):
            waiting.put(None)
    if failures:
        raise GenerationError(f"{name}: {completed} of {len(known)} answers came; {failures[0]}") from failures[0]
