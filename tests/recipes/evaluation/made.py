"""Items and evaluations made by hand, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bonsai.builder.prompt import RESPONSE_MARKER
from bonsai.recipes.evaluation.evaluate import score_answers
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.evaluation.results import Evaluation, Settings
from bonsai.recipes.inference.generation import GREEDY, Completion


def item(number: int = 1, **fields: Any) -> EvalItem:
    return EvalItem(
        **{
            "id": f"open_qa-{number:04d}-en",
            "origin": "test",
            "category": "open_qa",
            "task": "single_answer",
            "language": "en",
            "source_language": None,
            "instruction": f"Which river is number {number}?",
            "input": "",
            "reference": "the river Shinano",
            **fields,
        }
    )


def said(answer: str, reasoning: str = "Rivers have lengths.") -> Completion:
    text = f"{reasoning}\n\n{RESPONSE_MARKER}{answer}" if reasoning else answer
    return Completion(text=text, tokens=9, stopped_by="eos", seconds=0.1)


def settings(**fields: Any) -> Settings:
    return Settings(
        **{
            "base_model": "qeu/base",
            "base_model_revision": "v1.0",
            "base_model_commit": "0" * 40,
            "adapter_repo": "qeu/bonsai-tiny",
            "adapter_sha256": "1" * 64,
            "dataset": "qeu/bonsai",
            "dataset_revision": "v0.1.0",
            "dataset_content_hash": "2" * 64,
            "categories": ("open_qa",),
            "languages": ("en",),
            "limit": None,
            "decoder_name": "greedy",
            "decoder": GREEDY,
            "device": "CPU",
            "dtype": "float32",
            "interval_level": 0.95,
            "resamples": 10_000,
            "seed": 42,
            "versions": {"torch": "2"},
            **fields,
        }
    )


def evaluated(
    items: Sequence[EvalItem], before: Sequence[Completion], after: Sequence[Completion | None], **fields: Any
) -> Evaluation:
    return score_answers("tiny", settings(**fields), items, before, after)
