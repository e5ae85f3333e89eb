"""Chains over a scripted engine: batched, judged, retried, interrupted and taken up again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bonsai.builder.errors import AskingError
from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Question, QuestionChain
from bonsai.recipes.inference.generation import GenerationSettings
from bonsai.recipes.inference.perspectives import PERSPECTIVES
from bonsai.recipes.inference.qtq import (
    ChainStore,
    ChainStoreError,
    QtQSettings,
    new_stored_chain,
    next_question,
    run_chains,
)
from tests.recipes.inference.chains.scripted import Say, Scripted, circular, deeper, perspective_in

THEMES = (
    "Why does bad news reach the managers of a company so late?",
    "Who should tell the managers that a project has failed?",
    "How do managers of a factory hear of its accidents?",
)


def chains(depth: int = 4, settings: QtQSettings | None = None) -> list[QuestionChain]:
    return [
        new_stored_chain(Question(instruction=theme), model="scripted", depth=depth, settings=settings or QtQSettings())
        for theme in THEMES
    ]


def test_a_chain_is_led_as_deep_as_asked_and_no_question_comes_twice() -> None:
    for chain in run_chains(Scripted(deeper), chains(), QtQSettings()):
        questions = [step.question for step in chain.steps]
        assert (len(questions), chain.ended_because) == (4, None)
        assert len(set(questions)) == 4
        assert [step.number for step in chain.steps] == [1, 2, 3, 4]
        for step, after in zip(chain.steps, chain.steps[1:], strict=False):
            assert step.candidates[0].question == after.question
            assert step.candidates[0].perspective == after.perspective
            assert step.candidates[0].refused_because is None
        assert chain.steps[-1].candidates == (), "the last question needs no next one"


def test_chains_together_become_what_each_becomes_alone_in_fewer_calls() -> None:
    together, alone = Scripted(deeper), Scripted(deeper)
    batched = run_chains(together, chains(), QtQSettings())
    assert batched == [run_chains(alone, [chain], QtQSettings())[0] for chain in chains()]
    assert sum(count for count, _ in together.asked) == sum(count for count, _ in alone.asked)
    assert len(together.asked) * len(THEMES) == len(alone.asked)


def test_perspectives_take_turns() -> None:
    (chain, *_) = run_chains(Scripted(deeper), chains(depth=5), QtQSettings())
    led = [step.perspective for step in chain.steps[1:]]
    assert len(set(led)) == len(led)


def test_a_chain_that_only_goes_in_circles_ends_and_says_so_in_its_language() -> None:
    engine = Scripted(circular)
    (chain, *_) = run_chains(engine, chains(), QtQSettings(candidates=3, rounds=2))
    assert chain.complete
    assert len(chain.steps) == 1
    assert chain.ended_because == "all 6 candidates for the next question were refused: 6 repeated an earlier question"
    assert all("it repeats the question of step 1" in str(one.refused_because) for one in chain.steps[0].candidates)
    asked = Question(instruction="悪い知らせが経営者に届くのが遅いのはなぜですか。")
    opening = new_stored_chain(asked, model="scripted", depth=3, settings=QtQSettings())

    def again(prompt: str, decoder: GenerationSettings) -> str:
        return (
            "経営者に悪い知らせが遅く届く理由は何ですか。" if perspective_in(prompt) else "責められるのが怖いからです。"
        )

    (ended,) = run_chains(Scripted(again), [opening], QtQSettings(candidates=2, rounds=1))
    assert ended.ended_because == "次の質問の候補2件を、すべて退けました（堂々めぐり2件）。"


def test_retries_are_sampled_hotter_each_time_and_ask_from_other_perspectives() -> None:
    seen: list[tuple[float, str]] = []

    def say(prompt: str, decoder: GenerationSettings) -> str:
        if key := perspective_in(prompt):
            seen.append((decoder.temperature, key))
        return circular(prompt, decoder)

    run_chains(Scripted(say), chains()[:1], QtQSettings(candidates=4, rounds=3))
    assert [temperature for temperature, _ in seen] == [0.0] * 4 + [0.5] * 4 + [0.8] * 4
    assert {key for _, key in seen[:8]} == {one.key for one in PERSPECTIVES}


def test_a_chain_whose_first_candidates_fail_goes_on_with_those_of_a_retry() -> None:
    def say(prompt: str, decoder: GenerationSettings) -> str:
        return deeper(prompt, decoder) if decoder.temperature or not perspective_in(prompt) else "I do not know."

    (chain, *_) = run_chains(Scripted(say), chains(depth=2), QtQSettings())
    assert len(chain.steps) == 2
    assert {one.refused_because for one in chain.steps[0].candidates[-4:]} == {"it asks nothing"}


def test_the_plain_baseline_asks_whatever_it_is_given() -> None:
    settings = QtQSettings(plain=True)
    (chain, *_) = run_chains(Scripted(circular), chains(3, settings), settings)
    assert [step.question for step in chain.steps][1:] == ["Why does bad news reach managers so late?"] * 2
    assert chain.steps[1].perspective == "plain"


def stopped_after(answers: int, keeping: ChainStore, say: Say = deeper) -> None:
    """Lead the chains until so many texts were said, then press Ctrl-C."""
    taken_up = [keeping.load_or_new(chain) for chain in chains()]
    with pytest.raises(KeyboardInterrupt):
        run_chains(Scripted(say, stop_after=answers), taken_up, QtQSettings(), on_step=keeping.write)


@pytest.mark.parametrize("answers", [0, 1, 3, 4, 14, 15, 16, 18, 30, 44])
def test_interrupted_chains_go_on_where_they_stopped_and_become_the_same(answers: int, tmp_path: Path) -> None:
    keeping = ChainStore(tmp_path)
    stopped_after(answers, keeping)
    before = [keeping.load_or_new(chain) for chain in chains()]
    assert sum(len(chain.steps) for chain in before) >= min(answers, 3), "each answer is kept as soon as it stands"
    engine = Scripted(deeper)
    whole = Scripted(deeper)
    assert run_chains(engine, before, QtQSettings(), on_step=keeping.write) == run_chains(
        whole, chains(), QtQSettings()
    )
    if answers >= 3:
        assert sum(count for count, _ in engine.asked) < sum(count for count, _ in whole.asked)
    assert [keeping.load_or_new(chain) for chain in chains()] == run_chains(Scripted(deeper), chains(), QtQSettings())


def test_a_finished_chain_is_not_asked_again_and_can_be_led_deeper(tmp_path: Path) -> None:
    keeping = ChainStore(tmp_path)
    run_chains(Scripted(deeper), chains(2), QtQSettings(), on_step=keeping.write)
    again = Scripted(deeper)
    run_chains(again, [keeping.load_or_new(chain) for chain in chains(2)], QtQSettings())
    assert again.asked == []
    further = run_chains(again, [keeping.load_or_new(chain) for chain in chains(4)], QtQSettings())
    assert further == run_chains(Scripted(deeper), chains(4), QtQSettings())


def test_other_settings_models_and_personas_have_chains_of_their_own() -> None:
    question = Question(instruction="Why?")
    common = {"model": "one", "depth": 3, "settings": QtQSettings()}
    names = {
        new_stored_chain(question, **common).id,  # type: ignore[arg-type]
        new_stored_chain(question, **{**common, "depth": 5}).id,  # type: ignore[arg-type]
        new_stored_chain(question, **{**common, "model": "two"}).id,  # type: ignore[arg-type]
        new_stored_chain(question, **{**common, "settings": QtQSettings(candidates=2)}).id,  # type: ignore[arg-type]
        new_stored_chain(question.model_copy(update={"system": "You are a scientist."}), **common).id,  # type: ignore[arg-type]
    }
    assert len(names) == 4, "the depth alone makes no other chain"


def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    keeping = ChainStore(tmp_path)
    (chain, *_) = chains()
    keeping.path(chain).write_text('{"id": "half')
    with pytest.raises(ChainStoreError, match=rf"{chain.id}\.json: .*; move it away to start again"):
        keeping.load_or_new(chain)


def test_a_persona_stands_before_every_question() -> None:
    prompts: list[str] = []

    def say(prompt: str, decoder: GenerationSettings) -> str:
        prompts.append(prompt)
        return deeper(prompt, decoder)

    persona = "あなたは良心的な科学者です。"
    asked = chains(3)
    run_chains(Scripted(say), asked, QtQSettings(), personas={chain.id: persona for chain in asked})
    assert all(prompt.startswith(f"{persona}\n\n### Instruction:") for prompt in prompts)


def test_an_empty_opening_is_refused_before_anything_is_asked() -> None:
    engine = Scripted(deeper)
    with pytest.raises(AskingError, match="is empty"):
        run_chains(engine, [QuestionChain(id="x", theme="  ", language=Language.EN, depth=2)], QtQSettings())
    assert engine.asked == []


def test_next_question_is_none_where_there_is_nothing_to_answer() -> None:
    (chain, *_) = run_chains(Scripted(deeper), chains(2), QtQSettings())
    assert next_question(chain) is None
    assert next_question(chains()[0]) == THEMES[0]
