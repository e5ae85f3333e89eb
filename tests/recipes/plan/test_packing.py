"""Rows by lengths alone are the rows TRL makes."""

from __future__ import annotations

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import pack_dataset

from bonsai.recipes.training.plan.memory import PACKED_TOGETHER, Length, packed_rows, rows_of


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def trls(lengths: list[int], room: int) -> list[list[int]]:
    data = datasets.Dataset.from_list([{"input_ids": [length] * length} for length in lengths])
    packed = pack_dataset(data, room, "bfd")
    return [list(row) for row in packed["seq_lengths"]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 130), min_size=1, max_size=60), st.sampled_from([100, 128, 150]))
def test_rows_are_those_of_trls_best_fit_decreasing(lengths: list[int], room: int) -> None:
    ours = [[min(lengths[index], room) for index in row] for row in packed_rows(lengths, room)]
    assert ours == trls(lengths, room)


def test_more_records_than_trl_packs_together_are_packed_batch_by_batch_as_it_does() -> None:
    lengths = [7 + number * 37 % 83 for number in range(PACKED_TOGETHER + 200)]
    ours = [[lengths[index] for index in row] for row in packed_rows(lengths, 256)]
    assert ours == trls(lengths, 256)


def test_a_micro_batch_of_two_packed_rows_is_one_row_of_both() -> None:
    records = [Length(40, 60)] * 4
    one, two = (rows_of(records, 100, packing=True, batch=batch) for batch in (1, 2))
    assert (one.rows, one.most_tokens, one.most_records) == (4, 100, 1)
    assert (two.rows, two.most_tokens, two.most_records, two.most_learnt) == (4, 200, 2, 120)


def test_unpacked_records_are_padded_to_the_longest_of_the_worst_batch() -> None:
    rows = rows_of([Length(10, 10), Length(40, 60), Length(50, 50)], 128, packing=False, batch=2)
    assert (rows.rows, rows.tokens, rows.most_tokens) == (3, 220, 200)
