"""A next question is begun for the model, whether it continues a text or begins its sentence anew."""

from __future__ import annotations

import pytest

from bonsai.builder.schema import Language
from bonsai.recipes.inference.generation import GREEDY
from bonsai.recipes.inference.perspectives import PERSPECTIVES
from bonsai.recipes.inference.qtq import propose_freely, propose_with_prefix
from bonsai.recipes.inference.sessions import run_sessions
from tests.recipes.inference.chains.scripted import Scripted
from tests.recipes.inference.chains.test_judging import chain, step

BY_KEY = {one.key: one for one in PERSPECTIVES}
OPENING = {
    Language.EN: "Why does bad news come late?",
    Language.JA: "悪い知らせが遅れるのはなぜですか。",
    Language.ZH: "坏消息为什么来得晚？",
}


@pytest.mark.parametrize(
    ("language", "key", "said", "question"),
    [
        (Language.EN, "why", " do people fear blame?", "Why do people fear blame?"),
        (Language.EN, "why", "Why do people fear blame?", "Why do people fear blame?"),
        (Language.EN, "opposite", ", for once, nobody were blamed?", "What if, for once, nobody were blamed?"),
        (Language.EN, "exception", "When is blame not feared?", "When is blame not feared?"),
        (Language.JA, "why", "人は責められるのを恐れるのですか。", "なぜ人は責められるのを恐れるのですか。"),
        (Language.JA, "why", "人が責められるのを恐れるのはなぜですか。", "人が責められるのを恐れるのはなぜですか。"),
        (
            Language.JA,
            "opposite",
            "誰も責められなければ、何が変わりますか。",
            "もし誰も責められなければ、何が変わりますか。",
        ),
        (Language.ZH, "why", "人们害怕被责怪？", "为什么人们害怕被责怪？"),
        (Language.ZH, "why", "人们为什么害怕被责怪？", "人们为什么害怕被责怪？"),
    ],
)
def test_the_opening_and_what_is_said_make_one_question(language: Language, key: str, said: str, question: str) -> None:
    prompts: list[str] = []
    engine = Scripted(lambda prompt, decoder: prompts.append(prompt) or said)  # type: ignore[func-returns-value]
    so_far = chain(step(OPENING[language], "Blame.", language=language), language=language)
    assert run_sessions(engine, [propose_with_prefix(so_far, [BY_KEY[key]], GREEDY, "A persona.")]) == [[question]]
    assert prompts[0].startswith("A persona.\n\n### Instruction:\n")
    assert prompts[0].endswith(f"### Response:\n{BY_KEY[key].opening[language]}")


def test_in_its_own_words_a_model_reasons_first() -> None:
    engine = Scripted(lambda prompt, decoder: "Why do people fear blame?")
    so_far = chain(step(OPENING[Language.EN], "Blame."))
    views = [BY_KEY["why"], BY_KEY["opposite"]]
    assert run_sessions(engine, [propose_freely(so_far, views, GREEDY, "")]) == [["Why do people fear blame?"] * 2]
