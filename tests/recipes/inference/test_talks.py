"""Talks over one engine: none waits for another where the engine flows, and what they come to is the same anyway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bonsai.recipes.inference.generation import (
    GREEDY,
    Completion,
    Engine,
    GenerationError,
    GenerationRequest,
    GenerationSettings,
    OnAnswer,
    OnCompletion,
)
from bonsai.recipes.inference.sessions import Session, gather, run_sessions
from bonsai.recipes.inference.transformers_engine import TransformersEngine
from tests.recipes.inference.rounds import InRounds, StopCheck
from tests.recipes.tiny import write_tiny_llama

WARM = GenerationSettings(temperature=0.7, seed=3)


def echo(request: GenerationRequest) -> Completion:
    text = request.prompt.upper()
    ending = "watch" if request.should_stop is not None and request.should_stop(text) else "eos"
    return Completion(text=text, tokens=1, stopped_by=ending, seconds=0.0)  # type: ignore[arg-type]


class Rounds(InRounds):
    """Keeps the prompts of each call."""

    name = "rounds"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        self.calls.append(list(prompts))
        said = []
        for place, prompt in enumerate(prompts):
            said.append(
                echo(GenerationRequest(prompt, decoder, lambda text, at=place: bool(watch and watch(at, text))))
            )  # type: ignore[misc]
            if on_answer is not None:
                on_answer(place, said[-1])
        return said


class Flows(Engine):
    """Answers the newest first."""

    name = "flows"

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        waiting = list(enumerate(requests))
        asked = len(waiting)
        while waiting:
            place, request = waiting.pop()
            news = on_completion(place, echo(request))
            waiting += [(asked + number, one) for number, one in enumerate(news)]
            asked += len(news)


def talk(name: str, turns: int, decoder: GenerationSettings = GREEDY) -> Session[list[str]]:
    heard = []
    for turn in range(turns):
        said = yield [GenerationRequest(f"{name}{turn}a", decoder), GenerationRequest(f"{name}{turn}b", decoder)]
        heard += [one.text for one in said]
    return heard


@pytest.mark.parametrize("engine", [Rounds(), Flows()], ids=lambda engine: engine.name)
def test_talks_of_any_length_hear_their_own_answers_in_their_order(engine: Engine) -> None:
    ended: list[int] = []
    talks = [talk("x", 3), talk("y", 1, WARM), talk("z", 0), talk("w", 2)]
    found = run_sessions(engine, talks, lambda number, _: ended.append(number))
    assert found == [
        ["X0A", "X0B", "X1A", "X1B", "X2A", "X2B"],
        ["Y0A", "Y0B"],
        [],
        ["W0A", "W0B", "W1A", "W1B"],
    ]
    assert ended[0] == 2
    assert sorted(ended) == [0, 1, 2, 3]


def test_side_by_side_asks_what_all_wait_for_and_watches_end_answers() -> None:
    engine = Rounds()

    def watched() -> Session[str]:
        (said,) = yield [GenerationRequest("q", GREEDY, lambda text: text == "Q")]
        return said.stopped_by

    def both() -> Session[list[object]]:
        return (yield from gather([talk("x", 2), watched(), talk("n", 0)]))

    assert run_sessions(engine, [both()]) == [[["X0A", "X0B", "X1A", "X1B"], "watch", []]]
    assert engine.calls == [["x0a", "x0b", "q"], ["x1a", "x1b"]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base"))


def said(prompt: str, turns: int, decoder: GenerationSettings) -> Session[str]:
    """Goes on from what was said to it, and watches one line end."""
    text = prompt
    for turn in range(turns):
        (one,) = yield [GenerationRequest(text, decoder, (lambda so_far: len(so_far) > 5) if turn == 1 else None)]
        text = f"{prompt} {one.text}"[:60]
    return text


def test_a_model_says_the_same_to_talks_that_flow_as_to_each_alone(base: Path) -> None:
    decoders = (
        GenerationSettings(max_new_tokens=9),
        GenerationSettings(max_new_tokens=14, temperature=0.8, seed=5),
        GenerationSettings(max_new_tokens=7, repetition_penalty=1.5, no_repeat_ngram_size=3),
    )

    def talks() -> list[Session[str]]:
        return [said(f"talk {n} " * (1 + n % 3), 1 + n % 4, decoders[n % 3]) for n in range(8)]

    flowing = TransformersEngine.load(base, batch_size=4)
    alone = TransformersEngine.load(base, batch_size=1)
    assert run_sessions(flowing, talks()) == [run_sessions(alone, [one])[0] for one in talks()]


def test_a_prompt_that_is_too_long_is_told_in_the_midst_of_a_flow(base: Path) -> None:
    engine = TransformersEngine.load(base)

    def grows() -> Session[None]:
        yield [GenerationRequest("a", GREEDY)]
        yield [GenerationRequest("b", GREEDY), GenerationRequest("a" * 100_000, GREEDY)]

    with pytest.raises(GenerationError, match=r"prompt 2 of 2 has 100,000 tokens"):
        run_sessions(engine, [said("x", 2, GREEDY), grows()])
