from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonsai.recipes.inference.summary import LONGEST, SENTENCES, extract_key_sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("富士山です。高さは3,776メートルあります！", ["富士山です。", "高さは3,776メートルあります！"]),
        ("「もう遅い。」と言った。帰った。", ["「もう遅い。」", "と言った。", "帰った。"]),
        ("是富士山。它高3776米。", ["是富士山。", "它高3776米。"]),
        (
            "It is Mt. Fuji. It is 3.8 km high, i.e. very high. Why?",
            [
                "It is Mt. Fuji.",
                "It is 3.8 km high, i.e. very high.",
                "Why?",
            ],
        ),
        ("- first point\n- second point\n3. third", ["first point", "second point", "third"]),
        ("One. One. One.", ["One."]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_a_text_falls_into_its_sentences(text: str, found: list[str]) -> None:
    assert split_sentences(text) == found


def test_the_sentence_that_answers_is_preferred_to_one_that_says_the_question_again() -> None:
    question = "なぜ味噌汁は沸騰させないほうがよいのですか。"
    answer = "味噌汁は沸騰させないほうがよいのです。香りの成分は熱で飛び、味噌の風味が弱くなります。"
    assert extract_key_sentences("", answer, known=[question]) == ["香りの成分は熱で飛び、味噌の風味が弱くなります。"]


def test_what_an_earlier_step_taught_is_not_learnt_again() -> None:
    learnt = "Heat drives off the aroma of the miso."
    answer = f"{learnt} Below ninety degrees the enzymes keep working for some minutes."
    assert extract_key_sentences("", answer, known=[learnt]) == [
        "Below ninety degrees the enzymes keep working for some minutes."
    ]


def test_an_answer_that_says_nothing_new_is_still_quoted() -> None:
    assert extract_key_sentences("", "It is so.", known=["It is so."]) == ["It is so."]


def test_a_second_sentence_is_quoted_only_if_it_says_something() -> None:
    answer = "Sake kasu is what is left when sake is pressed from the fermented mash. Yes. It is so."
    assert extract_key_sentences("", answer) == [
        "Sake kasu is what is left when sake is pressed from the fermented mash."
    ]


def test_no_answer_gives_no_sentence() -> None:
    assert extract_key_sentences("A reason.", "") == []


def test_text_without_full_stops_is_cut() -> None:
    (cut,) = extract_key_sentences("", "とても" * 300)
    assert len(cut) <= LONGEST
    assert cut.endswith("…")


@given(reasoning=st.text(), answer=st.text(), known=st.lists(st.text(), max_size=3))
def test_nothing_is_invented(reasoning: str, answer: str, known: list[str]) -> None:
    found = extract_key_sentences(reasoning, answer, known=known)
    assert len(found) <= SENTENCES
    assert bool(found) == bool(split_sentences(answer))
    for sentence in found:
        assert sentence.removesuffix("…") in answer
