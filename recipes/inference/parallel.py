"""Send prompts to a server a few at a time, one thread each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bonsai.recipes.inference.generation import Completion, GenerationError, OnAnswer, StopCheck


class RequestFailedError(GenerationError):
    """One prompt that got no answer."""

    def __init__(self, said: str, *, for_all: bool) -> None:
        super().__init__(said)
        self.for_all = for_all
        """whether the others need not be tried: the server is down, the key is wrong"""


@dataclass(frozen=True, kw_only=True)
class StreamObserver:
    """Who hears one answer grow."""

    place: int
    watch: StopCheck | None
    one_at_a_time: threading.Lock
    over: threading.Event
    """set when nobody waits for the answer any more"""

    def should_stop(self, text: str) -> bool:
        """Tell the text so far; True: it goes no further."""
        if self.over.is_set():
            return True
        with self.one_at_a_time:
            return self.watch is not None and self.watch(self.place, text)


Complete = Callable[[str, StreamObserver], Completion]
_Outcome = Completion | Exception | None


def complete_in_threads(
    name: str,
    prompts: Sequence[str],
    speak: Complete,
    *,
    threads: int,
    on_answer: OnAnswer | None,
    watch: StopCheck | None,
) -> list[Completion]:
    """The answers, in the order of the prompts; ``on_answer`` is called in this thread, ``watch`` never twice at once.

    Args:
        name: the model's, for the error.
        speak: answers one prompt, or raises `UnansweredError`.

    Raises:
        GenerationError: some prompts have no answer; it says how many have, and those were told to ``on_answer``.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, _Outcome]] = queue.SimpleQueue()
    over, given_up, one_at_a_time = threading.Event(), threading.Event(), threading.Lock()
    for place in range(len(prompts)):
        waiting.put(place)

    def work() -> None:
        while True:
            try:
                place = waiting.get_nowait()
            except queue.Empty:
                return
            outcome: _Outcome = None
            if not given_up.is_set():
                listener = StreamObserver(place=place, watch=watch, one_at_a_time=one_at_a_time, over=over)
                try:
                    outcome = speak(prompts[place], listener)
                except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
                    if not isinstance(error, RequestFailedError) or error.for_all:
                        given_up.set()
                    outcome = error
            ended.put((place, outcome))

    done: dict[int, Completion] = {}
    failures: list[RequestFailedError] = []
    try:
        for _ in range(min(threads, len(prompts))):
            # a daemon: whoever presses Ctrl-C does not wait for a server that is silent
            threading.Thread(target=work, daemon=True).start()
        for _ in prompts:
            place, outcome = ended.get()
            if isinstance(outcome, Completion):
                done[place] = outcome
                if on_answer is not None:
                    on_answer(place, outcome)
            elif isinstance(outcome, RequestFailedError):
                failures.append(outcome)
            elif outcome is not None:
                raise outcome
    finally:
        given_up.set()
        over.set()
    if failures:
        raise GenerationError(f"{name}: {len(done)} of {len(prompts)} answers came; {failures[0]}") from failures[0]
    return [done[place] for place in range(len(prompts))]
