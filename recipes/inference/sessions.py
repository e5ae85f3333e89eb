"""Run many conversations concurrently over one engine.

A session is a generator: it yields requests, is sent their completions, and returns its result. Its requests join those
in progress at once, so no session waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from bonsai.recipes.inference.generation import Completion, Engine, GenerationRequest

T = TypeVar("T")
Session = Generator[Sequence[GenerationRequest], Sequence[Completion], T]
OnEnd = Callable[[int, T], None]
"""Called with the index of a session and its result as soon as it has ended."""


def run_sessions(engine: Engine, sessions: Sequence[Session[T]], on_end: OnEnd[T] | None = None) -> list[T]:
    """Run all sessions to completion and return their results in order.

    Raises:
        GenerationError: a prompt cannot be asked, or the model cannot.
    """
    results: dict[int, T] = {}
    received: dict[int, dict[int, Completion]] = {}
    expected: dict[int, int] = {}

    owners: list[tuple[int, int]] = []
    """of each request, in the engine's order: its session, and its number among those the session yielded with it"""

    def advance(number: int, completions: Sequence[Completion] | None) -> Sequence[GenerationRequest]:
        """Return the session's next requests; none if it has ended."""
        try:
            requests = next(sessions[number]) if completions is None else sessions[number].send(completions)
        except StopIteration as end:
            results[number] = end.value
            if on_end is not None:
                on_end(number, end.value)
            return ()
        received[number], expected[number] = {}, len(requests)
        owners.extend((number, nth) for nth in range(len(requests)))
        return requests

    def receive(index: int, completion: Completion) -> Sequence[GenerationRequest]:
        """Keep a completion; the last that its session waits for advances it."""
        number, nth = owners[index]
        received[number][nth] = completion
        if len(received[number]) < expected[number]:
            return ()
        return advance(number, [received[number][each] for each in range(expected[number])])

    if first := [request for number in range(len(sessions)) for request in advance(number, None)]:
        engine.complete(first, receive)
    return [results[number] for number in range(len(sessions))]


def gather(sessions: Sequence[Session[T]]) -> Session[list[T]]:
    """Combine sessions into one, which yields at a time what all of them wait for; as `asyncio.gather`."""
    results: dict[int, T] = {}
    completions: dict[int, Sequence[Completion] | None] = dict.fromkeys(range(len(sessions)))
    while completions:
        waiting: dict[int, Sequence[GenerationRequest]] = {}
        for number, received in completions.items():
            try:
                waiting[number] = next(sessions[number]) if received is None else sessions[number].send(received)
            except StopIteration as end:
                results[number] = end.value
        if not waiting:
            break
        flat = iter((yield [request for requests in waiting.values() for request in requests]))
        completions = {number: [next(flat) for _ in requests] for number, requests in waiting.items()}
    return [results[number] for number in range(len(sessions))]
