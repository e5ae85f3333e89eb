"""The scores of the other categories, of translations, and of the form."""

from __future__ import annotations

from pathlib import Path

import pytest
import sacrebleu

from bonsai.builder.prompt import RESPONSE_MARKER, parse_response
from bonsai.recipes.evaluation.items import EvalItem, read_items
from bonsai.recipes.evaluation.metrics import (
    TOKENIZERS,
    chrf,
    constraint_satisfaction,
    corpus_scores,
    distinct_ideas,
    extract_question,
    foreign_letter_share,
    goes_deeper,
    has_loop,
    is_garbled,
    is_tautology,
    label_accuracy,
    language_match,
    paired_p_values,
    score_answer,
    seq_rep_4,
)
from bonsai.recipes.inference.generation import Completion
from bonsai.recipes.phi2_qtq import RECIPE
from tests.recipes.evaluation.made import said

TEXTS = {
    "ja": (
        ["昨日は雨でした。", "川沿いを歩いて帰りました。"],
        ["昨日は雨だった。", "私たちは川沿いを歩いて帰りました。"],
    ),
    "zh": (["他每天早上先浇花。", "包裹明天到。"], ["他每天早上先浇花，再吃早饭。", "包裹预计明天上午送到。"]),
    "en": (["It was raining.", "We walked home."], ["It was raining yesterday.", "So we walked home along the river."]),
}


@pytest.mark.parametrize("language", TEXTS)
def test_corpus_scores_are_those_of_sacrebleu(language: str) -> None:
    answers, references = TEXTS[language]
    found = corpus_scores(answers, references, language)
    assert found["chrf"].estimate.value == pytest.approx(sacrebleu.corpus_chrf(answers, [references]).score)
    expected = sacrebleu.corpus_bleu(answers, [references], tokenize=TOKENIZERS[language]).score
    assert found["bleu"].estimate.value == pytest.approx(expected)
    assert expected > 0 or language == "en"
    assert f"tok:{TOKENIZERS[language]}" in found["bleu"].signature
    value, low, high = found["chrf"].estimate
    assert low <= value <= high


def test_one_translation_is_scored_as_sacrebleu_scores_it() -> None:
    answer, reference = TEXTS["ja"][0][1], TEXTS["ja"][1][1]
    assert chrf(answer, reference) == pytest.approx(sacrebleu.sentence_chrf(answer, [reference]).score)


def test_translations_that_are_alike_differ_by_chance_and_good_ones_do_not() -> None:
    references = [f"川は{number}番目に長く、海まで流れています。" for number in range(12)]
    worse = ["分かりません。"] * 12
    assert paired_p_values(worse, references, references, "ja")["chrf"] < 0.01
    assert paired_p_values(worse, worse, references, "ja")["bleu"] > 0.5


def test_reasoning_and_answer_are_told_apart_by_the_markers() -> None:
    assert parse_response(f"Because.\n\n{RESPONSE_MARKER}Bern.\n\n### Instruction:\nMore") == ("Because.", "Bern.")
    assert parse_response("Bern, I say.\n### Input: x") == ("", "Bern, I say.")
    assert parse_response(f"{RESPONSE_MARKER}Bern") == ("", "Bern")
    assert parse_response(f"Because.\n\n{RESPONSE_MARKER}") == ("Because.", "")


def test_a_label_counts_alone_or_as_the_only_option_named() -> None:
    asked = "Is it acute, right, or obtuse?"
    assert label_accuracy("Obtuse.", "obtuse", asked) == 1.0
    assert label_accuracy("The triangle is obtuse.", "obtuse", asked) == 1.0
    assert label_accuracy("It is acute or obtuse.", "obtuse", asked) == 0.0
    assert label_accuracy("acute", "obtuse", asked) == 0.0
    assert label_accuracy("秋です。", "秋", "春・夏・秋・冬のどれかに分類してください。") == 1.0
    assert label_accuracy("", "秋", "春・夏・秋・冬のどれかに分類してください。") == 0.0


def test_each_item_of_a_list_gets_its_label_or_not() -> None:
    reference = "Shakespeare: English\nDostoevsky: Russian\nAndersen: Danish"
    asked = "In which language did each author write: English, Russian, or Danish?"
    assert label_accuracy("Andersen: Danish\nShakespeare: English.\nDostoevsky: English", reference, asked) == 2 / 3


def test_ideas_that_come_again_count_once() -> None:
    assert distinct_ideas("1. Share the workload.\n2. Meet every Monday.\n3. Share the workload.") == 2
    assert distinct_ideas("・花を替える。\n・冬至にゆずを置く。\n・花を替える。") == 2
    assert distinct_ideas("Walk to work.\nPlant a tree.") == 2
    assert distinct_ideas("") == 0


def test_a_creative_answer_is_judged_where_its_instruction_can_be_counted() -> None:
    asked = "雨の話を、ちょうど三文で書いてください。"
    assert constraint_satisfaction("雨が降った。傘がない。走った。", asked, "ja") == 1.0
    assert constraint_satisfaction("雨が降った。", asked, "ja") == 0.0
    assert constraint_satisfaction("", asked, "ja") == 0.0
    assert constraint_satisfaction("Anything.", "Write a poem about rain.", "en") is None


INPUT = "Question: Why does bread dough rise?\nReasoning: Yeast gives off gas.\nAnswer: Gas is held by the dough."


def test_a_question_that_goes_deeper_is_told_from_one_that_goes_in_a_circle() -> None:
    deeper = "What in the dough keeps the gas of the yeast from escaping?"
    assert (is_tautology(deeper, INPUT), goes_deeper(deeper, INPUT)) == (0.0, 1.0)
    circle = "Why is it that bread dough rises?"
    assert (is_tautology(circle, INPUT), goes_deeper(circle, INPUT)) == (1.0, 0.0)
    astray = "Who won the football match between Spain and Brazil?"
    assert (is_tautology(astray, INPUT), goes_deeper(astray, INPUT)) == (0.0, 0.0)
    assert (is_tautology("Dough rises.", INPUT), goes_deeper("Dough rises.", INPUT)) == (None, 0.0)


def test_the_new_question_is_found_among_other_sentences() -> None:
    assert extract_question("気体は逃げます。では、何が気体を留めますか。次へ。") == "では、何が気体を留めますか。"
    assert extract_question("1. 何が気体を留めますか？") == "何が気体を留めますか？"
    assert extract_question("Gas escapes. What keeps it in?") == "What keeps it in?"


def test_an_answer_in_another_language_is_wrong_and_an_empty_one_has_none() -> None:
    assert language_match("信濃川は日本で一番長い川です。", "ja", "川です。") == 1.0
    assert language_match("The Shinano is the longest river in Japan.", "ja", "川です。") == 0.0
    assert language_match("信濃川は日本で一番長い川です。", "en", "A river.") == 0.0
    assert language_match("", "en", "A river.") is None


def test_foreign_letters_are_counted_unless_question_or_reference_have_them() -> None:
    assert foreign_letter_share("abc川", "en", "") == 0.25
    assert foreign_letter_share("abc川", "en", "川とは") == 0.0
    assert foreign_letter_share("这个认识", "ja", "") > 0.2
    assert foreign_letter_share("これは川です", "zh", "") > 0.5
    assert foreign_letter_share("река", "ja", "") == 1.0
    assert foreign_letter_share("...", "ja", "") == 0.0


def test_garbled_text_is_seen() -> None:
    assert is_garbled("東京都".encode().decode("cp932", errors="ignore") * 3) == 1.0
    assert is_garbled("東京都です。") == 0.0


def test_repetition_is_a_share_of_ngrams_and_a_loop_a_yes_or_no() -> None:
    looping = "Bern answers 1 question. " * 10
    assert seq_rep_4(looping) == pytest.approx(1 - 4 / 37)
    assert seq_rep_4("each word stands here once only") == 0.0
    assert seq_rep_4("") == 0.0
    assert (has_loop(looping, refrain=False), has_loop("東京です。東京です。東京です。", refrain=False)) == (1.0, 1.0)
    assert has_loop("Bern is the capital. It lies on the Aare.", refrain=False) == 0.0


PERFECT = {"f1", "exact_match", "label", "accepted", "constraints", "language", "reasoning", "eos"}
NONE = {"tautology", "foreign", "mojibake", "loop"}


def test_the_references_themselves_score_as_right_answers(dataset: Path) -> None:
    """No scorer punishes what the records call a good answer, in three languages and all categories."""
    items = read_items(RECIPE, dataset)
    assert {item.language for item in items} == {"ja", "en", "zh"}
    assert {item.origin for item in items} == {"test", "probe"}
    found: list[tuple[EvalItem, dict[str, float]]] = [
        (item, score_answer(item, said(item.reference))) for item in items
    ]
    wrong = [
        (item.id, name, score)
        for item, each in found
        for name, score in each.items()
        if (name in PERFECT and score != 1.0) or (name in NONE and score != 0.0) or (name == "chrf" and score < 99.9)
    ]
    assert wrong == []
    deep = [each["deepens"] for _, each in found if "deepens" in each]
    assert sum(deep) / len(deep) > 0.8
    ideas = [each["ideas"] for _, each in found if "ideas" in each]
    assert min(ideas) >= 3


def test_an_answer_that_never_came_scores_nothing_and_no_crash(dataset: Path) -> None:
    silence = Completion(text="", tokens=1, stopped_by="eos", seconds=0.0)
    for item in read_items(RECIPE, dataset, limit=2):
        found = score_answer(item, silence)
        assert all(found.get(name, 0.0) == 0.0 for name in (*PERFECT - {"eos"}, "deepens", "ideas", "length"))
