"""Evaluate an adapter: answer the questions before and after training, and score the answers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bonsai.builder.build import content_hash
from bonsai.builder.errors import EvaluationError
from bonsai.builder.prompt import parse_response
from bonsai.hub.target import with_namespace
from bonsai.recipes.evaluation import statistics
from bonsai.recipes.evaluation.answer_cache import AnswerCache, answer_with_cache
from bonsai.recipes.evaluation.items import EvalItem, read_items
from bonsai.recipes.evaluation.metrics import score_answer
from bonsai.recipes.evaluation.results import (
    PACKAGES,
    AnsweredItem,
    Evaluation,
    RecordedAnswer,
    Settings,
    aggregate,
    aggregate_corpus,
)
from bonsai.recipes.inference.generation import Completion, GenerationSettings, OnAnswer, get_preset
from bonsai.recipes.inference.transformers_engine import BATCH_SIZE, TransformersEngine
from bonsai.recipes.training.gguf import base_commit, base_place
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.run_record import package_versions

OnProgress = Callable[[str, int, int], None]
"""Called with ``before`` or ``after``, the answers there are, and all that there will be."""

WEIGHTS = "adapter_model.safetensors"
_DECIDING = ("torch", "transformers", "peft", "bitsandbytes")
"""packages whose versions decide an answer; the others decide scores"""

CPU_TOKENS = 96
CPU_LIMIT = 4
CPU_BATCH = 64
"""all of a CPU's questions at once: 38 in one batch took five sixths of the time of 32 and then 6, in the same words"""


@dataclass(frozen=True, kw_only=True)
class EvalScope:
    """How much is asked, and how it is answered."""

    decoder_name: str
    decoder: GenerationSettings
    limit: int | None
    """questions of each category and language at most; None: all"""


def scope(decoder_name: str, limit: int | None) -> EvalScope:
    """What fits the machine: on a GPU all questions, on a CPU a spread of them with shorter answers.

    Args:
        limit: None: as the machine allows; 0: all questions.

    Raises:
        EvaluationError: there is no such decoder.
    """
    if torch.cuda.is_available():
        decoder = get_preset(decoder_name, EvaluationError)
        return EvalScope(decoder_name=decoder_name, decoder=decoder, limit=limit or None)
    short = get_preset(decoder_name, EvaluationError, max_new_tokens=CPU_TOKENS)
    return EvalScope(decoder_name=decoder_name, decoder=short, limit=CPU_LIMIT if limit is None else limit or None)


def evaluate(
    name: str, recipe: Recipe, *, adapter: Path | None, dataset: Path, answers: Path, scope: EvalScope, told: OnProgress
) -> Evaluation:
    """Evaluate a recipe's adapter beside its base, or the base alone.

    Args:
        adapter: its folder; None: the bare model.
        dataset: the build, `out/dataset`.
        answers: folder where answers are kept as they come; a rerun goes on from there.

    Raises:
        EvaluationError: nothing is trained or built here.
        GenerationError: the base or the adapter cannot be loaded.
    """
    if adapter is not None and not (adapter / WEIGHTS).is_file():
        raise EvaluationError(f"{adapter}: no adapter lies here; run `nox -s train -- {name}` first")
    items = read_items(recipe, dataset, limit=scope.limit)
    settings = _settings(recipe, adapter, dataset, scope)

    @functools.cache
    def engine() -> TransformersEngine:
        loaded = TransformersEngine.load(
            settings.base_model,
            revision=settings.base_model_revision or None,
            batch_size=BATCH_SIZE if torch.cuda.is_available() else CPU_BATCH,
        )
        if adapter is not None:
            loaded.add_adapter(name, adapter)
        return loaded

    def base_alone(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        engine().generate(prompts, scope.decoder, on_answer=on_answer)

    def adapted(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        with engine().using(name):
            engine().generate(prompts, scope.decoder, on_answer=on_answer)

    before = answer_with_cache(
        items, base_alone, AnswerCache(answers, _identity(settings, None)), partial(told, "before")
    )
    after: Sequence[Completion | None] = [None] * len(items)
    if adapter is not None:
        journal = AnswerCache(answers, _identity(settings, settings.adapter_sha256))
        after = answer_with_cache(items, adapted, journal, partial(told, "after"))
    return score_answers(name, settings, items, before, after)


def score_answers(
    name: str,
    settings: Settings,
    items: Sequence[EvalItem],
    before: Sequence[Completion],
    after: Sequence[Completion | None],
) -> Evaluation:
    """Score the answers."""
    answered = [
        AnsweredItem(item=item, before=_scored(item, first), after=_scored(item, second) if second else None)
        for item, first, second in zip(items, before, after, strict=True)
    ]
    return Evaluation(
        recipe=name,
        settings=settings,
        items=tuple(answered),
        lines=tuple(aggregate(answered)),
        corpus_lines=tuple(aggregate_corpus(answered)),
    )


def _scored(item: EvalItem, generation: Completion) -> RecordedAnswer:
    reasoning, answer = parse_response(generation.text)
    return RecordedAnswer(
        generation=generation, reasoning=reasoning, answer=answer, scores=score_answer(item, generation)
    )


def _settings(recipe: Recipe, adapter: Path | None, dataset: Path, scope: EvalScope) -> Settings:
    base = base_place(recipe)
    return Settings(
        base_model=base,
        base_model_revision=recipe.base_model_revision,
        base_model_commit=base_commit(base, recipe.base_model_revision),
        adapter_repo=with_namespace(recipe.repo_id) if adapter else None,
        adapter_sha256=hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest() if adapter else None,
        dataset=with_namespace(recipe.dataset),
        dataset_revision=recipe.dataset_revision,
        dataset_content_hash=content_hash(dataset),
        categories=recipe.categories,
        languages=recipe.languages,
        limit=scope.limit,
        decoder_name=scope.decoder_name,
        decoder=scope.decoder,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        dtype="float16 over NF4" if torch.cuda.is_available() else "float32",
        interval_level=statistics.LEVEL,
        resamples=statistics.RESAMPLES,
        seed=statistics.SEED,
        versions=package_versions(PACKAGES),
    )


def _identity(settings: Settings, adapter_sha256: str | None) -> dict[str, Any]:
    """All that decides an answer; the base alone is the same base for every adapter that grows on it."""
    return {
        "base_model": settings.base_model,
        "base_model_commit": settings.base_model_commit,
        "adapter_sha256": adapter_sha256,
        "decoder": asdict(settings.decoder),
        "device": settings.device,
        "dtype": settings.dtype,
        "versions": {package: settings.versions.get(package) for package in _DECIDING},
    }
