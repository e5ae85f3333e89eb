"""Run many conversations concurrently over one engine.

A session is a generator: it yields requests, is sent their completions, and returns its result. On an engine that takes
new prompts while others are still in progress, no session waits for another; on any other engine, the requests of all
waiting sessions are sent together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from bonsai.recipes.inference.generation import Completion, Engine, GenerationRequest

T = TypeVar("T")
Session = Generator[Sequence[GenerationRequest], Sequence[Completion], T]
OnEnd = Callable[[int, T], None]
"""Called with the index of a session and its result as soon as it has ended."""

OnCompletion = Callable[[int, Completion], Sequence[GenerationRequest]]
"""Called with the index of a request and its completion; returns further requests, whose indexes follow."""

_Key = tuple[int, int]
"""of a request: its session, and its number among those the session yielded with it"""


@runtime_checkable
class ContinuousEngine(Protocol):
    """An engine that accepts new prompts while others are in progress."""

    def generate_continuously(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        """Complete the requests, and those that ``on_completion`` returns, until none is left."""


def run_sessions(engine: Engine, sessions: Sequence[Session[T]], on_end: OnEnd[T] | None = None) -> list[T]:
    """Run all sessions to completion and return their results in order.

    Raises:
        GenerationError: a prompt cannot be asked, or the model cannot.
    """
    results: dict[int, T] = {}
    received: dict[int, dict[int, Completion]] = {}
    expected: dict[int, int] = {}

    def advance(number: int, completions: Sequence[Completion] | None) -> dict[_Key, GenerationRequest]:
        """Return the session's next requests; none if it has ended."""
        try:
            requests = next(sessions[number]) if completions is None else sessions[number].send(completions)
        except StopIteration as end:
            results[number] = end.value
            if on_end is not None:
                on_end(number, end.value)
            return {}
        received[number], expected[number] = {}, len(requests)
        return {(number, nth): request for nth, request in enumerate(requests)}

    def receive(key: _Key, completion: Completion) -> dict[_Key, GenerationRequest]:
        """Keep a completion; the last that the session waits for advances it."""
        number, nth = key
        received[number][nth] = completion
        if len(received[number]) < expected[number]:
            return {}
        return advance(number, [received[number][each] for each in range(expected[number])])

    # 1. Start all sessions.
    waiting: dict[_Key, GenerationRequest] = {}
    for number in range(len(sessions)):
        waiting.update(advance(number, None))

    # 2. Each request joins those in progress at once, if the engine can do that; else wait for a whole round.
    if len(sessions) > 1 and isinstance(engine, ContinuousEngine):
        keys = list(waiting)

        def more(index: int, completion: Completion) -> Sequence[GenerationRequest]:
            requests = receive(keys[index], completion)
            keys.extend(requests)
            return list(requests.values())

        engine.generate_continuously(list(waiting.values()), more)
    else:
        while waiting:
            _run_round(engine, waiting, receive)
    return [results[number] for number in range(len(sessions))]


def _run_round(
    engine: Engine,
    waiting: dict[_Key, GenerationRequest],
    receive: Callable[[_Key, Completion], dict[_Key, GenerationRequest]],
) -> None:
    """Send all waiting requests that have the settings of the one that has waited longest."""
    decoder = next(iter(waiting.values())).decoder
    batch = [(key, request) for key, request in waiting.items() if request.decoder == decoder]

    def should_stop(index: int, text: str) -> bool:
        check = batch[index][1].should_stop
        return check is not None and check(text)

    def on_answer(index: int, completion: Completion) -> None:
        key = batch[index][0]
        del waiting[key]
        waiting.update(receive(key, completion))

    engine.generate([request.prompt for _, request in batch], decoder, on_answer=on_answer, watch=should_stop)


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
