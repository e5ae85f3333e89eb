"""One evaluation: the base alone and the base with its adapter answer the same questions, and both are scored."""

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
from bonsai.hub.client.destination import in_namespace
from bonsai.recipes.evaluation import intervals
from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.evaluation.items import Item, read_items
from bonsai.recipes.evaluation.journal import Journal, collect
from bonsai.recipes.evaluation.record import PACKAGES, Answer, AnsweredItem, Evaluation, Settings
from bonsai.recipes.evaluation.score import scores
from bonsai.recipes.evaluation.summary import corpus_lines, lines
from bonsai.recipes.inference.answer_parts import parts
from bonsai.recipes.inference.generation.decoder import Decoder, decoder_called
from bonsai.recipes.inference.generation.engine import Generation, OnAnswer
from bonsai.recipes.inference.generation.transformers_engine import BATCH_SIZE, TransformersEngine
from bonsai.recipes.training.base_model import base_commit, base_place
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.surroundings import package_versions

Told = Callable[[str, int, int], None]
"""Called with ``before`` or ``after``, the answers there are, and all that there will be."""

WEIGHTS = "adapter_model.safetensors"
_DECIDING = ("torch", "transformers", "peft", "bitsandbytes")
"""packages whose versions decide an answer; the others decide scores"""

CPU_TOKENS = 96
CPU_LIMIT = 4
CPU_BATCH = 64
"""all of a CPU's questions at once: 38 in one batch took five sixths of the time of 32 and then 6, in the same words"""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """How much is asked, and how it is answered."""

    decoder_name: str
    decoder: Decoder
    limit: int | None
    """questions of each category and language at most; None: all"""


def scope(decoder_name: str, limit: int | None) -> Scope:
    """What fits the machine: on a GPU all questions, on a CPU a spread of them with shorter answers.

    Args:
        limit: None: as the machine allows; 0: all questions.

    Raises:
        EvaluationError: there is no such decoder.
    """
    if torch.cuda.is_available():
        decoder = decoder_called(decoder_name, EvaluationError)
        return Scope(decoder_name=decoder_name, decoder=decoder, limit=limit or None)
    short = decoder_called(decoder_name, EvaluationError, max_new_tokens=CPU_TOKENS)
    return Scope(decoder_name=decoder_name, decoder=short, limit=CPU_LIMIT if limit is None else limit or None)


def evaluate(
    name: str, recipe: Recipe, *, adapter: Path | None, dataset: Path, answers: Path, scope: Scope, told: Told
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

    before = collect(items, base_alone, Journal(answers, _identity(settings, None)), partial(told, "before"))
    after: Sequence[Generation | None] = [None] * len(items)
    if adapter is not None:
        journal = Journal(answers, _identity(settings, settings.adapter_sha256))
        after = collect(items, adapted, journal, partial(told, "after"))
    return summed_up(name, settings, items, before, after)


def summed_up(
    name: str,
    settings: Settings,
    items: Sequence[Item],
    before: Sequence[Generation],
    after: Sequence[Generation | None],
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
        lines=tuple(lines(answered)),
        corpus_lines=tuple(corpus_lines(answered)),
    )


def _scored(item: Item, generation: Generation) -> Answer:
    reasoning, answer = parts(generation.text)
    return Answer(generation=generation, reasoning=reasoning, answer=answer, scores=scores(item, generation))


def _settings(recipe: Recipe, adapter: Path | None, dataset: Path, scope: Scope) -> Settings:
    base = base_place(recipe)
    return Settings(
        base_model=base,
        base_model_revision=recipe.base_model_revision,
        base_model_commit=base_commit(base, recipe.base_model_revision),
        adapter_repo=in_namespace(recipe.repo_id) if adapter else None,
        adapter_sha256=hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest() if adapter else None,
        dataset=in_namespace(recipe.dataset),
        dataset_revision=recipe.dataset_revision,
        dataset_content_hash=content_hash(dataset),
        categories=recipe.categories,
        languages=recipe.languages,
        limit=scope.limit,
        decoder_name=scope.decoder_name,
        decoder=scope.decoder,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        dtype="float16 over NF4" if torch.cuda.is_available() else "float32",
        interval_level=intervals.LEVEL,
        resamples=intervals.RESAMPLES,
        seed=intervals.SEED,
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
