"""Put the same questions to several models and record their answers."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.answer_cache import DECIDING_PACKAGES, AnswerCache, OnProgress
from bonsai.recipes.evaluation.comparison.record import (
    PACKAGES,
    Comparison,
    ComparisonQuestion,
    ModelRun,
    SampledAnswer,
    SampleRound,
)
from bonsai.recipes.inference.ask import ask
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.endpoint_engine import EndpointEngine
from bonsai.recipes.inference.generation import Engine, GenerationError, GenerationSettings
from bonsai.recipes.inference.model_source import (
    MODEL,
    AdapterSource,
    EndpointSource,
    GgufSource,
    HubModelSource,
    ModelSource,
    ProviderSource,
    resolve_model,
)
from bonsai.recipes.inference.models import ModelPool
from bonsai.recipes.training.plan.gpus import list_price
from bonsai.recipes.training.run_record import package_versions

ANSWERS = "answers"
"""folder of the answer cache, inside the comparison's folder"""


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """The questions of a comparison, and how they are asked."""

    lists: tuple[str, ...]
    questions: tuple[ComparisonQuestion, ...]
    samples: int
    decoder_name: str
    decoder: GenerationSettings


def compare(
    sources: Sequence[str], config: ComparisonConfig, *, folder: Path, out: Path, on_progress: OnProgress
) -> Comparison:
    """Ask models one after the other; if one fails, record the reason and go on with the others.

    Args:
        sources: models as `bonsai.recipes.inference.models.open_model` takes them.
        folder: where the answer cache is; the same call resumes from there.
        out: where `nox -s train` puts adapters.

    Raises:
        EvaluationError: no model is given, or one is given twice.
        GenerationError: a model does not exist, raised before any is asked; or none of them answered.
    """
    # 1. Refuse what cannot be compared before any model is loaded.
    if not sources:
        raise EvaluationError(
            "no model to compare; give two or more, or one alone to see how stable it is. モデルを指定してください。"
        )
    if duplicates := sorted({source for source in sources if sources.count(source) > 1}):
        raise EvaluationError(
            f"{', '.join(duplicates)} is given twice; give it once, its samples are compared with each other anyway"
        )
    resolved = [resolve_model(source, out=out, base_url=None, provider=None, lora=None) for source in sources]

    # 2. Ask each model for the answers that its cache lacks.
    runs: list[ModelRun] = []
    answers: list[SampledAnswer] = []
    models = ModelPool(out=out)
    loaded = None
    try:
        for name, source in zip(sources, resolved, strict=True):
            if base_model(source) != loaded:  # only one base fits into memory at a time
                models.close()
                gc.collect()
                loaded = base_model(source)
            device = device_name(source)
            local = {} if device is None else {"device": device, "versions": package_versions(DECIDING_PACKAGES)}
            identity = {**model_fingerprint(source), "decoder": asdict(config.decoder), **local}
            cache = AnswerCache[Answer](folder / ANSWERS, identity)
            run = _ask_model(models, name, device, config, cache, on_progress)
            runs.append(run)
            answers += [
                SampledAnswer(model=name, question=one.id, sample=sample, answer=answer)
                for one in config.questions
                for sample in range(1, config.samples + 1)
                if (answer := cache.get(cache_key(one.question, sample))) is not None
            ]
            if device is None and run.failed_because is None:
                cache.clear()  # another model may answer at the same address tomorrow
    finally:
        models.close()
    if not answers:
        raise GenerationError("; ".join(run.failed_because or "" for run in runs))

    # 3. Record who answered what, and with which versions.
    return Comparison(
        lists=config.lists,
        decoder_name=config.decoder_name,
        decoder=config.decoder,
        samples=config.samples,
        versions=package_versions(PACKAGES),
        models=tuple(runs),
        questions=config.questions,
        answers=tuple(answers),
    )


def _ask_model(
    models: ModelPool,
    name: str,
    device: str | None,
    config: ComparisonConfig,
    cache: AnswerCache[Answer],
    on_progress: OnProgress,
) -> ModelRun:
    """Ask one model for every answer that its cache lacks, a round for each sample."""
    prompts = [cache_key(one.question, sample) for one in config.questions for sample in range(1, config.samples + 1)]

    def report() -> None:
        on_progress(name, sum(cache.get(prompt) is not None for prompt in prompts), len(prompts))

    def store(questions: Sequence[Question], sample: int, index: int, answer: Answer) -> None:
        cache.add(cache_key(questions[index], sample), answer)
        report()

    # 1. Ask in rounds, one a sample, so that a finished round has a speed.
    report()
    engine: Engine | None = None
    failure = None
    try:
        for sample in range(1, config.samples + 1):
            questions = [one.question for one in config.questions if cache.get(cache_key(one.question, sample)) is None]
            if not questions:
                continue
            engine = engine or models.open(name)
            # each sample draws with a seed of its own; the first has the seed of the settings
            decoder = replace(config.decoder, seed=config.decoder.seed + sample - 1)
            started = time.perf_counter()
            answers = ask(engine, questions, decoder=decoder, on_answer=partial(store, questions, sample))
            seconds = time.perf_counter() - started
            tokens = sum(answer.tokens for answer in answers)
            cache.add_round(SampleRound(sample=sample, answers=len(answers), tokens=tokens, seconds=seconds))
    except GenerationError as error:
        failure = str(error)

    # 2. Record the run, and why answers are missing.
    return ModelRun(
        name=name,
        device=device,
        usd_per_hour=list_price(device) if device else None,
        rounds=tuple(cache.rounds),
        unheeded=engine.unsupported_settings(config.decoder) if isinstance(engine, EndpointEngine) else (),
        failed_because=failure,
    )


def cache_key(question: Question, sample: int) -> str:
    """Name one answer of a model in its cache."""
    return f"{sample} {question.model_dump_json()}"


def base_model(source: ModelSource) -> tuple[str, str | None] | None:
    """Name the base that has to be in this machine's memory, with its revision; `None` if none has to."""
    match source:
        case AdapterSource():
            return source.base, source.base_revision
        case HubModelSource():
            return source.place, source.revision
    return None


def device_name(source: ModelSource) -> str | None:
    """Name the device a model runs on; `None` for a server, which may put another model there tomorrow."""
    if isinstance(source, EndpointSource | ProviderSource):
        return None
    import torch  # here and not above: a server needs none

    return torch.cuda.get_device_name() if torch.cuda.is_available() and not isinstance(source, GgufSource) else "CPU"


def model_fingerprint(source: ModelSource) -> dict[str, Any]:
    """Collect all that is known of a model: where it is, and the state of its files."""
    fields = {name: str(value) for name, value in asdict(source).items() if value is not None}
    match source:
        case AdapterSource():
            states = {
                "files": _file_states(source.folder),
                "base_files": _model_state(source.base, source.base_revision),
            }
        case HubModelSource():
            states = {"files": _model_state(source.place, source.revision)}
        case GgufSource():
            states = {"files": [_file_state(path) for path in (source.path, source.lora) if path is not None]}
        case _:
            states = {}
    return {"kind": type(source).__name__, **fields, **states}


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Shorten each name to its last part where that is unique: ``out/adapters/seedling`` becomes ``seedling``."""
    ends = {name: name.rstrip("/").replace("#", "/").rpartition("/")[2] or name for name in names}
    counts = Counter(ends.values())
    return {name: end if counts[end] == 1 else name for name, end in ends.items()}


def _model_state(source: str, revision: str | None) -> Any:
    """Describe a folder by its files, a repo by the commit in the cache."""
    folder = Path(source)
    if folder.is_dir():
        return _file_states(folder)
    cached = try_to_load_from_cache(source, MODEL, revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else revision


def _file_states(folder: Path) -> list[list[str | int]]:
    return [_file_state(path) for path in sorted(folder.iterdir()) if path.is_file()]


def _file_state(path: Path) -> list[str | int]:
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]
