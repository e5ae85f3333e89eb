from __future__ import annotations

from collections.abc import Sequence

import pytest

from bonsai.builder.schema import Language
from bonsai.recipes.inference.generation import Completion, FinishReason, GenerationSettings, OnAnswer
from bonsai.recipes.inference.summary import chain_to_markdown, page, summarize, summarize_with_model
from tests.recipes.inference.rounds import InRounds, StopCheck
from tests.recipes.inference.summary.made import gauge

REASONING = (
    "Each answer names who or what makes the values differ, so the summary follows that thread.\n\n### Response:\n"
)


class Says(InRounds):
    """An engine that knows one text."""

    name = "one text"

    def __init__(self, text: str, stopped_by: FinishReason = "eos") -> None:
        self.text, self.stopped_by = text, stopped_by
        self.asked: list[str] = []

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        self.asked += prompts
        said = [Completion(text=self.text, tokens=9, stopped_by=self.stopped_by, seconds=0.1) for _ in prompts]
        for place, one in enumerate(said):
            if on_answer is not None:
                on_answer(place, one)
        return said


JAPANESE = "挟む力は人が決めます。\n\n### Response:\n人によって挟む力が違うので、測定値にも違いが出ます。"
GOOD = "People grip a part differently. Measuring in a hidden order tells the shares of people and instrument apart."


def test_a_models_words_stand_above_the_quotations_and_name_the_model() -> None:
    chain = gauge(Language.EN)
    engine = Says(REASONING + GOOD)
    summary = summarize_with_model(chain, engine)
    assert summary.told == GOOD
    assert summary.learnt == summarize(chain).learnt
    assert all(step.answer.answer in engine.asked[0] for step in chain.steps)
    for text in (chain_to_markdown(chain, summary), page([chain], {chain.id: summary})):
        assert text.index("People grip a part differently") < text.index(summary.learnt[1].sentences[0])
        assert "Written by one text." in text


@pytest.mark.parametrize(
    ("said", "stopped_by", "because"),
    [
        (f"{REASONING}{GOOD} The spread was 17 micrometres.", "eos", "names 17"),
        (f"{REASONING}{GOOD}", "length", "did not come to an end"),
        (JAPANESE, "eos", "did not keep to the language"),
    ],
)
def test_words_that_cannot_be_trusted_are_left_out_and_the_reader_is_told(
    said: str, stopped_by: FinishReason, because: str
) -> None:
    chain = gauge(Language.EN)
    summary = summarize_with_model(chain, Says(said, stopped_by))
    assert summary.told is None
    assert because in (summary.untold_because or "")
    assert because in chain_to_markdown(chain, summary)
    assert because in page([chain], {chain.id: summary})


def test_on_a_japanese_page_the_reader_is_told_in_japanese() -> None:
    chain = gauge(Language.JA)
    summary = summarize_with_model(chain, Says(f"{REASONING}{GOOD}"))
    assert "連鎖の言語（ja）で書かれていません" in page([chain], {chain.id: summary})


def test_a_model_that_says_nothing_leaves_the_quotations() -> None:
    summary = summarize_with_model(gauge(Language.EN), Says(""))
    assert summary.told is None
    assert "wrote nothing" in (summary.untold_because or "")


def test_a_chain_without_steps_is_not_put_to_the_model() -> None:
    engine = Says(GOOD)
    chain = gauge(Language.EN).model_copy(update={"steps": ()})
    assert summarize_with_model(chain, engine).told is None
    assert engine.asked == []
