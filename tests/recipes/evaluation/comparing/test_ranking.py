from __future__ import annotations

import math

import numpy as np
import pytest

from bonsai.recipes.evaluation.comparison.voting import Ballot, fit_bradley_terry, ranking

TRUE = {"a": 0.8, "b": 0.3, "c": -0.2, "d": -0.9}
A_OVER_B = (("a",), ("b",))
B_OVER_A = (("b",), ("a",))


def test_three_wins_of_four_are_odds_of_three_to_one() -> None:
    strengths = fit_bradley_terry(np.array([[0.0, 3.0], [1.0, 0.0]]), prior=0)
    assert strengths[0] - strengths[1] == pytest.approx(math.log(3), abs=1e-5)
    assert strengths.sum() == pytest.approx(0, abs=1e-9)


def test_half_a_win_either_way_keeps_the_unbeaten_finite() -> None:
    first, second = ranking([A_OVER_B] * 4, ["b", "a"])
    assert first.model == "a"
    assert first.strength.value - second.strength.value == pytest.approx(math.log(4.5 / 0.5), abs=1e-4)
    assert first.preferred.value == pytest.approx(0.9, abs=1e-4)


def test_a_hand_worked_case_of_three() -> None:
    # a:b 2:1, b:c 2:1, a:c 4:1 fit strengths 4:2:1 exactly: each pair's odds are the ratio of strengths
    wins = np.array([[0, 2, 4], [1, 0, 2], [1, 1, 0]], dtype=np.float64)
    assert fit_bradley_terry(wins, prior=0) == pytest.approx([math.log(2), 0, -math.log(2)], abs=1e-5)


def test_a_circle_of_wins_has_no_best() -> None:
    circle = [(("a",), ("b",)), (("b",), ("c",)), (("c",), ("a",))]
    assert [one.strength.value for one in ranking(circle, ["a", "b", "c"])] == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_tie_is_half_a_win_for_either() -> None:
    level = ranking([(("a", "b"),)] * 5, ["a", "b"])
    assert [one.preferred.value for one in level] == pytest.approx([0.5, 0.5], abs=1e-6)
    mixed = {one.model: one for one in ranking([A_OVER_B, B_OVER_A, A_OVER_B, (("a", "b"),)], ["a", "b"])}
    assert mixed["a"].strength.value - mixed["b"].strength.value == pytest.approx(math.log(3 / 2), abs=1e-4)


def test_an_order_of_three_is_three_wins() -> None:
    found = ranking([(("c",), ("a", "b"))] * 3, ["a", "b", "c"])
    assert found[0].model == "c"
    assert found[1].strength.value == pytest.approx(found[2].strength.value, abs=1e-5)


def drawn(draw: np.random.Generator, strengths: dict[str, float], votes: int) -> list[Ballot]:
    ballots: list[Ballot] = []
    for _ in range(votes):
        one, other = draw.choice(list(strengths), 2, replace=False).tolist()
        wins = draw.random() < 1 / (1 + math.exp(strengths[other] - strengths[one]))
        ballots.append(((one,), (other,)) if wins else ((other,), (one,)))
    return ballots


def test_known_strengths_are_found_again() -> None:
    found = ranking(drawn(np.random.default_rng(7), TRUE, 4000), list(TRUE))
    assert [one.model for one in found] == list(TRUE)
    assert [one.strength.value for one in found] == pytest.approx(list(TRUE.values()), abs=0.1)


def test_nineteen_of_twenty_intervals_hold_the_true_strength() -> None:
    draw = np.random.default_rng(11)
    inside = [
        one.strength.low < TRUE[one.model] < one.strength.high
        for _ in range(6)
        for one in ranking(drawn(draw, TRUE, 200), list(TRUE))
    ]
    assert sum(inside) >= 20  # of 24


def test_few_votes_leave_the_order_open() -> None:
    first, second = ranking([A_OVER_B, B_OVER_A, A_OVER_B], ["a", "b"])
    assert first.strength.low < second.strength.high
    assert ranking([A_OVER_B, B_OVER_A, A_OVER_B], ["a", "b"]) == [first, second]
