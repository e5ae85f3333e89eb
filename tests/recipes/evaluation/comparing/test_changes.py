from __future__ import annotations

from dataclasses import replace

import pytest

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.comparison.record import Comparison
from bonsai.recipes.evaluation.comparison.results import ComparisonDiff, diff_comparisons
from bonsai.recipes.inference.generation import BLOG_POST
from tests.recipes.evaluation.comparing.made import answer, comparison, listed

TEXTS = [f"The river of number {number} flows north past {number + 3} towns." for number in range(1, 11)]
GOOD = comparison({"a": [[text, text] for text in TEXTS], "b": [[text] for text in TEXTS]})


def verdicts(found: ComparisonDiff) -> dict[tuple[str, str], str]:
    return {(one.model, one.measure): one.verdict for one in found.changes}


def silent(without: int) -> Comparison:
    """The Reasoning of the first so many questions is gone."""
    said = [
        [answer(text, reasoning="" if number < without else "Rivers have lengths.")] * 2
        for number, text in enumerate(TEXTS)
    ]
    return comparison({"a": said, "b": [[text] for text in TEXTS]})


def test_a_reasoning_that_vanishes_is_a_regression_and_one_that_comes_back_is_none() -> None:
    worse = diff_comparisons(GOOD, silent(8), location="before")
    assert verdicts(worse)["a", "reasoning"] == "worse"
    assert [(one.model, one.measure) for one in worse.worse] == [("a", "reasoning")]
    better = diff_comparisons(silent(8), GOOD, location="before")
    assert verdicts(better)["a", "reasoning"] == "better"
    assert better.worse == ()


def test_what_one_question_of_ten_does_may_be_chance() -> None:
    assert verdicts(diff_comparisons(GOOD, silent(1), location="before"))["a", "reasoning"] == "unchanged"


def test_less_stable_answers_are_a_regression() -> None:
    wavering = [[text, f"Chopin wrote {number} pieces for piano."] for number, text in enumerate(TEXTS)]
    found = diff_comparisons(GOOD, comparison({"a": wavering}), location="before")
    assert verdicts(found)["a", "stability"] == "worse"


def test_the_same_answers_have_changed_nothing() -> None:
    found = diff_comparisons(GOOD, GOOD, location="before")
    assert set(verdicts(found).values()) == {"unchanged"}
    assert [round(one.likeness.value, 4) for one in found.drifts] == [1, 1]
    wavering = comparison({"a": [[text, "Chopin wrote for the piano."] for text in TEXTS]})
    (drift,) = diff_comparisons(wavering, wavering, location="before").drifts
    assert drift.least == pytest.approx(1, abs=1e-4)


def test_the_question_whose_answers_changed_most_is_named() -> None:
    said = [[text] for text in TEXTS]
    said[6] = ["Chopin wrote most of his music for the piano alone."]
    (drift,) = diff_comparisons(GOOD, comparison({"b": said}), location="before").drifts
    assert drift.question == "q7"
    assert drift.least < 0.4 < drift.likeness.value


def test_a_question_counts_by_its_words_and_not_by_its_id() -> None:
    reworded = [listed(number, text=f"Name river {number}.") for number in range(1, 10)]
    other = comparison({"a": [[text] for text in TEXTS]}, [*reworded, listed(99, text="Which river is number 10?")])
    found = diff_comparisons(GOOD, other, location="before")
    assert {one.questions for one in found.changes} == {1}


def test_comparisons_that_cannot_be_compared_are_refused() -> None:
    shorter = GOOD.model_copy(update={"decoder": replace(BLOG_POST, max_new_tokens=64)})
    with pytest.raises(EvaluationError, match=r"before was decoded differently \(max_new_tokens 64 and 1024\)"):
        diff_comparisons(shorter, GOOD, location="before")
    with pytest.raises(EvaluationError, match=r"before has no model in common"):
        diff_comparisons(GOOD, comparison({"c": [["A river."]]}), location="before")
    with pytest.raises(EvaluationError, match=r"before has no question in common"):
        diff_comparisons(GOOD, comparison({"a": [["A river."]]}, [listed(text="Why?")]), location="before")
