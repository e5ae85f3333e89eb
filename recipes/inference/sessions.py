"""Run many conversations concurrently over one engine.

A talk is a generator: it yields prompts, is sent what was said to them, and ends with what it came to. Where the engine
takes new prompts in while others are still answered, no talk waits for another; else the prompts that wait are put
together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

from bonsai.recipes.inference.generation import Completion, Engine, GenerationRequest

T = TypeVar("T")
Session = Generator[Sequence[GenerationRequest], Sequence[Completion], T]
OnEnd = Callable[[int, T], None]
"""Called with the place of a talk and what it came to, as soon as it has ended."""


@runtime_checkable
class ContinuousEngine(Protocol):
    """An engine that an answer may bring new prompts to while others are still answered."""

    def flow(
        self, requests: Sequence[GenerationRequest], more: Callable[[int, Completion], Sequence[GenerationRequest]]
    ) -> None:
        """Answer until nothing waits.

        Args:
            more: called with the place of a request and its answer as soon as that is complete; what it returns is
                asked, too, under the places that follow.
        """


def run_sessions(engine: Engine, talks: Sequence[Session[T]], on_end: OnEnd[T] | None = None) -> list[T]:
    """Lead the talks to their ends; what they came to, in their order.

    Raises:
        GenerationError: a prompt cannot be asked, or the model cannot.
    """
    held = _SessionRunner(talks, on_end)
    if len(talks) > 1 and isinstance(engine, ContinuousEngine):
        held.flow(engine)
    else:
        held.in_rounds(engine)
    return [held.ended[number] for number in range(len(talks))]


def gather(talks: Sequence[Session[T]]) -> Session[list[T]]:
    """Several talks as one: each time it asks what all of them wait for."""
    ended: dict[int, T] = {}
    waiting = dict(_begun(talks, ended))
    while waiting:
        said = iter((yield [request for requests in waiting.values() for request in requests]))
        heard = {number: [next(said) for _ in requests] for number, requests in waiting.items()}
        waiting = {}
        for number, generations in heard.items():
            try:
                waiting[number] = talks[number].send(generations)
            except StopIteration as end:
                ended[number] = end.value
    return [ended[number] for number in range(len(talks))]


def _begun(
    talks: Sequence[Session[T]], ended: dict[int, T]
) -> Generator[tuple[int, Sequence[GenerationRequest]], None, None]:
    for number, talk in enumerate(talks):
        try:
            yield number, next(talk)
        except StopIteration as end:
            ended[number] = end.value


class _SessionRunner(Generic[T]):
    """Talks on their way."""

    def __init__(self, talks: Sequence[Session[T]], on_end: OnEnd[T] | None) -> None:
        self._talks = talks
        self._on_end = on_end
        self.ended: dict[int, T] = {}
        self._heard: dict[int, dict[int, Completion]] = {}
        self._wanted: dict[int, int] = {}

    def flow(self, engine: ContinuousEngine) -> None:
        """Each as soon as it can."""
        asked: list[tuple[int, int]] = []

        def more(place: int, generation: Completion) -> Sequence[GenerationRequest]:
            number, nth = asked[place]
            requests = self._on_completion(number, nth, generation)
            asked.extend((number, each) for each in range(len(requests)))
            return requests

        first: list[GenerationRequest] = []
        for number in range(len(self._talks)):
            requests = self._advance(number, None)
            asked.extend((number, each) for each in range(len(requests)))
            first.extend(requests)
        engine.flow(first, more)

    def in_rounds(self, engine: Engine) -> None:
        """All that wait with the settings of the one that has waited longest."""
        waiting: dict[tuple[int, int], GenerationRequest] = {}
        for number in range(len(self._talks)):
            waiting.update(self._numbered(number, self._advance(number, None)))
        while waiting:
            decoder = next(iter(waiting.values())).decoder
            together = [(key, request) for key, request in waiting.items() if request.decoder == decoder]

            def watch(
                place: int, text: str, together: list[tuple[tuple[int, int], GenerationRequest]] = together
            ) -> bool:
                watching = together[place][1].watch
                return watching is not None and watching(text)

            def said(
                place: int, generation: Completion, together: list[tuple[tuple[int, int], GenerationRequest]] = together
            ) -> None:
                number, nth = together[place][0]
                del waiting[number, nth]
                waiting.update(self._numbered(number, self._on_completion(number, nth, generation)))

            engine.generate([request.prompt for _, request in together], decoder, on_answer=said, watch=watch)

    @staticmethod
    def _numbered(number: int, requests: Sequence[GenerationRequest]) -> dict[tuple[int, int], GenerationRequest]:
        return {(number, nth): request for nth, request in enumerate(requests)}

    def _on_completion(self, number: int, nth: int, generation: Completion) -> Sequence[GenerationRequest]:
        heard = self._heard[number]
        heard[nth] = generation
        if len(heard) < self._wanted[number]:
            return ()
        return self._advance(number, [heard[each] for each in range(len(heard))])

    def _advance(self, number: int, said: Sequence[Completion] | None) -> Sequence[GenerationRequest]:
        """What the talk asks next; nothing: it has ended."""
        try:
            requests = next(self._talks[number]) if said is None else self._talks[number].send(said)
        except StopIteration as end:
            self.ended[number] = end.value
            if self._on_end is not None:
                self._on_end(number, end.value)
            return ()
        self._heard[number], self._wanted[number] = {}, len(requests)
        return requests
