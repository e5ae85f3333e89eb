"""An engine for tests that is asked in rounds: what waits with the same settings goes together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from bonsai.recipes.inference.generation import (
    Completion,
    Engine,
    GenerationRequest,
    GenerationSettings,
    OnAnswer,
    OnCompletion,
)

StopCheck = Callable[[int, str], bool]


class InRounds(Engine):
    """Answers by `generate` alone."""

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        waiting = dict(enumerate(requests))
        count = len(waiting)
        while waiting:
            decoder = next(iter(waiting.values())).decoder
            batch = [(index, request) for index, request in waiting.items() if request.decoder == decoder]

            def should_stop(place: int, text: str, batch: list[tuple[int, GenerationRequest]] = batch) -> bool:
                check = batch[place][1].should_stop
                return check is not None and check(text)

            def on_answer(
                place: int, completion: Completion, batch: list[tuple[int, GenerationRequest]] = batch
            ) -> None:
                nonlocal count
                index = batch[place][0]
                del waiting[index]
                for request in on_completion(index, completion):
                    waiting[count] = request
                    count += 1

            self.generate([request.prompt for _, request in batch], decoder, on_answer=on_answer, watch=should_stop)

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]: ...
