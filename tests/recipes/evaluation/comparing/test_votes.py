from __future__ import annotations

from pathlib import Path

import pytest

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.comparison.voting import (
    VOTES,
    BlindQuestion,
    Vote,
    append_vote,
    blind_questions,
    read_votes,
    valid_votes,
)
from tests.recipes.evaluation.comparing.made import answer, comparison

TWO = comparison({"juniper": [[f"Answer {n}."] for n in range(12)], "pine": [[f"Reply {n}."] for n in range(12)]})
THREE = comparison({"juniper": [["One."]], "pine": [["Two."]], "maple": [["Three."]]})


def of(letters: dict[str, str]) -> BlindQuestion:
    first = next(blind_questions(THREE))
    return BlindQuestion(listed=first.listed, models=letters, answers={letter: answer(letter) for letter in letters})


def test_a_letter_is_another_model_at_another_question_and_the_same_at_another_look() -> None:
    first = [one.models["A"] for one in blind_questions(TWO)]
    assert set(first) == {"juniper", "pine"}
    assert first == [one.models["A"] for one in blind_questions(TWO)]


def test_letters_stand_beside_the_answers_of_their_models() -> None:
    for one in blind_questions(TWO):
        assert {letter: TWO.of(model, one.listed.id)[0] for letter, model in one.models.items()} == one.answers


def test_a_question_that_one_model_alone_answered_is_not_put_to_a_vote() -> None:
    half = comparison({"juniper": [["One."], ["Two."]], "pine": [["Three."]]})
    assert [one.listed.id for one in blind_questions(half)] == ["q1"]


@pytest.mark.parametrize(
    ("judged", "order"),
    [
        ("B A C", (("pine",), ("juniper",), ("maple",))),
        ("b a=c", (("pine",), ("juniper", "maple"))),
        (" C > A = B ", (("maple",), ("juniper", "pine"))),
        ("a=b=c", (("juniper", "pine", "maple"),)),
    ],
)
def test_letters_are_read_from_the_best_to_the_worst(judged: str, order: tuple[tuple[str, ...], ...]) -> None:
    assert of({"A": "juniper", "B": "pine", "C": "maple"}).order(judged) == order


@pytest.mark.parametrize(
    ("judged", "order"),
    [("b", (("pine",), ("juniper",))), ("=", (("juniper", "pine"),)), ("A B", (("juniper",), ("pine",)))],
)
def test_between_two_the_better_one_or_an_equals_sign_is_enough(
    judged: str, order: tuple[tuple[str, ...], ...]
) -> None:
    assert of({"A": "juniper", "B": "pine"}).order(judged) == order


@pytest.mark.parametrize("judged", ["", "A", "A B", "A B D", "A A B", "=", "A B C C", "yes"])
def test_an_order_that_is_none_says_how_to_write_one(judged: str) -> None:
    with pytest.raises(EvaluationError, match=r"does not order A, B, C; give each letter once.*C B A, or A=B=C"):
        of({"A": "juniper", "B": "pine", "C": "maple"}).order(judged)


def test_votes_are_kept_one_after_the_other_and_the_later_counts(tmp_path: Path) -> None:
    first = next(blind_questions(TWO))
    for order in ("A", "B", "="):
        append_vote(tmp_path, Vote(question=first.listed.id, order=first.order(order), answers=first.digest))
    assert len((tmp_path / VOTES).read_text(encoding="utf-8").splitlines()) == 3
    (vote,) = read_votes(tmp_path)
    assert vote.order == first.order("=")


def test_a_vote_does_not_count_for_answers_that_came_later(tmp_path: Path) -> None:
    first = next(blind_questions(TWO))
    append_vote(tmp_path, Vote(question=first.listed.id, order=first.order("A"), answers=first.digest))
    assert len(valid_votes(TWO, read_votes(tmp_path))) == 1
    others = comparison({"juniper": [["Something else."]], "pine": [["Reply 0."]]})
    assert valid_votes(others, read_votes(tmp_path)) == []


def test_no_votes_are_no_trouble_and_a_broken_line_is_named(tmp_path: Path) -> None:
    assert read_votes(tmp_path) == []
    (tmp_path / VOTES).write_text('{"question": "q1"\n', encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"votes.jsonl:1: not a vote .*; delete this line"):
        read_votes(tmp_path)
