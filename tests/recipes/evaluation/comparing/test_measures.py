from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonsai.builder.errors import EvaluationError
from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.comparison.record import Comparison, ComparisonQuestion, ModelRun, read_comparison
from bonsai.recipes.evaluation.comparison.results import (
    CSV,
    MEASURED,
    PIECE,
    answer_scores,
    answers_csv,
    embed_long_texts,
    exact_agreement,
    results,
    write_results,
)
from bonsai.recipes.inference.conversation import Question
from tests.recipes.evaluation.comparing.made import answer, comparison, listed, round_

SHINANO = "The Shinano is the longest river in Japan and flows into the Sea of Japan."
SHINANO_TOO = "Japan's longest river is the Shinano, which reaches the Sea of Japan."
CHOPIN = "Chopin wrote most of his music for the piano alone."


def found_for(said: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {
        one.model: {name: estimate.value for name, estimate in one.estimates.items()}
        for one in results(comparison(said)).measured
    }


def test_a_model_that_says_the_same_again_is_stable_and_one_that_does_not_is_not() -> None:
    found = found_for(
        {
            "parrot": [[SHINANO, SHINANO, SHINANO]],
            "friend": [[SHINANO, SHINANO_TOO, SHINANO]],
            "dreamer": [[SHINANO, CHOPIN, ""]],
        }
    )
    assert found["parrot"]["stability"] == pytest.approx(1, abs=1e-5)
    assert found["parrot"]["verbatim"] == 1
    assert 0.6 < found["friend"]["stability"] < 0.999
    assert found["friend"]["verbatim"] == pytest.approx(1 / 3)
    assert found["dreamer"]["stability"] < 0.3


def test_a_single_sample_says_nothing_of_stability() -> None:
    found = found_for({"once": [[SHINANO], [CHOPIN]]})
    assert not {"stability", "verbatim"} & set(found["once"])


def test_answers_are_the_same_word_for_word_whatever_their_width_and_marks() -> None:
    assert exact_agreement([answer("高さは3,776メートルです。"), answer("高さは３７７６メートル")]) == 1
    assert exact_agreement([answer("3,776 metres"), answer("3,777 metres")]) == 0
    assert exact_agreement([answer("3,776 metres")]) is None


def test_a_long_answer_is_read_to_its_end() -> None:
    beginning = (SHINANO + " ") * (1 + PIECE // len(SHINANO))
    one, other = embed_long_texts([beginning + SHINANO * 6, beginning + CHOPIN * 9])
    assert float(one @ other) < 0.9
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)


def test_likeness_is_between_models_and_on_the_diagonal_among_ones_own_samples() -> None:
    found = results(
        comparison({"a": [[SHINANO, SHINANO]], "b": [[SHINANO_TOO, SHINANO_TOO]], "c": [[CHOPIN, SHINANO]]})
    )
    cosines = {(pair.first, pair.second): pair.likeness.value for pair in found.matrix}
    assert set(cosines) == {("a", "a"), ("a", "b"), ("a", "c"), ("b", "b"), ("b", "c"), ("c", "c")}
    assert cosines["a", "a"] > cosines["a", "b"] > cosines["a", "c"] > cosines["c", "c"]


def test_answers_to_different_questions_tell_where_likeness_begins() -> None:
    found = results(comparison({"a": [[SHINANO], [CHOPIN]], "b": [[SHINANO_TOO], [CHOPIN]], "c": [[SHINANO]] * 2}))
    pairs = {(pair.first, pair.second): pair for pair in found.matrix}
    likeness, by_chance = pairs["a", "b"].likeness.value, pairs["a", "b"].by_chance
    assert by_chance is not None
    assert by_chance < 0.3 < likeness
    # whatever it is asked, c tells of the same river
    assert pairs["a", "c"].likeness.value == pytest.approx(pairs["a", "c"].by_chance)
    (alone,) = results(comparison({"a": [[SHINANO, SHINANO]]})).matrix
    assert alone.by_chance is None


@pytest.mark.parametrize(
    ("text", "measure", "value"),
    [
        ("信濃川が日本で一番長い川です。", "language", 0),
        (SHINANO, "language", 1),
        ("The river is called Шинано.", "foreign", pytest.approx(6 / 22)),
        ("The river ï¿½ï¿½ \ufffd\ufffd Shinano.", "mojibake", 1),
        ("It is long. " * 8, "loop", 1),
        (SHINANO, "loop", 0),
        (SHINANO, "accepted", 1),
        (CHOPIN, "accepted", 0),
        ("", "reasoning", 0),
    ],
)
def test_the_form_of_an_answer_is_scored(text: str, measure: str, value: float) -> None:
    assert answer_scores(listed(accepted=("Shinano",)), answer(text))[measure] == value


def test_a_reasoning_that_took_a_second_pass_is_present_and_counted() -> None:
    scores = answer_scores(listed(), answer(SHINANO, passes=2, second_pass_because="it was missing"))
    assert (scores["reasoning"], scores["two_passes"]) == (1, 1)
    assert answer_scores(listed(), answer(SHINANO, reasoning=""))["reasoning"] == 0


def test_samples_of_a_question_do_not_make_the_interval_narrower() -> None:
    once = results(comparison({"a": [[SHINANO], [CHOPIN], [SHINANO * 3]]})).measured[0].estimates["length"]
    often = results(comparison({"a": [[SHINANO] * 5, [CHOPIN] * 5, [SHINANO * 3] * 5]})).measured[0].estimates["length"]
    assert once == often


def test_speed_is_that_of_whole_rounds_and_cost_that_of_the_devices_list_price() -> None:
    sides = (
        ModelRun(name="a", device="Tesla T4", usd_per_hour=0.36, rounds=(round_(), round_(tokens=40, seconds=4.0))),
        ModelRun(name="b"),
    )
    first, second = results(comparison({"a": [[SHINANO]], "b": [[SHINANO]]}, models=sides)).measured
    assert first.tokens_per_second == pytest.approx(120 / 6)
    assert first.usd_per_1000 == pytest.approx(0.36 / 3600 * 6 / 8 * 1000)
    assert second.tokens_per_second is None
    assert second.usd_per_1000 is None


def test_a_model_that_failed_halfway_is_measured_by_what_it_said() -> None:
    found = results(comparison({"a": [[SHINANO, SHINANO], [CHOPIN, CHOPIN]], "b": [[SHINANO_TOO]], "c": []}))
    assert [one.answers for one in found.measured] == [4, 1, 0]
    assert found.measured[2].estimates == {}
    assert {(pair.first, pair.second) for pair in found.matrix} == {("a", "a"), ("a", "b")}


def test_the_csv_has_a_line_an_answer_and_no_cell_that_a_spreadsheet_would_run() -> None:
    made = comparison({"a": [["=HYPERLINK(1)", 'two\nlines, "quoted"']], "b": [["-5 degrees"]]})
    lines = list(csv.DictReader(io.StringIO(answers_csv(made))))
    assert [(line["model"], line["sample"], line["answer"]) for line in lines] == [
        ("a", "1", "'=HYPERLINK(1)"),
        ("a", "2", 'two\nlines, "quoted"'),
        ("b", "1", "'-5 degrees"),
    ]
    assert made.answers[0].answer.answer == "=HYPERLINK(1)"


def test_figures_and_answers_lie_in_the_folder(tmp_path: Path) -> None:
    write_results(results(comparison({"a": [[SHINANO, SHINANO]], "b": [[CHOPIN]]})), tmp_path)
    told = json.loads((tmp_path / MEASURED).read_text(encoding="utf-8"))
    assert told["measures"][0]["model"] == "a"
    assert set(told["measures"][0]["estimates"]["stability"]) == {"value", "low", "high"}
    assert told["by_question"]["a"]["verbatim"] == {"q1": 1.0}
    assert (tmp_path / CSV).read_bytes().startswith("\ufeffquestion,".encode())


def test_a_comparison_that_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    japanese = ComparisonQuestion(
        id="山", group="g", question=Question(instruction="山は？", language=Language.JA, system="庭師")
    )
    made = comparison({"a": [[answer("富士山です。", language=Language.JA)]]}, [japanese])
    made.write(tmp_path)
    assert read_comparison(tmp_path) == made


def test_a_folder_without_a_comparison_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"there is no comparison here; run `bonsai compare` first"):
        read_comparison(tmp_path)
    (tmp_path / "comparison.json").write_text('{"lists": []}')
    with pytest.raises(EvaluationError, match=r"not a comparison this version can read .*compare again"):
        read_comparison(tmp_path)


def test_a_model_asked_nothing_yet_has_no_answers() -> None:
    made: Comparison = comparison({"a": [[SHINANO]]})
    assert made.of("a", "q2") == []
