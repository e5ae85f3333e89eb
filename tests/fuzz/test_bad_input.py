"""Whatever bytes come in, the person gets a sentence: never a traceback, never a hang."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


@st.composite
def damaged(draw: st.DrawFn, target: str) -> bytes:
    """A good input with a few pieces cut out, put in or doubled."""
    data = draw(st.sampled_from(seeds(target)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 40, len(data))))
        piece = draw(
            st.one_of(st.binary(max_size=12), st.text(max_size=8).map(str.encode), st.just(data[start:end] * 3))
        )
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize("target", TARGETS)
def test_a_good_input_that_was_damaged_is_read_or_refused_with_a_sentence(target: str) -> None:
    @settings(
        max_examples=60, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.too_slow], derandomize=True
    )
    @given(damaged(target))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_are_read_or_refused_with_a_sentence(target: str) -> None:
    @settings(max_examples=60, deadline=timedelta(seconds=5), derandomize=True)
    @given(st.binary(max_size=200))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()


NESTED = b"[" * 200_000
LONG = b"9" * 5_000
"""more digits than Python turns into a number"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("data", [NESTED, LONG, b"bytes=" + LONG + b"-\n", b"\xff\xfe" * 500, b"\0" * 5_000, b""])
def test_what_is_deep_long_or_empty_is_no_trouble(target: str, data: bytes) -> None:
    TARGETS[target](data)


@pytest.mark.parametrize("target", ["records", "import.json", "import.jsonl", "readme"])
def test_a_number_too_long_for_python_in_a_good_place_is_a_sentence(target: str) -> None:
    line = json.dumps({"instruction": "x", "output": 1}).replace("1", "9" * 5_000).encode()
    TARGETS[target](b"---\nlicense: " + line + b"\n---\n" if target == "readme" else line)
