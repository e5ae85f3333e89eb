"""Which records each step learnt from: a packed row keeps no ids, so they are found again by their tokens.

Looked up where a batch is put together, on the CPU: asking on the GPU would make every step wait.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from bonsai.recipes.training.prompt import PromptEncoder

COLUMN = "record_ids"


class NamedBatches:
    """TRL's collator, with the ids of the batch's records beside the tensors."""

    def __init__(self, collator: Any, tokenizer: Any, rows: datasets.Dataset) -> None:
        self._collator = collator
        encoder = PromptEncoder(tokenizer)
        self._ids = {tuple(encoder.example(row["prompt"], row["completion"]).ids): row["id"] for row in rows}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The collator's batch and the ids in it; a record that is not among the rows has none."""
        pieces = (piece for example in examples for piece in _records(example))
        found = [self._ids[piece] for piece in pieces if piece in self._ids]
        return {**self._collator(examples), COLUMN: found}


def _records(example: Mapping[str, Any]) -> list[tuple[int, ...]]:
    tokens: list[int] = list(example["input_ids"])
    lengths = example.get("seq_lengths") or [len(tokens)]
    bounds = [0, *itertools.accumulate(lengths)]
    return [tuple(tokens[start:end]) for start, end in itertools.pairwise(bounds)]
