"""Intervals and the paired test against known cases and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test

from bonsai.recipes.evaluation.statistics import (
    EXACT_UP_TO,
    RESAMPLES,
    MeanDifference,
    mean_interval,
    paired_difference,
)

SCORES = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)), min_size=1, max_size=30)


def test_the_interval_of_a_large_sample_is_that_of_the_normal_approximation() -> None:
    values = [0.0, 1.0] * 200
    found = mean_interval(values)
    half = 1.96 * 0.5 / math.sqrt(400)
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.005)


def test_the_interval_of_three_values_is_the_one_of_all_27_resamples() -> None:
    """Means of 0, 0, 3 resampled: 0 with (2/3)^3 = .296, 3 with 1/27 = .037: so 2.5% and 97.5% are the extremes."""
    assert mean_interval([0.0, 0.0, 3.0]) == pytest.approx((1.0, 0.0, 3.0))


def test_the_same_values_give_the_same_interval() -> None:
    assert mean_interval([0.1, 0.7, 0.4]) == mean_interval([0.1, 0.7, 0.4])


def test_the_paired_test_of_few_differences_is_exact() -> None:
    # all of 6 got better by as much: 2 of 2^6 sign patterns are as extreme
    assert paired_difference([0.0] * 6, [1.0] * 6).p == pytest.approx(2 / 64)
    # 4 better, 1 worse: |sum| >= 3 has 2 * (1 + 5) of 32
    assert paired_difference([0, 0, 0, 0, 1], [1, 1, 1, 1, 0]).p == pytest.approx(12 / 32)


def test_no_difference_is_certain_chance() -> None:
    assert paired_difference([0.3, 0.9], [0.3, 0.9]) == (0.0, 0.0, 0.0, 1.0)


def test_many_differences_of_one_sign_are_no_chance() -> None:
    assert paired_difference([0.0] * 40, [0.1] * 40).p == pytest.approx(1 / 10_001)


@given(SCORES)
def test_swapping_the_sides_turns_the_signs_and_nothing_else(pairs: list[tuple[float, float]]) -> None:
    before, after = [one for one, _ in pairs], [other for _, other in pairs]
    there, back = paired_difference(before, after), paired_difference(after, before)
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == pytest.approx(back.p)


@pytest.mark.parametrize("size", [3, 20, 200])
def test_the_bootstrap_interval_is_that_of_scipy(size: int) -> None:
    sample = np.random.default_rng(size).gamma(1.0, size=size)
    expected = bootstrap((sample,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(1))
    found = mean_interval(sample.tolist())
    # two draws of 10,000 resamples differ by a few hundredths of the interval's width
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.05 * width)


@pytest.mark.parametrize(("size", "shift"), [(6, 0.5), (EXACT_UP_TO, 0.3), (EXACT_UP_TO + 1, 0.4), (60, 0.15)])
def test_the_sign_flip_test_is_the_permutation_test_of_scipy(size: int, shift: float) -> None:
    generator = np.random.default_rng(size)
    before = generator.normal(size=size)
    after = before + generator.normal(shift, 1.0, size)
    expected = permutation_test(
        (before, after),
        lambda one, other, axis: np.mean(other - one, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_UP_TO,
        rng=np.random.default_rng(1),
    )
    found = paired_difference(before.tolist(), after.tolist())
    exact = size <= EXACT_UP_TO
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12 if exact else 0.02)
    assert 0.001 < found.p < 0.9


def test_a_verdict_needs_the_interval_and_the_test() -> None:
    sure = MeanDifference(0.2, 0.1, 0.3, 0.01)
    assert [sure.verdict(one) for one in ("higher", "lower")] == ["better", "worse"]
    assert MeanDifference(0.2, 0.1, 0.3, 0.05).verdict("higher") == "unchanged"
    assert MeanDifference(0.2, -0.1, 0.3, 0.01).verdict("higher") == "unchanged"
    assert MeanDifference(-0.2, -0.3, -0.1, 0.01).verdict("higher") == "worse"
