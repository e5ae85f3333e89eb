"""Comparisons made by hand, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.comparison.record import (
    Comparison,
    ComparisonQuestion,
    ModelRun,
    SampledAnswer,
    SampleRound,
)
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.generation import BLOG_POST


def listed(number: int = 1, text: str | None = None, **fields: Any) -> ComparisonQuestion:
    question = Question(instruction=text or f"Which river is number {number}?", language=Language.EN)
    return ComparisonQuestion(**{"id": f"q{number}", "group": "rivers", "question": question, **fields})


def answer(text: str, **fields: Any) -> Answer:
    return Answer(
        **{
            "model": "scripted",
            "language": Language.EN,
            "reasoning": "Rivers have lengths.",
            "answer": text,
            "passes": 1,
            "stopped_by": "eos",
            "tokens": 20,
            "seconds": 0.5,
            **fields,
        }
    )


def comparison(
    said: Mapping[str, Sequence[Sequence[str | Answer]]],
    questions: Sequence[ComparisonQuestion] | None = None,
    **fields: Any,
) -> Comparison:
    """A comparison.

    Args:
        said: by model, for each question the samples.
    """
    asked = questions or [listed(number) for number in range(1, 1 + max(map(len, said.values())))]
    samples = [
        SampledAnswer(
            model=model,
            question=one.id,
            sample=number,
            answer=answer(text) if isinstance(text, str) else text,
        )
        for model, answers in said.items()
        for one, texts in zip(asked, answers, strict=False)
        for number, text in enumerate(texts, 1)
    ]
    return Comparison(
        **{
            "lists": ("rivers",),
            "decoder_name": "post",
            "decoder": BLOG_POST,
            "samples": max((one.sample for one in samples), default=1),
            "versions": {"torch": "2"},
            "models": tuple(ModelRun(name=name, device="CPU", rounds=(round_(),)) for name in said),
            "questions": tuple(asked),
            "answers": tuple(samples),
            **fields,
        }
    )


def round_(**fields: Any) -> SampleRound:
    return SampleRound(**{"sample": 1, "answers": 4, "tokens": 80, "seconds": 2.0, **fields})
