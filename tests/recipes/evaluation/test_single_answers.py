"""Exact match and F1 against hand-worked cases in three languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonsai.recipes.evaluation.metrics import contains_accepted, exact_match, f1


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("四万二千", "42,000"),
        ("4万2千円です。", "42000円"),
        ("四萬二千", "forty-two thousand"),
        ("３７７６ｍ", "3,776メートル"),
        ("3 km", "3000 m"),
        ("1.5時間", "90分"),
        ("东京。", "东京"),
        ("東京です。", "東京"),
        ("「ミュンヘン」である", "ミュンヘン"),
        ("ﾐｭﾝﾍﾝ", "ミュンヘン"),
        ("The Mount Fuji.", "mount fuji"),
        ("12人", "12"),
        ("BERN", "Bern"),
    ],
)
def test_two_ways_of_writing_one_answer_match(answer: str, reference: str) -> None:
    assert exact_match(answer, reference) == exact_match(reference, answer) == 1.0


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("四万三千", "42,000"),
        ("3 km", "3 m"),
        ("三郎", "四郎"),
        ("北", "北の区画"),
        ("390枚の紙", "390"),
        ("京都", "東京"),
        ("", ""),
        ("not Bern", "Bern"),
    ],
)
def test_two_answers_do_not_match(answer: str, reference: str) -> None:
    assert exact_match(answer, reference) == exact_match(reference, answer) == 0.0


def test_f1_is_that_of_squad_on_its_published_example() -> None:
    """Rajpurkar et al. 2016: bags of tokens, articles aside; worked by hand."""
    # "the Denver Broncos won" against "Denver Broncos": 2 shared, precision 2/3, recall 1
    assert f1("The Denver Broncos won", "Denver Broncos") == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))


def test_f1_goes_by_characters_in_japanese_and_chinese() -> None:
    # 富士山 in 日本の富士山: 3 shared of 6 and of 3
    assert f1("日本の富士山", "富士山") == pytest.approx(2 * 0.5 / 1.5)
    # 信濃 against 信濃川: 2 of 2 and of 3
    assert f1("信濃", "信濃川です。") == pytest.approx(2 * (2 / 3) / (5 / 3))
    # 新德里 against 德里: 2 of 3 and of 2
    assert f1("新德里。", "德里") == pytest.approx(2 * (2 / 3) / (5 / 3))
    # each 々 or 東 counts as often as it stands there
    assert f1("東東東京", "東京") == pytest.approx(2 * 0.5 / 1.5)


def test_f1_reads_numbers_as_values() -> None:
    assert f1("四万二千人", "42,000人") == 1.0
    assert f1("It cost 110,250 yen", "110250 yen") == pytest.approx(2 * 0.5 / 1.5)


def test_f1_gives_nothing_for_letters_that_two_english_sentences_share() -> None:
    assert f1("The answer lies there", "Bern") == 0.0


@given(st.text(max_size=30), st.text(max_size=30))
def test_f1_is_symmetrical_and_between_0_and_1(first: str, second: str) -> None:
    assert f1(first, second) == pytest.approx(f1(second, first))
    assert 0.0 <= f1(first, second) <= 1.0


def test_an_accepted_variant_may_stand_anywhere_but_not_inside_another_word_or_number() -> None:
    assert contains_accepted("答えはワシントンD.C.です。", ["ワシントン"]) == 1.0
    assert contains_accepted("It is 1161 parts.", ["1,161"]) == 1.0
    assert contains_accepted("It is 1390 sheets.", ["390"]) == 0.0
    assert contains_accepted("Oberbern", ["Bern"]) == 0.0
    assert contains_accepted("ウォントンです。", ["ワシントン"]) == 0.0
    assert contains_accepted("", ["390"]) == 0.0
