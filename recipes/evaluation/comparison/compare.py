"""Put the same questions to several models and record their answers."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import try_to_load_from_cache

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.answer_cache import Kept
from bonsai.recipes.evaluation.comparison.record import (
    PACKAGES,
    Comparison,
    ComparisonQuestion,
    ModelRun,
    SampledAnswer,
    SampleRound,
)
from bonsai.recipes.inference.ask import ask
from bonsai.recipes.inference.conversation import Answer
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
from bonsai.recipes.training.plan.speed import list_price
from bonsai.recipes.training.run_record import package_versions


def is_remote(found: ModelSource) -> bool:
    """Whether somebody else runs it, and may put another model there tomorrow."""
    return isinstance(found, EndpointSource | ProviderSource)


def base_of(found: ModelSource) -> tuple[str, str | None] | None:
    """The base that has to be in memory; None: none of this machine's."""
    match found:
        case AdapterSource():
            return found.base, found.base_revision
        case HubModelSource():
            return found.place, found.revision
    return None


def model_fingerprint(found: ModelSource) -> dict[str, Any]:
    """All that is known of who answers: where, and the state of the files there."""
    told = {name: str(value) for name, value in asdict(found).items() if value is not None}
    match found:
        case AdapterSource():
            states = {
                "files": _files(found.folder),
                "base_files": _state(found.base, found.base_revision),
            }
        case HubModelSource():
            states = {"files": _state(found.place, found.revision)}
        case GgufSource():
            states = {"files": [_file(path) for path in (found.path, found.lora) if path is not None]}
        case _:
            states = {}
    return {"kind": type(found).__name__, **told, **states}


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The end of each name, where that tells them apart: ``seedling`` for ``out/adapters/seedling``."""
    ends = {name: name.rstrip("/").replace("#", "/").rpartition("/")[2] or name for name in names}
    often = Counter(ends.values())
    return {name: end if often[end] == 1 else name for name, end in ends.items()}


def _state(place: str, revision: str | None) -> Any:
    """Of a folder its files, of a repo the commit that lies in the cache."""
    folder = Path(place)
    if folder.is_dir():
        return _files(folder)
    cached = try_to_load_from_cache(place, MODEL, revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else revision


def _files(folder: Path) -> list[list[str | int]]:
    return [_file(path) for path in sorted(folder.iterdir()) if path.is_file()]


def _file(path: Path) -> list[str | int]:
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


ANSWERS = "answers"
"""below the comparison's folder: answers kept as they come"""
_DECIDING = ("torch", "transformers", "peft", "bitsandbytes")

Told = Callable[[str, int, int], None]
"""Called with the model, the answers there are, and all that there will be."""


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """What is asked, and how."""

    lists: tuple[str, ...]
    questions: tuple[ComparisonQuestion, ...]
    samples: int
    decoder_name: str
    decoder: GenerationSettings


def compare(sources: Sequence[str], plan: ComparisonConfig, *, folder: Path, out: Path, told: Told) -> Comparison:
    """Ask the models one after the other; one that fails is told of in the record, and the others go on.

    Args:
        sources: models as `bonsai.recipes.inference.models.open_model` takes them.
        folder: where answers are kept; the same call goes on from there.
        out: where `nox -s train` puts adapters.

    Raises:
        EvaluationError: no model is given, or one twice.
        GenerationError: there is no such model, told before any is asked; or none of them answered.
    """
    if not sources:
        raise EvaluationError(
            "compare which models? give two or more; one alone shows how stable it is. モデルを指定してください。"
        )
    if twice := sorted({source for source in sources if sources.count(source) > 1}):
        raise EvaluationError(f"{', '.join(twice)} is given twice; its own samples are compared with each other anyway")
    where = [resolve_model(source, out=out, base_url=None, provider=None, lora=None) for source in sources]
    sides: list[ModelRun] = []
    answers: list[SampledAnswer] = []
    models = ModelPool(out=out)
    loaded = None
    try:
        for source, found in zip(sources, where, strict=True):
            if base_of(found) != loaded:  # one base in memory at a time
                models.close()
                gc.collect()
                loaded = base_of(found)
            kept = Kept(folder / ANSWERS, _identity(found, plan.decoder))
            ended = _ask_all(partial(models.open, source), source, plan, kept, told)
            sides.append(_side(source, found, kept, ended))
            answers += _sampled(source, plan, kept)
            if is_remote(found) and ended.failed_because is None:
                kept.forget()
    finally:
        models.close()
    if not answers:
        raise GenerationError("; ".join(side.failed_because or "" for side in sides))
    return Comparison(
        lists=plan.lists,
        decoder_name=plan.decoder_name,
        decoder=plan.decoder,
        samples=plan.samples,
        versions=package_versions(PACKAGES),
        models=tuple(sides),
        questions=plan.questions,
        answers=tuple(answers),
    )


class _RunStatus(NamedTuple):
    failed_because: str | None
    unheeded: tuple[str, ...]


def _ask_all(opened: Callable[[], Engine], name: str, plan: ComparisonConfig, kept: Kept, told: Told) -> _RunStatus:
    """Ask what is not kept yet."""
    places = [(one.question, sample) for one in plan.questions for sample in range(1, plan.samples + 1)]

    def counted() -> None:
        told(name, sum(kept.get(*place) is not None for place in places), len(places))

    counted()
    engine: Engine | None = None
    try:
        for sample in range(1, plan.samples + 1):
            missing = [one for one in plan.questions if kept.get(one.question, sample) is None]
            if missing:
                engine = engine or opened()
                _round(engine, missing, sample, plan, kept, counted)
    except GenerationError as error:
        return _RunStatus(str(error), _unheeded(engine, plan.decoder))
    return _RunStatus(None, _unheeded(engine, plan.decoder))


def _unheeded(engine: Engine | None, decoder: GenerationSettings) -> tuple[str, ...]:
    return engine.unsupported_settings(decoder) if isinstance(engine, EndpointEngine) else ()


def _round(
    engine: Engine,
    missing: Sequence[ComparisonQuestion],
    sample: int,
    plan: ComparisonConfig,
    kept: Kept,
    told: Callable[[], None],
) -> None:
    decoder = replace(plan.decoder, seed=plan.decoder.seed + sample - 1)
    started = time.perf_counter()

    def keep(place: int, answer: Answer) -> None:
        kept.add(missing[place].question, sample, answer)
        told()

    said = ask(engine, [one.question for one in missing], decoder=decoder, on_answer=keep)
    seconds = time.perf_counter() - started
    kept.ended(
        SampleRound(sample=sample, answers=len(said), tokens=sum(answer.tokens for answer in said), seconds=seconds)
    )


def _sampled(name: str, plan: ComparisonConfig, kept: Kept) -> list[SampledAnswer]:
    return [
        SampledAnswer(model=name, question=one.id, sample=sample, answer=answer)
        for one in plan.questions
        for sample in range(1, plan.samples + 1)
        if (answer := kept.get(one.question, sample)) is not None
    ]


def _side(source: str, found: ModelSource, kept: Kept, ended: _RunStatus) -> ModelRun:
    device = None if is_remote(found) else _device(found)
    return ModelRun(
        name=source,
        device=device,
        usd_per_hour=list_price(device) if device else None,
        rounds=tuple(kept.rounds),
        unheeded=ended.unheeded,
        failed_because=ended.failed_because,
    )


def _device(found: ModelSource) -> str:
    import torch  # here and not above: an address needs none

    return torch.cuda.get_device_name() if torch.cuda.is_available() and not isinstance(found, GgufSource) else "CPU"


def _identity(found: ModelSource, decoder: GenerationSettings) -> dict[str, object]:
    """All that decides an answer but question and sample."""
    here = {} if is_remote(found) else {"device": _device(found), "versions": package_versions(_DECIDING)}
    return {**model_fingerprint(found), "decoder": asdict(decoder), **here}
