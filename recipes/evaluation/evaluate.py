"""Evaluate an adapter: ask questions with and without it, and score the answers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
from bonsai.recipes.evaluation.answer_cache import DECIDING_PACKAGES, AnswerCache, OnProgress, answer_with_cache
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
from bonsai.recipes.training.pinned_dataset import find_dataset
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.run_record import WEIGHTS, package_versions, weights_sha256

CPU_TOKENS = 96
CPU_LIMIT = 4
CPU_BATCH = 64
"""all of a CPU's questions at once: 38 in one batch took five sixths of the time of 32 and then 6, in the same words"""


@dataclass(frozen=True, kw_only=True)
class EvalScope:
    """How many questions are asked, and with which generation settings."""

    decoder_name: str
    decoder: GenerationSettings
    limit: int | None
    """questions of each category and language at most; `None`: all"""


def scope(decoder_name: str, limit: int | None) -> EvalScope:
    """Fit an evaluation to the machine: all questions on a GPU, a sample with shorter answers on a CPU.

    Args:
        limit: `None`: as the machine allows; 0: all questions.

    Raises:
        EvaluationError: there are no generation settings of this name.
    """
    on_gpu = torch.cuda.is_available()
    decoder = get_preset(decoder_name, max_new_tokens=None if on_gpu else CPU_TOKENS)
    if limit is None and not on_gpu:
        limit = CPU_LIMIT
    return EvalScope(decoder_name=decoder_name, decoder=decoder, limit=limit or None)


def check_inputs(name: str, adapter: Path | None, dataset: Path) -> None:
    """Check that there is something to evaluate; a command does so before it makes a base model ready, for minutes.

    Raises:
        EvaluationError: there is no adapter or no build.
    """
    if adapter is not None and not (adapter / WEIGHTS).is_file():
        raise EvaluationError(f"{adapter}: there is no adapter in this folder; run `nox -s train -- {name}` first")
    if not (dataset / "README.md").is_file():
        raise EvaluationError(f"{dataset}: no dataset is built here; run `nox -s build` first")


def evaluate(
    name: str,
    recipe: Recipe,
    *,
    adapter: Path | None,
    dataset: Path,
    answers: Path,
    scope: EvalScope,
    on_progress: OnProgress,
) -> Evaluation:
    """Evaluate a recipe's adapter beside its base model, or the base model alone.

    Args:
        adapter: its folder; `None`: the bare base model.
        dataset: the build, `out/dataset`.
        answers: folder of the answer cache; a rerun resumes from there.
        on_progress: called with ``before`` or ``after``, and the number of answers so far and in all.

    Raises:
        EvaluationError: there is no adapter or no build.
        GenerationError: the base or the adapter cannot be loaded.
    """
    check_inputs(name, adapter, dataset)
    # 1. Choose the questions, and write down everything that decides an answer or a score.
    dataset, dataset_repo = find_dataset(recipe, dataset)
    items = read_items(recipe, dataset, limit=scope.limit)
    base, on_gpu = base_place(recipe), torch.cuda.is_available()
    settings = Settings(
        base_model=base,
        base_model_revision=recipe.base_model_revision,
        base_model_commit=base_commit(base, recipe.base_model_revision),
        adapter_repo=with_namespace(recipe.repo_id) if adapter else None,
        adapter_sha256=weights_sha256(adapter) if adapter else None,
        dataset=dataset_repo,
        dataset_revision=recipe.dataset_revision,
        dataset_content_hash=content_hash(dataset),
        categories=recipe.categories,
        languages=recipe.languages,
        limit=scope.limit,
        decoder_name=scope.decoder_name,
        decoder=scope.decoder,
        device=torch.cuda.get_device_name() if on_gpu else "CPU",
        dtype="float16 over NF4" if on_gpu else "float32",
        interval_level=statistics.LEVEL,
        resamples=statistics.RESAMPLES,
        seed=statistics.SEED,
        versions=package_versions(PACKAGES),
    )

    # 2. Load the model once, and only if an answer is missing from the cache.
    @functools.cache
    def engine() -> TransformersEngine:
        loaded = TransformersEngine.load(
            settings.base_model,
            revision=settings.base_model_revision or None,
            batch_size=BATCH_SIZE if on_gpu else CPU_BATCH,
        )
        if adapter is not None:
            loaded.add_adapter(name, adapter)
        return loaded

    def ask_base(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        engine().generate(prompts, scope.decoder, on_answer=on_answer)

    def ask_adapter(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        with engine().using(name):
            engine().generate(prompts, scope.decoder, on_answer=on_answer)

    # 3. Ask the base model, then the adapter.
    base_cache = AnswerCache[Completion](answers, cache_identity(settings, None))
    before = answer_with_cache(items, ask_base, base_cache, partial(on_progress, "before"))
    after: Sequence[Completion | None] = [None] * len(items)
    if adapter is not None:
        adapter_cache = AnswerCache[Completion](answers, cache_identity(settings, settings.adapter_sha256))
        after = answer_with_cache(items, ask_adapter, adapter_cache, partial(on_progress, "after"))

    # 4. Score the answers.
    return score_answers(name, settings, items, before, after)


def cache_identity(settings: Settings, adapter_sha256: str | None) -> dict[str, Any]:
    """Collect what decides an answer; without an adapter it is the same for all adapters of one base."""
    return {
        "base_model": settings.base_model,
        "base_model_commit": settings.base_model_commit,
        "adapter_sha256": adapter_sha256,
        "decoder": asdict(settings.decoder),
        "device": settings.device,
        "dtype": settings.dtype,
        "versions": {package: settings.versions.get(package) for package in DECIDING_PACKAGES},
    }


def score_answers(
    name: str,
    settings: Settings,
    items: Sequence[EvalItem],
    before: Sequence[Completion],
    after: Sequence[Completion | None],
) -> Evaluation:
    """Score the answers before and after training, and aggregate the scores."""

    def score(item: EvalItem, completion: Completion) -> RecordedAnswer:
        reasoning, answer = parse_response(completion.text)
        scores = score_answer(item, completion)
        return RecordedAnswer(generation=completion, reasoning=reasoning, answer=answer, scores=scores)

    answered = [
        AnsweredItem(item=item, before=score(item, first), after=score(item, second) if second else None)
        for item, first, second in zip(items, before, after, strict=True)
    ]
    return Evaluation(
        recipe=name,
        settings=settings,
        items=tuple(answered),
        lines=tuple(aggregate(answered)),
        corpus_lines=tuple(aggregate_corpus(answered)),
    )
