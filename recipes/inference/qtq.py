"""Question to Question: run chains in which each answer leads to a deeper question, and store them.

A small model that is asked for a question answers the old one once more. So it is not asked whether it wants to: its
answer is begun for it with the perspective's first words ("What would have to change"), and it ends as soon as the
question does. Where that got nothing of use, it is asked as the adapters were taught: Reasoning first, in words of its
own.

Each chain is a talk of its own and waits for no other. One whose candidates are all refused is asked again, from other
perspectives and more freely, and at last it ends and says why. Nothing is decided by chance or by the neighbours: a
chain that is taken up again where it stopped becomes the same chain.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from zlib import crc32

from pydantic import ValidationError

from bonsai.builder.errors import BonsaiError
from bonsai.recipes.inference.ask import answer_session, check_questions, resolve_answer_language
from bonsai.recipes.inference.conversation import Candidate, Question, QuestionChain, Step
from bonsai.recipes.inference.generation import GREEDY, Engine, GenerationRequest, GenerationSettings
from bonsai.recipes.inference.perspectives import PERSPECTIVES, PLAIN, Perspective, next_question_request
from bonsai.recipes.inference.prompts import answer_prompt
from bonsai.recipes.inference.qtq_judge import (
    ScoredCandidate,
    explain_end,
    extract_question,
    ranking_score,
    score_candidate,
)
from bonsai.recipes.inference.sessions import Session, gather, run_sessions

_ASKS_BY_A_WORD = re.compile(r"なぜ|どの|どう|どん|何|誰|什么|怎|谁|哪|为何")

LONGEST = 128
"""tokens within which a question that was begun has to end; more than the longest of the records has in any language"""


def propose_with_prefix(
    chain: QuestionChain, views: Sequence[Perspective], decoder: GenerationSettings, persona: str
) -> Session[list[str]]:
    """A text from each perspective, with its first words before it."""
    brief = replace(decoder, max_new_tokens=min(decoder.max_new_tokens, LONGEST))
    openings = [view.opening[chain.language] for view in views]

    def asked(opening: str, text: str) -> bool:
        return bool(extract_question(_join_prefix(opening, text)))

    said = yield [
        GenerationRequest(
            f"{answer_prompt(next_question_request(chain, view, system=persona), '')}{opening}",
            brief,
            partial(asked, opening),
        )
        for view, opening in zip(views, openings, strict=True)
    ]
    return [_join_prefix(opening, one.text) for opening, one in zip(openings, said, strict=True)]


def propose_freely(
    chain: QuestionChain, views: Sequence[Perspective], decoder: GenerationSettings, persona: str
) -> Session[list[str]]:
    """A text from each perspective, after a Reasoning."""
    requests = [next_question_request(chain, view, system=persona) for view in views]
    answers = yield from gather([answer_session(one, "", decoder=decoder, passes="one") for one in requests])
    return [answer.answer for answer in answers]


def _join_prefix(opening: str, text: str) -> str:
    """A model that continues a text goes on behind the opening; a chat model may begin its sentence anew."""
    anew = text.lstrip(' "“「\n')
    if anew.startswith(opening):
        return anew
    if opening.isascii():
        return text if opening and text[:1].isalnum() else f"{opening}{text}"
    return text if _ASKS_BY_A_WORD.search(opening) and _ASKS_BY_A_WORD.search(text) else f"{opening}{text}"


OnStep = Callable[[QuestionChain], None]
"""Called with a chain whenever it grows: by an answer, by the choice of the next question, by its end."""


@dataclass(frozen=True, kw_only=True)
class QtQSettings:
    """How chains are led; part of what decides them."""

    decoder: GenerationSettings = GREEDY
    """of answers and of the first round of candidates"""
    candidates: int = 4
    """a round, each from another perspective"""
    rounds: int = 3
    """of candidates until a chain ends; from the second on they are sampled"""
    plain: bool = False
    """take whatever comes when the next question is asked for without perspective and judge: the baseline"""


_PREFIXED_ROUNDS = 2
"""rounds in which the question is begun for the model; in those after, it uses words of its own"""
_RESAMPLE_TEMPERATURES = (0.5, 0.8)
"""temperatures of the rounds after the first; the last one stays"""


def new_chain(question: Question, *, id: str, depth: int) -> QuestionChain:
    """A chain that has not been answered yet, in the language that its question is to be answered in."""
    theme = f"{question.instruction}\n{question.input}" if question.input else question.instruction
    return QuestionChain(id=id, theme=theme, language=resolve_answer_language(question).language, depth=depth)


def run_chains(
    engine: Engine,
    chains: Sequence[QuestionChain],
    settings: QtQSettings,
    *,
    personas: Mapping[str, str] | None = None,
    on_step: OnStep | None = None,
) -> list[QuestionChain]:
    """The chains, each complete, in their order; those that have steps already go on from there.

    Args:
        personas: by the id of the chain, what stands before each of its questions.
        on_step: what it was told stands, whatever comes after; keep it, and an interruption costs a chain one turn.

    Raises:
        AskingError: a chain's opening is empty, binary or too long to be a question.
        GenerationError: a question does not fit the model, or the model cannot be asked.
    """
    spoken = personas or {}
    check_questions(
        [_as_question(chain, chain.theme, spoken.get(chain.id, "")) for chain in chains if not chain.complete]
    )

    def grown(chain: QuestionChain) -> QuestionChain:
        if on_step is not None:
            on_step(chain)
        return chain

    def led(chain: QuestionChain) -> Session[QuestionChain]:
        persona = spoken.get(chain.id, "")
        while not chain.complete:
            step = _answer_next if next_question(chain) is not None else _choose_next
            chain = grown((yield from step(chain, settings, persona, engine.name)))
        return chain

    return run_sessions(engine, [led(chain) for chain in chains])


def _as_question(chain: QuestionChain, text: str, persona: str) -> Question:
    return Question(instruction=text, language=chain.language, system=persona)


def _answer_next(chain: QuestionChain, settings: QtQSettings, persona: str, model: str) -> Session[QuestionChain]:
    """The chain with its next question answered."""
    text = next_question(chain) or ""
    answer = yield from answer_session(_as_question(chain, text, persona), model, decoder=settings.decoder)
    steps = chain.steps
    chosen = steps[-1].candidates[0].perspective if steps else None
    step = Step(number=len(steps) + 1, question=text, perspective=chosen, answer=answer)
    return chain.model_copy(update={"steps": (*steps, step)})


def next_question(chain: QuestionChain) -> str | None:
    """What is to be answered next; None: the next question is still to be found, or there is none."""
    if chain.complete:
        return None
    if not chain.steps:
        return chain.theme
    considered = chain.steps[-1].candidates
    return considered[0].question if considered and considered[0].refused_because is None else None


def _choose_next(chain: QuestionChain, settings: QtQSettings, persona: str, model: str) -> Session[QuestionChain]:
    """The chain with its next question chosen, or with the reason why it ends."""
    refused: list[ScoredCandidate] = []
    for number in range(1 if settings.plain else settings.rounds):
        views = _views(chain, settings, number)
        propose = propose_freely if settings.plain or number >= _PREFIXED_ROUNDS else propose_with_prefix
        said = yield from propose(chain, views, _decoder(settings.decoder, number), persona)
        found = [score_candidate(text, view, chain) for view, text in zip(views, said, strict=True)]
        found = [_accept_any(one) for one in found] if settings.plain else found
        refused += [one for one in found if one.fault is not None]
        passed = sorted((one.candidate for one in found if one.fault is None), key=ranking_score, reverse=True)
        if passed:
            return _set_candidates(chain, (*passed, *(one.candidate for one in refused)))
    because = explain_end((one.fault for one in refused if one.fault), chain.language)
    return _set_candidates(chain, tuple(one.candidate for one in refused), ended_because=because)


def _accept_any(one: ScoredCandidate) -> ScoredCandidate:
    """The baseline asks whatever it is given, as long as it is something."""
    return (
        ScoredCandidate(one.candidate.model_copy(update={"refused_because": None}), None)
        if one.candidate.question
        else one
    )


def _views(chain: QuestionChain, settings: QtQSettings, number: int) -> list[Perspective]:
    """The perspectives of a round: first those that led the chain least, in another order for each chain and step."""
    if settings.plain:
        return [PLAIN]
    used = Counter(step.perspective for step in chain.steps)
    start = (crc32(chain.theme.encode("utf-8", "replace")) + len(chain.steps)) % len(PERSPECTIVES)
    turned = [*PERSPECTIVES[start:], *PERSPECTIVES[:start]]
    order = sorted(turned, key=lambda view: used[view.key])
    first = number * settings.candidates
    return [order[(first + place) % len(order)] for place in range(settings.candidates)]


def _decoder(decoder: GenerationSettings, number: int) -> GenerationSettings:
    if number == 0:
        return decoder
    temperature = max(decoder.temperature, _RESAMPLE_TEMPERATURES[min(number, len(_RESAMPLE_TEMPERATURES)) - 1])
    return replace(decoder, temperature=temperature, top_p=min(decoder.top_p, 0.95), seed=decoder.seed + number)


def _set_candidates(
    chain: QuestionChain, candidates: tuple[Candidate, ...], *, ended_because: str | None = None
) -> QuestionChain:
    *before, last = chain.steps
    steps = (*before, last.model_copy(update={"candidates": candidates}))
    return chain.model_copy(update={"steps": steps, "ended_because": ended_because})


class ChainStoreError(BonsaiError, ValueError):
    """A kept chain that cannot be read."""


class ChainStore:
    """A folder of chains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, chain: QuestionChain) -> Path:
        """Where a chain is kept."""
        return self.folder / f"{chain.id}.json"

    def write(self, chain: QuestionChain) -> None:
        """Keep a chain; whoever reads the file meets the chain as it was before, or as it is now.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self.folder, prefix=f".{chain.id}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(chain.model_dump_json(indent=1) + "\n")
            os.chmod(draft, 0o644)
            os.replace(draft, self.path(chain))
        except BaseException:
            os.unlink(draft)
            raise

    def load_or_new(self, chain: QuestionChain) -> QuestionChain:
        """The chain as it is kept, to be led at least as deep as before; if it isn't kept, itself.

        Raises:
            KeepingError: its file is damaged.
        """
        path = self.path(chain)
        if not path.exists():
            return chain
        try:
            kept = QuestionChain.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ChainStoreError(
                f"{path}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}; move it away to begin anew. "
                "壊れています。別の場所へ移してください。"
            ) from error
        return kept.model_copy(update={"depth": max(kept.depth, chain.depth)})


def new_stored_chain(question: Question, *, model: str, depth: int, settings: QtQSettings) -> QuestionChain:
    """A new chain, named after all that decides its course: the same call finds what it left behind.

    The depth is no part of the name, so a finished chain can be led deeper.
    """
    told = {"question": question.model_dump(mode="json"), "model": model, "settings": asdict(settings)}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace"))
    return new_chain(question, id=f"chain-{digest.hexdigest()[:12]}", depth=depth)
