"""Every model is asked every question, several times; what it says is kept as it comes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bonsai.recipes.evaluation.comparing.identity import base_of, identity, is_elsewhere
from bonsai.recipes.evaluation.comparing.kept import Kept
from bonsai.recipes.evaluation.comparing.questions import Listed
from bonsai.recipes.evaluation.comparing.record import PACKAGES, Comparison, Round, Sampled, Side
from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.inference.asking.ask import ask
from bonsai.recipes.inference.conversation import Answer
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Engine, GenerationError
from bonsai.recipes.inference.models.endpoint_engine import EndpointEngine
from bonsai.recipes.inference.models.finding import find
from bonsai.recipes.inference.models.opening import Models
from bonsai.recipes.inference.models.source import Found, GgufAt
from bonsai.recipes.training.plan.gpus import usd_per_hour
from bonsai.recipes.training.surroundings import package_versions

ANSWERS = "answers"
"""below the comparison's folder: answers kept as they come"""
_DECIDING = ("torch", "transformers", "peft", "bitsandbytes")

Told = Callable[[str, int, int], None]
"""Called with the model, the answers there are, and all that there will be."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked, and how."""

    lists: tuple[str, ...]
    questions: tuple[Listed, ...]
    samples: int
    decoder_name: str
    decoder: Decoder


def compare(sources: Sequence[str], plan: Plan, *, folder: Path, out: Path, told: Told) -> Comparison:
    """Ask the models one after the other; one that fails is told of in the record, and the others go on.

    Args:
        sources: models as `bonsai.recipes.inference.models.opening.open_model` takes them.
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
    where = [find(source, out=out, base_url=None, provider=None, lora=None) for source in sources]
    sides: list[Side] = []
    answers: list[Sampled] = []
    models = Models(out=out)
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
            if is_elsewhere(found) and ended.failed_because is None:
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


class _Ended(NamedTuple):
    failed_because: str | None
    unheeded: tuple[str, ...]


def _ask_all(opened: Callable[[], Engine], name: str, plan: Plan, kept: Kept, told: Told) -> _Ended:
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
        return _Ended(str(error), _unheeded(engine, plan.decoder))
    return _Ended(None, _unheeded(engine, plan.decoder))


def _unheeded(engine: Engine | None, decoder: Decoder) -> tuple[str, ...]:
    return engine.unheeded(decoder) if isinstance(engine, EndpointEngine) else ()


def _round(
    engine: Engine, missing: Sequence[Listed], sample: int, plan: Plan, kept: Kept, told: Callable[[], None]
) -> None:
    decoder = replace(plan.decoder, seed=plan.decoder.seed + sample - 1)
    started = time.perf_counter()

    def keep(place: int, answer: Answer) -> None:
        kept.add(missing[place].question, sample, answer)
        told()

    said = ask(engine, [one.question for one in missing], decoder=decoder, on_answer=keep)
    seconds = time.perf_counter() - started
    kept.ended(Round(sample=sample, answers=len(said), tokens=sum(answer.tokens for answer in said), seconds=seconds))


def _sampled(name: str, plan: Plan, kept: Kept) -> list[Sampled]:
    return [
        Sampled(model=name, question=one.id, sample=sample, answer=answer)
        for one in plan.questions
        for sample in range(1, plan.samples + 1)
        if (answer := kept.get(one.question, sample)) is not None
    ]


def _side(source: str, found: Found, kept: Kept, ended: _Ended) -> Side:
    device = None if is_elsewhere(found) else _device(found)
    return Side(
        name=source,
        device=device,
        usd_per_hour=usd_per_hour(device) if device else None,
        rounds=tuple(kept.rounds),
        unheeded=ended.unheeded,
        failed_because=ended.failed_because,
    )


def _device(found: Found) -> str:
    import torch  # here and not above: an address needs none

    return torch.cuda.get_device_name() if torch.cuda.is_available() and not isinstance(found, GgufAt) else "CPU"


def _identity(found: Found, decoder: Decoder) -> dict[str, object]:
    """All that decides an answer but question and sample."""
    here = {} if is_elsewhere(found) else {"device": _device(found), "versions": package_versions(_DECIDING)}
    return {**identity(found), "decoder": asdict(decoder), **here}
