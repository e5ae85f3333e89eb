"""Send prompts to a server a few at a time, one thread each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bonsai.recipes.inference.generation import Completion, GenerationError, OnAnswer, StopCheck


class RequestFailedError(GenerationError):
    """One prompt that could not be completed."""

    def __init__(self, message: str, *, for_all: bool) -> None:
        super().__init__(message)
        self.for_all = for_all
        """whether the other prompts need not be tried: the server is down, the key is wrong"""


@dataclass(frozen=True, kw_only=True)
class StreamObserver:
    """Pass on one completion as it grows, and end it when nobody waits for it."""

    index: int
    watch: StopCheck | None
    watch_lock: threading.Lock
    over: threading.Event
    """set when nobody waits for the completion any more"""

    def should_stop(self, text: str) -> bool:
        """Pass on the text so far; returns True to end the completion."""
        if self.over.is_set():
            return True
        with self.watch_lock:
            return self.watch is not None and self.watch(self.index, text)


Complete = Callable[[str, StreamObserver], Completion]
"""Completes one prompt; raises `RequestFailedError` if it cannot."""
_Outcome = Completion | Exception | None


def complete_in_threads(
    name: str,
    prompts: Sequence[str],
    complete: Complete,
    *,
    threads: int,
    on_answer: OnAnswer | None,
    watch: StopCheck | None,
) -> list[Completion]:
    """Complete prompts in a few threads; results keep the order of the prompts.

    ``on_answer`` is called in this thread, ``watch`` never concurrently.

    Args:
        name: the model's, for the error.

    Raises:
        GenerationError: some prompts failed; the message says how many did not, and those have gone to ``on_answer``.
    """
    # 1. Queue the prompts.
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, _Outcome]] = queue.SimpleQueue()
    over, given_up, watch_lock = threading.Event(), threading.Event(), threading.Lock()
    for index in range(len(prompts)):
        waiting.put(index)

    # 2. A thread takes one after the other; after an error that concerns all, the rest is not sent.

    def work() -> None:
        while True:
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            outcome: _Outcome = None
            if not given_up.is_set():
                observer = StreamObserver(index=index, watch=watch, watch_lock=watch_lock, over=over)
                try:
                    outcome = complete(prompts[index], observer)
                except Exception as error:  # noqa: BLE001 - raised again in the calling thread
                    if not isinstance(error, RequestFailedError) or error.for_all:
                        given_up.set()
                    outcome = error
            ended.put((index, outcome))

    # 3. Collect the results; Ctrl-C or an error of the caller ends all of them.
    done: dict[int, Completion] = {}
    failures: list[RequestFailedError] = []
    try:
        for _ in range(min(threads, len(prompts))):
            # daemons: after Ctrl-C nobody waits for a silent server
            threading.Thread(target=work, daemon=True).start()
        for _ in prompts:
            index, outcome = ended.get()
            if isinstance(outcome, Completion):
                done[index] = outcome
                if on_answer is not None:
                    on_answer(index, outcome)
            elif isinstance(outcome, RequestFailedError):
                failures.append(outcome)
            elif outcome is not None:
                raise outcome
    finally:
        given_up.set()
        over.set()
    if failures:
        raise GenerationError(f"{name}: {len(done)} of {len(prompts)} answers came; {failures[0]}") from failures[0]
    return [done[index] for index in range(len(prompts))]
