"""An engine that says what a function tells it to, a few letters at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bonsai.recipes.inference.generation import Completion, FinishReason, GenerationSettings, OnAnswer
from tests.recipes.inference.rounds import InRounds, StopCheck

STEP = 3
"""letters a token"""


class Scripted(InRounds):
    """Answers by a function of prompt and decoder; keeps what it was asked."""

    name = "scripted"

    def __init__(self, script: Callable[[str, GenerationSettings], str]) -> None:
        self._script = script
        self.asked: list[list[str]] = []
        """the prompts of each call"""
        self.decoders: list[GenerationSettings] = []

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        self.asked.append(list(prompts))
        self.decoders.append(decoder)
        generations = []
        for place, prompt in enumerate(prompts):
            generations.append(self._say(place, self._script(prompt, decoder), decoder, watch))
            if on_answer is not None:
                on_answer(place, generations[-1])
        return generations

    def _say(self, place: int, script: str, decoder: GenerationSettings, watch: StopCheck | None) -> Completion:
        text = ""
        stopped_by: FinishReason = "eos"
        for end in range(STEP, len(script) + STEP, STEP):
            text = script[:end]
            if found := [at for stop in decoder.stop_strings if (at := text.find(stop)) >= 0]:
                text, stopped_by = text[: min(found)], "stop_string"
                break
            if watch is not None and watch(place, text):
                stopped_by = "watch"
                break
            if end >= STEP * decoder.max_new_tokens:
                stopped_by = "length"
                break
        return Completion(text=text, tokens=len(text) // STEP + 1, stopped_by=stopped_by, seconds=0.5)
