"""An evaluation from answers to files: kept as it comes, read again, compared, shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.answer_cache import AnswerCache, Generate, answer_with_cache
from bonsai.recipes.evaluation.report import eval_results, evaluation_facts, page
from bonsai.recipes.evaluation.results import compare_evaluations, load_evaluation, read_evaluation
from bonsai.recipes.inference.generation import BLOG_POST, Completion, OnAnswer
from tests.recipes.evaluation.made import evaluated, item, said

ITEMS = [item(number) for number in range(1, 13)]
RIGHT, WRONG = said("the river Shinano"), said("no idea", reasoning="")
IDENTITY = {"base_model": "x", "decoder": {"temperature": 0}}


class PowerCutError(Exception):
    """The power went."""


def answering(limit: int, asked: list[str]) -> Generate:
    """An engine whose machine dies after so many answers."""

    def ask(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        for place, prompt in enumerate(prompts):
            if place == limit:
                raise PowerCutError
            asked.append(prompt)
            on_answer(place, said(f"river {len(prompt)} {prompt[-30:]}"))

    return ask


def test_an_evaluation_that_was_killed_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    whole = answer_with_cache(
        ITEMS, answering(99, []), AnswerCache(tmp_path / "whole", IDENTITY), lambda done, total: None
    )
    asked: list[str] = []
    told: list[tuple[int, int]] = []
    with pytest.raises(PowerCutError):
        answer_with_cache(
            ITEMS, answering(5, asked), AnswerCache(tmp_path / "cut", IDENTITY), lambda *n: told.append(n)
        )
    journal = AnswerCache[Completion](tmp_path / "cut", IDENTITY)
    with journal.path.open("a") as file:
        file.write('{"prompt": "half a li')  # the machine died while it wrote
    resumed = answer_with_cache(
        ITEMS, answering(99, asked), AnswerCache(tmp_path / "cut", IDENTITY), lambda *n: told.append(n)
    )
    assert resumed == whole
    assert sorted(asked) == sorted(one.prompt for one in ITEMS)
    assert (5, 12) in told
    assert told[-1] == (12, 12)


def test_answers_of_another_model_or_decoder_are_not_taken(tmp_path: Path) -> None:
    AnswerCache[Completion](tmp_path, IDENTITY).add("prompt", RIGHT)
    assert AnswerCache[Completion](tmp_path, IDENTITY).get("prompt") == RIGHT
    assert AnswerCache[Completion](tmp_path, {**IDENTITY, "decoder": {"temperature": 0.2}}).get("prompt") is None


def test_an_answer_with_unicode_line_separators_is_found_again(tmp_path: Path) -> None:
    odd = said("one\u2028two\x85three\x0cfour")
    AnswerCache[Completion](tmp_path, IDENTITY).add("prompt", odd)
    assert AnswerCache[Completion](tmp_path, IDENTITY).get("prompt") == odd


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    translation = [
        item(n, task="translation", category="translation", language="ja", source_language="en", reference="川です。")
        for n in (50, 51)
    ]
    items = [*ITEMS, *translation]
    made = evaluated(items, [WRONG] * 14, [RIGHT] * 14)
    path = made.write(tmp_path)
    assert read_evaluation(path) == made
    assert {line.metric for line in made.corpus_lines} == {"chrf", "bleu"}
    path.write_text("{}")
    with pytest.raises(EvaluationError, match="not an evaluation this version can read"):
        read_evaluation(path)
    with pytest.raises(EvaluationError, match=r"there is no such evaluation; run `bonsai evaluate` first"):
        read_evaluation(tmp_path / "nowhere.json")


def test_scores_are_summed_up_by_category_and_language_with_their_difference() -> None:
    made = evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 6 + [WRONG] * 6)
    line = next(line for line in made.lines if (line.category, line.spoken, line.metric) == ("open_qa", "en", "f1"))
    assert line.answers == 12
    assert line.after is not None
    assert line.difference is not None
    assert (line.before.value, line.after.value, line.difference.value) == (0.0, 0.5, 0.5)
    assert line.difference.low > 0
    assert line.difference.p == pytest.approx(2 / 64)
    reasoning = next(line for line in made.lines if (line.category, line.metric) == ("all", "reasoning"))
    assert reasoning.after is not None
    assert (reasoning.before.value, reasoning.after.value) == (0.0, 0.5)


def test_what_got_worse_beyond_chance_is_a_regression_and_what_did_not_is_none() -> None:
    good = evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 12)
    bad = evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 4 + [WRONG] * 8)
    verdicts = {(change.category, change.metric): change.verdict for change in compare_evaluations(good, bad)}
    assert verdicts["open_qa", "f1"] == "worse"
    assert verdicts["all", "reasoning"] == "worse"
    assert verdicts["all", "loop"] == "unchanged"
    assert {change.verdict for change in compare_evaluations(good, good)} == {"unchanged"}
    assert {change.verdict for change in compare_evaluations(bad, good)} == {"better", "unchanged"}


def test_one_answer_that_got_worse_is_chance() -> None:
    good = evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 12)
    slip = evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 11 + [WRONG])
    assert {change.verdict for change in compare_evaluations(good, slip)} == {"unchanged"}


def test_evaluations_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    made = evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 12)
    with pytest.raises(EvaluationError, match=r"decoded differently \(max_new_tokens 1024 and 256, temperature 0.2"):
        compare_evaluations(evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 12, decoder=BLOG_POST), made)
    others = [replace(one, instruction="Another?") for one in ITEMS]
    with pytest.raises(EvaluationError, match="no question in common"):
        compare_evaluations(evaluated(others, [WRONG] * 12, [RIGHT] * 12), made)
    made.write(tmp_path / "evaluation")
    read = load_evaluation(str(tmp_path), "qeu/x")
    assert {change.verdict for change in compare_evaluations(read, made)} == {"unchanged"}


def test_no_text_of_a_model_becomes_markup() -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>\" ' </p>"
    asked = [item(1, instruction=nasty, reference=nasty), item(2, origin="probe", category="capital", input=nasty)]
    html = page(evaluated(asked, [said(nasty, nasty), said(nasty)], [said(nasty, nasty), said(nasty)]))
    assert html.count("&lt;script&gt;alert(1)") == 9
    assert not re.search(r"<(?:script|img)", html)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert not re.search(r"""(?:src|href)=|url\(|@import""", html.replace("&lt;img src=x", ""))


def test_the_page_shows_both_sides_in_two_languages_and_the_bare_model_alone() -> None:
    both = page(evaluated(ITEMS, [WRONG] * 12, [RIGHT] * 12))
    for text in ("学習前", "before", "after", "no idea", "Rivers have lengths.", "the river Shinano", "+100 %"):
        assert text in both
    alone = page(evaluated(ITEMS, [WRONG] * 12, [None] * 12, adapter_sha256=None, adapter_repo=None))
    assert "the bare base model" in alone
    assert "difference" not in alone.split("<main>")[1]


def test_the_hubs_client_takes_the_results_for_a_model_card() -> None:
    asked = [*ITEMS, item(90, origin="probe", category="capital", task="accepted", accepted=("Shinano",))]
    results = eval_results(evaluated(asked, [WRONG] * 13, [RIGHT] * 13))
    assert [(r.metric_type, r.metric_value, r.dataset_config, r.dataset_split) for r in results] == [
        ("f1", 1.0, "default", "test"),
        ("accepted", 1.0, "probes", "test"),
    ]
    assert {result.dataset_revision for result in results} == {"v0.1.0"}
    index = eval_results_to_model_index("bonsai-tiny", results)
    name, read = model_index_to_eval_results(json.loads(json.dumps(index)))
    assert name == "bonsai-tiny"
    assert [result.metric_name for result in read] == [result.metric_name for result in results]


def test_the_card_gets_scores_with_intervals_and_the_probes_with_their_failures() -> None:
    probe = item(90, origin="probe", category="capital", task="accepted", accepted=("Shinano",), input="Say.")
    facts = evaluation_facts(evaluated([*ITEMS, probe], [WRONG] * 13, [RIGHT] * 12 + [WRONG]))
    assert facts.generation_settings == "greedy, at most 256 new tokens, float32"
    assert facts.adapter_sha256 == "1" * 64
    row = next(row for row in facts.scores if row.metric == "F1")
    assert row[:6] == ("open_qa (test)", "en", "F1", 12, 0.0, 1.0)
    assert row.difference == (1.0, 1.0)
    assert [probe[:] for probe in facts.probes] == [
        ("Which river is number 90?\nSay.", "Shinano", "no idea", "no idea", False, False)
    ]
    with pytest.raises(EvaluationError, match="only the bare model was evaluated"):
        evaluation_facts(evaluated(ITEMS, [WRONG] * 12, [None] * 12, adapter_sha256=None))
