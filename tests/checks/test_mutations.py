"""Test that the checks catch faults planted into the published records."""

import pytest

from benchmarks.mutations import caught_by_way


@pytest.mark.slow
def test_checks_catch_nineteen_of_twenty_mutations() -> None:
    result = caught_by_way()
    caught, tried = (sum(pair[place] for pair in result.values()) for place in (0, 1))
    assert tried == 300
    assert caught / tried >= 0.95, result
    assert all(found >= 0.7 * planted for found, planted in result.values()), result
