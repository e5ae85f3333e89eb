"""Which records share a row: TRL's packing="bfd" by lengths alone, so that a plan needs neither torch nor tokens."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Length(NamedTuple):
    """One record, in tokens."""

    prompt: int
    completion: int
    """with the end mark"""

    @property
    def whole(self) -> int:
        """Prompt and completion."""
        return self.prompt + self.completion


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the rows of one run never exceed, and what they hold together."""

    rows: int
    """without batching"""
    records: int
    tokens: int
    """of all records"""
    learnt: int
    """of them in completions"""
    attended: int
    """sum of the squares of the records' lengths: what attention within records costs"""
    most_tokens: int
    most_learnt: int
    most_records: int
    longest: int
    """tokens of the longest record"""
    most_padded: int
    """records of a row times its longest, the greatest: what the attention kernel pads its own buffers to"""


PACKED_TOGETHER = 1000
"""records: `trl.pack_dataset` maps over the dataset in batches of datasets' default size, and packs each by itself"""


def packed_rows(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices of the records in each row, as `trl.pack_dataset(strategy="bfd")` puts them."""
    starts = range(0, len(lengths), PACKED_TOGETHER)
    return [
        [start + index for index in row]
        for start in starts
        for row in best_fit_decreasing(lengths[start : start + PACKED_TOGETHER], room)
    ]


def best_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Longest first; each goes where the least space is left that still holds it, among equals where it came up first.

    https://huggingface.co/papers/2404.10830
    """
    spaces: list[int] = []  # distinct, ascending
    rows_with: defaultdict[int, deque[int]] = defaultdict(deque)
    packed: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = min(lengths[index], room)
        if length == 0:
            continue
        place = bisect_left(spaces, length)
        if place < len(spaces):
            space = spaces[place]
            row = rows_with[space].popleft()
            if not rows_with[space]:
                spaces.pop(place)
        else:
            row = len(packed)
            packed.append([])
            left.append(room)
        packed[row].append(index)
        left[row] -= length
        if left[row]:
            if not rows_with[left[row]]:
                insort(spaces, left[row])
            rows_with[left[row]].append(row)
    return packed


def rows_of(records: Sequence[Length], max_length: int, *, packing: bool, batch: int) -> Rows:
    """The rows of a run; rows of one micro-batch are joined, as the padding-free collator joins packed ones.

    Args:
        max_length: a longer record counts as cut to it.
        batch: rows a micro-step. Unpacked ones are padded to the longest, and the worst batch is taken that chance can
            draw.
    """
    whole = [min(record.whole, max_length) for record in records]
    if packing:
        single = packed_rows(whole, max_length)
    else:
        single = [[number] for number in sorted(range(len(records)), key=lambda number: -whole[number])]
    joined = [[index for row in single[at : at + batch] for index in row] for at in range(0, len(single), batch)]
    lengths = [[whole[index] for index in row] for row in joined]
    return Rows(
        rows=len(single),
        records=len(records),
        tokens=sum(whole),
        learnt=sum(record.completion for record in records),
        attended=sum(length**2 for length in whole),
        most_tokens=max(sum(row) if packing else len(row) * max(row) for row in lengths),
        most_learnt=max(sum(records[index].completion for index in row) for row in joined),
        most_records=max(map(len, joined)),
        longest=max(whole),
        most_padded=max(len(row) * max(row) for row in lengths),
    )
