"""An engine that says what it is told to: behind the real interface, without weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bonsai.builder.prompt import RESPONSE_MARKER
from bonsai.builder.schema import Language
from bonsai.recipes.inference.generation import Completion, GenerationSettings, OnAnswer
from bonsai.recipes.inference.perspectives import PERSPECTIVES, PLAIN
from tests.recipes.inference.rounds import InRounds, StopCheck

Say = Callable[[str, GenerationSettings], str]
"""What is said to a prompt; the Reasoning is put before it."""

NEXT = {
    "why": "Why would a manager who hears of {thing} punish the person who reports it?",
    "evidence": "What evidence would show that {thing} is hidden from managers on purpose?",
    "exception": "In which companies does news of {thing} reach the managers without delay?",
    "affected": "Who loses most when managers learn of {thing} too late?",
    "change": "What would have to change for people to report {thing} to their managers at once?",
    "measure": "How could one measure the time that news of {thing} takes to reach the managers?",
    "history": "How did managers learn of {thing} in the past, before there were written reports?",
    "opposite": "If managers heard of {thing} at once, what new trouble would that bring?",
    "plain": "Why does bad news reach managers so late?",
}
THINGS = ("a broken machine", "an angry customer", "a missing invoice", "a forged signature", "an unsafe ladder")
ANSWER = "People fear blame, so bad news travels slowly to the managers."


class Scripted(InRounds):
    """Answers by a function of the prompt, one prompt after the other."""

    def __init__(self, say: Say, *, stop_after: int | None = None) -> None:
        self.name = "scripted"
        self.asked: list[tuple[int, GenerationSettings]] = []
        """prompts of each call, and its decoder"""
        self._say = say
        self._left = stop_after

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        self.asked.append((len(prompts), decoder))
        said = []
        for place, prompt in enumerate(prompts):
            if self._left is not None:
                if self._left == 0:
                    raise KeyboardInterrupt
                self._left -= 1
            reasoning = f"Blame falls on whoever speaks first in any company.\n\n{RESPONSE_MARKER}"
            text = ("" if RESPONSE_MARKER in prompt else reasoning) + self._say(prompt, decoder)
            said.append(Completion(text=text, tokens=9, stopped_by="eos", seconds=0.1))
            if on_answer is not None:
                on_answer(place, said[-1])
        return said


def perspective_in(prompt: str) -> str | None:
    """The perspective a prompt asks from; None: it asks for an answer."""
    return next(
        (one.key for one in (*PERSPECTIVES, PLAIN) if any(one.wording[language] in prompt for language in Language)),
        None,
    )


def deeper(prompt: str, decoder: GenerationSettings) -> str:
    """Good questions, another thing each step; which step it is can be seen from what the prompt tells of the chain."""
    key = perspective_in(prompt)
    if key is None:
        return ANSWER
    told = next((number for number in reversed(range(len(THINGS))) if THINGS[number] in prompt), -1)
    return NEXT[key].format(thing=THINGS[(told + 1) % len(THINGS)])


def circular(prompt: str, decoder: GenerationSettings) -> str:
    """Always the opening again in other words."""
    return NEXT["plain"] if perspective_in(prompt) else ANSWER
