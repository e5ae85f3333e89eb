"""What a summary says of a chain, before it is Markdown, JSON or a page."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Candidate, Chain, Step
from bonsai.recipes.inference.summary.essentials import essentials
from bonsai.recipes.inference.summary.words import words


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Learnt(_Record):
    """One step in a few words."""

    number: int
    question: str
    perspective: str | None
    """a key; None for the opening question"""
    because: str
    """why it was asked, as a sentence; empty for the opening question"""
    sentences: tuple[str, ...]
    """of the answer, word for word; empty: there was no answer"""


class Open(_Record):
    """A question that passed and was not asked."""

    question: str
    perspective: str
    after: int
    """the step it came up after"""


class Summary(_Record):
    """A chain in a few words; all but the labels is quoted from it."""

    id: str
    theme: str
    language: Language
    depth: int
    models: tuple[str, ...]
    learnt: tuple[Learnt, ...]
    still_open: tuple[Open, ...]
    refused: int
    """candidates, over all steps"""
    complete: bool
    ended: str
    """why it ended, or that it has not yet, as a sentence"""
    tokens: int
    seconds: float
    told_by: str | None = None
    """the model that wrote ``told``"""
    told: str | None = None
    """the summary in a model's own words; None: only quotations"""
    untold_because: str | None = None
    """why the words of a model that was asked for them are not used, as a sentence"""


def summarise(chain: Chain) -> Summary:
    """What was asked, why, what was learnt, what remains open and why it ended."""
    return Summary(
        id=chain.id,
        theme=chain.theme,
        language=chain.language,
        depth=chain.depth,
        models=tuple(dict.fromkeys(step.answer.model for step in chain.steps)),
        learnt=tuple(_learnt(chain)),
        still_open=tuple(_still_open(chain)),
        refused=sum(one.refused_because is not None for step in chain.steps for one in step.candidates),
        complete=chain.complete,
        ended=ended(chain),
        tokens=sum(step.answer.tokens for step in chain.steps),
        seconds=sum(step.answer.seconds for step in chain.steps),
    )


def chosen(chain: Chain, step: Step) -> Candidate | None:
    """The candidate that became the next step; None if none did."""
    following = next((later for later in chain.steps if later.number == step.number + 1), None)
    first = step.candidates[0] if step.candidates else None
    return first if first and following and first.question == following.question else None


def ended(chain: Chain) -> str:
    """Why the chain ended, or how far it is."""
    if chain.ended_because is not None:
        return chain.ended_because
    said = words(chain.language)
    return (said.depth_reached if chain.complete else said.going_on).format(chain.depth, len(chain.steps))


def _learnt(chain: Chain) -> Iterator[Learnt]:
    known: list[str] = []
    for step in chain.steps:
        known.append(step.question)
        found = essentials(step.answer.reasoning, step.answer.answer, known=known)
        known += found
        yield Learnt(
            number=step.number,
            question=step.question,
            perspective=step.perspective,
            because=words(chain.language).perspective(step.perspective).because,
            sentences=tuple(found),
        )


def _still_open(chain: Chain) -> Iterator[Open]:
    told = {step.question for step in chain.steps}
    for step in chain.steps:
        for one in step.candidates:
            if one.refused_because is None and one.question not in told:
                told.add(one.question)
                yield Open(question=one.question, perspective=one.perspective, after=step.number)
