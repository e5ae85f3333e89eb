"""Many questions led deeper beside one another: answer, propose, judge, go on.

Each chain is a talk of its own and waits for no other. One whose candidates are all refused is asked again, from other
perspectives and more freely, and at last it ends and says why. Nothing is decided by chance or by the neighbours: a
chain that is taken up again where it stopped becomes the same chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from bonsai.recipes.inference.asking.ask import asking
from bonsai.recipes.inference.asking.limits import check_questions
from bonsai.recipes.inference.asking.tongue import tongue_of
from bonsai.recipes.inference.chains.judging import Judged, judged, worth
from bonsai.recipes.inference.chains.perspectives import PERSPECTIVES, PLAIN, Perspective
from bonsai.recipes.inference.chains.proposing import begun_for_it, in_its_own_words
from bonsai.recipes.inference.chains.reasons import why_ended
from bonsai.recipes.inference.conversation import Candidate, Chain, Question, Step
from bonsai.recipes.inference.generation.decoder import GREEDY, Decoder
from bonsai.recipes.inference.generation.engine import Engine
from bonsai.recipes.inference.generation.talks import Talk, hold

OnStep = Callable[[Chain], None]
"""Called with a chain whenever it grows: by an answer, by the choice of the next question, by its end."""


@dataclass(frozen=True, kw_only=True)
class Deepening:
    """How chains are led; part of what decides them."""

    decoder: Decoder = GREEDY
    """of answers and of the first round of candidates"""
    candidates: int = 4
    """a round, each from another perspective"""
    rounds: int = 3
    """of candidates until a chain ends; from the second on they are sampled"""
    plain: bool = False
    """take whatever comes when the next question is asked for without perspective and judge: the baseline"""


_BEGUN = 2
"""rounds in which the question is begun for the model; in those after, it uses words of its own"""
_HOTTER = (0.5, 0.8)
"""temperatures of the rounds after the first; the last one stays"""


def opened(question: Question, *, id: str, depth: int) -> Chain:
    """A chain that has not been answered yet, in the language that its question is to be answered in."""
    theme = f"{question.instruction}\n{question.input}" if question.input else question.instruction
    return Chain(id=id, theme=theme, language=tongue_of(question).language, depth=depth)


def deepen(
    engine: Engine,
    chains: Sequence[Chain],
    settings: Deepening,
    *,
    personas: Mapping[str, str] | None = None,
    on_step: OnStep | None = None,
) -> list[Chain]:
    """The chains, each complete, in their order; those that have steps already go on from there.

    Args:
        personas: by the id of the chain, what stands before each of its questions.
        on_step: what it was told stands, whatever comes after; keep it, and an interruption costs a chain one turn.

    Raises:
        AskingError: a chain's opening is empty, binary or too long to be a question.
        GenerationError: a question does not fit the model, or the model cannot be asked.
    """
    spoken = personas or {}
    check_questions([_put(chain, chain.theme, spoken.get(chain.id, "")) for chain in chains if not chain.complete])

    def grown(chain: Chain) -> Chain:
        if on_step is not None:
            on_step(chain)
        return chain

    def led(chain: Chain) -> Talk[Chain]:
        persona = spoken.get(chain.id, "")
        while not chain.complete:
            step = _answered if next_question(chain) is not None else _considered
            chain = grown((yield from step(chain, settings, persona, engine.name)))
        return chain

    return hold(engine, [led(chain) for chain in chains])


def _put(chain: Chain, text: str, persona: str) -> Question:
    return Question(instruction=text, language=chain.language, system=persona)


def _answered(chain: Chain, settings: Deepening, persona: str, model: str) -> Talk[Chain]:
    """The chain with its next question answered."""
    text = next_question(chain) or ""
    answer = yield from asking(_put(chain, text, persona), model, decoder=settings.decoder)
    steps = chain.steps
    chosen = steps[-1].candidates[0].perspective if steps else None
    step = Step(number=len(steps) + 1, question=text, perspective=chosen, answer=answer)
    return chain.model_copy(update={"steps": (*steps, step)})


def next_question(chain: Chain) -> str | None:
    """What is to be answered next; None: the next question is still to be found, or there is none."""
    if chain.complete:
        return None
    if not chain.steps:
        return chain.theme
    considered = chain.steps[-1].candidates
    return considered[0].question if considered and considered[0].refused_because is None else None


def _considered(chain: Chain, settings: Deepening, persona: str, model: str) -> Talk[Chain]:
    """The chain with its next question chosen, or with the reason why it ends."""
    refused: list[Judged] = []
    for number in range(1 if settings.plain else settings.rounds):
        views = _views(chain, settings, number)
        propose = in_its_own_words if settings.plain or number >= _BEGUN else begun_for_it
        said = yield from propose(chain, views, _decoder(settings.decoder, number), persona)
        found = [judged(text, view, chain) for view, text in zip(views, said, strict=True)]
        found = [_taken(one) for one in found] if settings.plain else found
        refused += [one for one in found if one.fault is not None]
        passed = sorted((one.candidate for one in found if one.fault is None), key=worth, reverse=True)
        if passed:
            return _with(chain, (*passed, *(one.candidate for one in refused)))
    because = why_ended((one.fault for one in refused if one.fault), chain.language)
    return _with(chain, tuple(one.candidate for one in refused), ended_because=because)


def _taken(one: Judged) -> Judged:
    """The baseline asks whatever it is given, as long as it is something."""
    return Judged(one.candidate.model_copy(update={"refused_because": None}), None) if one.candidate.question else one


def _views(chain: Chain, settings: Deepening, number: int) -> list[Perspective]:
    """The perspectives of a round: first those that led the chain least, in another order for each chain and step."""
    if settings.plain:
        return [PLAIN]
    used = Counter(step.perspective for step in chain.steps)
    start = (crc32(chain.theme.encode("utf-8", "replace")) + len(chain.steps)) % len(PERSPECTIVES)
    turned = [*PERSPECTIVES[start:], *PERSPECTIVES[:start]]
    order = sorted(turned, key=lambda view: used[view.key])
    first = number * settings.candidates
    return [order[(first + place) % len(order)] for place in range(settings.candidates)]


def _decoder(decoder: Decoder, number: int) -> Decoder:
    if number == 0:
        return decoder
    temperature = max(decoder.temperature, _HOTTER[min(number, len(_HOTTER)) - 1])
    return replace(decoder, temperature=temperature, top_p=min(decoder.top_p, 0.95), seed=decoder.seed + number)


def _with(chain: Chain, candidates: tuple[Candidate, ...], *, ended_because: str | None = None) -> Chain:
    *before, last = chain.steps
    steps = (*before, last.model_copy(update={"candidates": candidates}))
    return chain.model_copy(update={"steps": steps, "ended_because": ended_because})
