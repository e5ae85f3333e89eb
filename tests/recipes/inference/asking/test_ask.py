"""Asking with a scripted engine: which passes are taken, what is kept, and what is told."""

from __future__ import annotations

import re

import pytest

from bonsai.builder.errors import AskingError
from bonsai.builder.prompt import REASONING_MARKER, RESPONSE_MARKER
from bonsai.builder.schema import Language
from bonsai.recipes.inference.ask import ask
from bonsai.recipes.inference.conversation import Answer, LocalizedText, Question
from bonsai.recipes.inference.generation import GREEDY, GenerationSettings
from bonsai.recipes.inference.prompts import IN_THIS_LANGUAGE, REASONING_ALONE
from tests.recipes.inference.asking.scripted import Scripted

WHY = Question(instruction="Why is the sky blue?")
REASON = "Air scatters short waves of light more than long ones."
BLUE = "Because blue light reaches us from all sides."
LOOP = "The sky is blue because it is blue up there. " * 20
ALONE = REASONING_ALONE[Language.EN]


def asked_for_answer(prompt: str) -> bool:
    return prompt.endswith(RESPONSE_MARKER)


def test_one_pass_is_enough_where_the_reasoning_says_something() -> None:
    engine = Scripted(lambda prompt, _: f"{REASON}\n\n{RESPONSE_MARKER}{BLUE}")
    (answer,) = ask(engine, [WHY])
    assert (answer.reasoning, answer.answer, answer.passes, answer.language) == (REASON, BLUE, 1, Language.EN)
    assert (answer.second_pass_because, answer.retried_because, answer.loops) == (None, None, False)
    assert engine.asked == [["### Instruction:\nWhy is the sky blue?\n\n### Reasoning:\n"]]
    assert answer.stopped_by == "eos"


@pytest.mark.parametrize(
    ("first", "because"),
    [
        (BLUE, "one pass gave no Reasoning: it is missing"),
        (f"\n{RESPONSE_MARKER}{BLUE}", "one pass gave no Reasoning: it is missing"),
        (f"Why the sky is blue.\n\n{RESPONSE_MARKER}{BLUE}", "only restates the question"),
        (LOOP, "the Reasoning ran in a loop"),
        (f"{REASON}\n\n{RESPONSE_MARKER}", "a Reasoning and no answer"),
    ],
)
def test_two_passes_take_over_where_one_gave_no_reasoning_or_no_answer(first: str, because: str) -> None:
    def script(prompt: str, _: GenerationSettings) -> str:
        if asked_for_answer(prompt):
            return BLUE
        return f"{REASON}\n\n{RESPONSE_MARKER}more" if ALONE[0] in prompt else first

    engine = Scripted(script)
    (answer,) = ask(engine, [WHY])
    assert answer.passes == 2
    assert answer.second_pass_because is not None
    assert because in answer.second_pass_because.en
    assert (answer.answer, bool(answer.reasoning), answer.loops) == (BLUE, True, False)
    known = f"{REASONING_MARKER}{answer.reasoning}\n\n{RESPONSE_MARKER}"
    assert engine.asked[-1] == [f"### Instruction:\nWhy is the sky blue?\n\n{known}"]


def test_a_reasoning_that_says_the_same_twice_is_asked_for_alone() -> None:
    learn = "The young learn from the masters in the academy."
    twice = f"{learn} The academy is old. {learn}"

    def script(prompt: str, _: GenerationSettings) -> str:
        if asked_for_answer(prompt):
            return BLUE
        return REASON if any(wording in prompt for wording in ALONE) else f"{twice}\n\n{RESPONSE_MARKER}Red."

    (answer,) = ask(Scripted(script), [WHY])
    assert (answer.reasoning, answer.answer, answer.passes, answer.loops) == (REASON, BLUE, 2, False)
    assert answer.second_pass_because is not None
    assert answer.second_pass_because.en.startswith("the Reasoning ran in a loop: 'the young learn")
    engine = Scripted(lambda prompt, _: BLUE if asked_for_answer(prompt) else f"{twice}\n\n{RESPONSE_MARKER}Red.")
    (stubborn,) = ask(engine, [WHY])
    assert (stubborn.reasoning, stubborn.answer, stubborn.loops) == (twice, BLUE, True)
    assert len(engine.asked) == 4, "one pass, two wordings, the answer, and no more"


def test_the_reasoning_is_asked_for_in_other_words_before_it_is_given_up() -> None:
    def script(prompt: str, decoder: GenerationSettings) -> str:
        if asked_for_answer(prompt) or ALONE[1] not in prompt:
            return BLUE if asked_for_answer(prompt) else ""
        assert decoder.temperature > 0
        return REASON

    (answer,) = ask(Scripted(script), [WHY])
    assert (answer.reasoning, answer.answer, answer.passes) == (REASON, BLUE, 2)
    (nothing,) = ask(Scripted(lambda prompt, _: BLUE if asked_for_answer(prompt) else ""), [WHY])
    assert (nothing.reasoning, nothing.answer, nothing.passes) == ("", BLUE, 2)


def test_a_poor_reasoning_stays_where_nothing_better_comes() -> None:
    poor = "The sky is blue."
    engine = Scripted(lambda prompt, _: BLUE if asked_for_answer(prompt) else f"{poor}\n\n{RESPONSE_MARKER}{BLUE}")
    (answer,) = ask(engine, [WHY])
    assert (answer.reasoning, answer.answer) == (poor, BLUE)


def test_one_pass_or_two_can_be_asked_for() -> None:
    engine = Scripted(lambda prompt, _: REASON if prompt.endswith(REASONING_MARKER) else BLUE)
    (one,) = ask(engine, [WHY], passes="one")
    (two,) = ask(engine, [WHY], passes="two")
    assert (one.reasoning, one.answer, one.passes) == ("", REASON, 1)
    assert (two.reasoning, two.answer, two.passes) == (REASON, BLUE, 2)
    assert two.second_pass_because is not None
    assert two.second_pass_because.en == "the settings ask for the Reasoning alone first"
    assert [len(call) for call in engine.asked] == [1, 1, 1]


def test_a_looping_answer_is_stopped_and_asked_again_with_other_settings() -> None:
    def script(prompt: str, decoder: GenerationSettings) -> str:
        if decoder != GREEDY:
            return BLUE
        return f"{REASON}\n\n{RESPONSE_MARKER}{LOOP}"

    engine = Scripted(script)
    (answer,) = ask(engine, [WHY])
    assert (answer.reasoning, answer.answer, answer.passes, answer.loops) == (REASON, BLUE, 1, False)
    assert answer.retried_because is not None
    assert "again and again" in answer.retried_because.en
    assert answer.retried_because.ja.startswith("答えが「The sky is blue because")
    assert answer.retried_because.ja.endswith("」を繰り返しています。二度目の文を採りました")
    assert engine.decoders[1].repetition_penalty > 1
    assert answer.tokens < 2 * len(LOOP) / 3, "the loop was stopped early"


def test_where_the_retry_loops_too_the_first_text_is_kept_as_far_as_it_says_things_once() -> None:
    engine = Scripted(lambda prompt, _: LOOP if asked_for_answer(prompt) else f"{REASON}\n\n{RESPONSE_MARKER}{LOOP}")
    (answer,) = ask(engine, [WHY])
    assert answer.answer == "The sky is blue because it is blue up there."
    assert (answer.loops, answer.stopped_by) == (False, "watch")
    assert answer.retried_because is not None
    assert "the first is kept" in answer.retried_because.en
    assert len(engine.asked) == 2, "one retry and no more"


def test_a_refrain_that_was_asked_for_is_no_loop() -> None:
    song = "Snow on the roof, and snow on the lane,\nA light in the window.\n" * 2
    engine = Scripted(lambda prompt, _: f"A refrain carries a song.\n\n{RESPONSE_MARKER}{song}")
    (answer,) = ask(engine, [Question(instruction="Write a song about snow with a refrain.")])
    assert (answer.answer, answer.retried_because) == (song.strip(), None)


def test_an_answer_in_the_wrong_language_is_asked_for_in_so_many_words() -> None:
    line = IN_THIS_LANGUAGE[Language.JA]

    def script(prompt: str, _: GenerationSettings) -> str:
        reason = "短い波長の光ほど空気で強く散乱される。"
        return f"{reason}\n\n{RESPONSE_MARKER}{BLUE}" if line not in prompt else "青い光が四方から届くからです。"

    engine = Scripted(script)
    (answer,) = ask(engine, [Question(instruction="空はなぜ青いのですか。")])
    assert (answer.language, answer.answer) == (Language.JA, "青い光が四方から届くからです。")
    assert answer.retried_because == LocalizedText(
        en="the answer is not in Japanese; the second text is kept",
        ja="答えが日本語ではありません。二度目の文を採りました",
    )
    assert engine.asked[1][0].startswith(f"### Instruction:\n{line}\n空はなぜ")
    (stubborn,) = ask(
        Scripted(lambda *_: f"{REASON}\n\n{RESPONSE_MARKER}{BLUE}"), [WHY.model_copy(update={"language": "ja"})]
    )
    assert stubborn.answer == BLUE
    assert stubborn.retried_because is not None
    assert "the answer is not in Japanese; the first is kept" in stubborn.retried_because.en


@pytest.mark.parametrize(
    "instruction", ["Translate into Japanese: the sky is blue.", "How is 'blue' written in Japanese?"]
)
def test_a_question_that_names_a_language_may_be_answered_in_it(instruction: str) -> None:
    engine = Scripted(lambda prompt, _: f"{REASON}\n\n{RESPONSE_MARKER}空は青い色をしているように見えます。")
    (answer,) = ask(engine, [Question(instruction=instruction)])
    assert answer.retried_because is None


def test_an_answer_ends_where_another_heading_comes() -> None:
    again = f"{REASON}\n\n{RESPONSE_MARKER}{BLUE}\n\n{RESPONSE_MARKER}Red.\n\n### Input:\n" + "And more. " * 20
    (answer,) = ask(Scripted(lambda *_: again), [WHY])
    assert (answer.answer, answer.stopped_by, answer.retried_because) == (BLUE, "stop_string", None)
    assert answer.tokens < 50, "what comes behind it is not waited for"


def test_a_persona_stands_before_the_question() -> None:
    engine = Scripted(lambda prompt, _: f"{REASON}\n\n{RESPONSE_MARKER}{BLUE}")
    ask(engine, [WHY.model_copy(update={"system": "You are a conscientious scientist."})])
    assert engine.asked[0][0].startswith("You are a conscientious scientist.\n\n### Instruction:\nWhy")


def test_many_questions_are_asked_together_and_answered_in_their_order() -> None:
    questions = [Question(instruction=f"Why is number {number} odd?") for number in range(7)]
    told: dict[int, Answer] = {}

    def script(prompt: str, _: GenerationSettings) -> str:
        if "number 3" in prompt and not asked_for_answer(prompt):
            return REASON if ALONE[0] in prompt else ""
        return f"{REASON}\n\n{RESPONSE_MARKER}{prompt[14:40]}" if not asked_for_answer(prompt) else "Three."

    engine = Scripted(script)
    answers = ask(engine, questions, on_answer=lambda place, answer: told.update({place: answer}))
    assert [len(call) for call in engine.asked] == [7, 1, 1]
    assert [told[place] for place in range(7)] == answers
    assert list(told)[-1] == 3, "an answer is told as soon as it stands"
    assert [answer.passes for answer in answers] == [1, 1, 1, 2, 1, 1, 1]
    assert answers[3].tokens > 2
    assert answers[3].seconds == 1.5


def test_text_appears_as_it_comes_and_by_its_part() -> None:
    said: list[tuple[str, str]] = []
    engine = Scripted(lambda prompt, _: f"{REASON}\n\n{RESPONSE_MARKER}{BLUE}")
    (answer,) = ask(engine, [WHY], on_text=lambda _, part, text: said.append((part, text)))
    assert said[0] == ("reasoning", REASON[:3])
    assert said[-1] == ("answer", answer.answer)
    assert not [text for _, text in said if "#" in text], "no marker is shown, not even half of one"
    for part, whole in (("reasoning", REASON), ("answer", BLUE)):
        assert all(whole.startswith(text) for spoken, text in said if spoken == part)


@pytest.mark.parametrize(
    "text", [f"### Reasoning:\n{REASON}\n\n### Response:\n{BLUE}", f"<think>\n{REASON}\n</think>\n\n{BLUE}"]
)
def test_a_model_that_writes_its_own_markers_is_understood(text: str) -> None:
    (answer,) = ask(Scripted(lambda *_: text), [WHY])
    assert (answer.reasoning, answer.answer, answer.passes) == (REASON, BLUE, 1)


@pytest.mark.parametrize(
    ("instruction", "told"),
    [
        ("  ", "the question is empty; write what you want to know"),
        ("a" * 100_000, "has 100,000 characters; fewer than 100,000 can be asked"),
        ("\x00\x01PNG", r"contains U\+0000, which does not occur in text: it seems to be a binary file"),
        ("\ufffdabc", r"contains U\+FFFD"),
    ],
)
def test_what_is_no_question_is_refused_in_a_sentence_before_anything_is_asked(instruction: str, told: str) -> None:
    engine = Scripted(lambda *_: BLUE)
    with pytest.raises(AskingError, match=told):
        ask(engine, [Question(instruction=instruction)])
    with pytest.raises(AskingError, match="question 2 of 2"):
        ask(engine, [WHY, Question(instruction=instruction)])
    assert engine.asked == []


def test_what_was_told_before_an_interruption_is_complete() -> None:
    told: dict[int, Answer] = {}

    def script(prompt: str, _: GenerationSettings) -> str:
        if "second" in prompt:
            raise KeyboardInterrupt
        return f"{REASON}\n\n{RESPONSE_MARKER}{BLUE}"

    with pytest.raises(KeyboardInterrupt):
        ask(
            Scripted(script),
            [WHY, Question(instruction="And the second?")],
            on_answer=lambda place, answer: told.update({place: answer}),
        )
    assert [answer.answer for answer in told.values()] == [BLUE]


def test_no_reason_is_left_without_japanese() -> None:
    """Whatever goes wrong, a Japanese page can say so: the two texts are never the same."""
    told = []
    for first in (
        BLUE,
        f"Why the sky is blue.\n\n{RESPONSE_MARKER}{BLUE}",
        LOOP,
        f"{REASON}\n\n{RESPONSE_MARKER}",
        "Because:",
    ):
        for second in (BLUE, LOOP, "", "空は青いのです。青い光が散るからです。"):

            def script(prompt: str, _: GenerationSettings, first: str = first, second: str = second) -> str:
                return second if asked_for_answer(prompt) else first

            for answer in ask(Scripted(script), [WHY]):
                told += [one for one in (answer.second_pass_because, answer.retried_because) if one is not None]
    assert len({one.en for one in told}) > 6
    for one in told:
        assert re.search("[ぁ-ん]", one.ja), one
        assert not re.search(r"\b(the|is|it|only|said)\b", re.sub("「.*?」", "", one.ja)), one


def test_an_answer_kept_when_reasons_were_plain_sentences_is_still_read() -> None:
    (answer,) = ask(Scripted(lambda prompt, _: BLUE), [WHY])
    kept = answer.model_dump() | {"second_pass_because": "it was missing"}
    assert Answer.model_validate(kept).second_pass_because == LocalizedText(en="it was missing", ja="it was missing")
