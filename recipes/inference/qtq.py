"""Question to Question: run chains in which each answer leads to a deeper question, and store them.

1. Answer the question.
2. Propose the next one from several perspectives. A small model that is asked for a question answers the old one again,
   so its text is started with the perspective's first words ("What would have to change") and ends with the question.
3. Judge the candidates (`bonsai.recipes.inference.qtq_judge`) and take the best that passes. If none does, propose
   again from other perspectives, sampled; in the last rounds as the adapters were trained, with a reasoning first and
   no given words. After the last round the chain ends and says why.

Each chain is a session of its own and waits for no other. Neither chance nor its neighbours change it: a chain that is
resumed after an interruption becomes the same chain.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from zlib import crc32

from pydantic import ValidationError

from bonsai.builder.errors import BonsaiError, describe_first_fault
from bonsai.builder.files import atomic_write_text
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

PREFIXED_ROUNDS = 2
"""rounds in which a question is started with the perspective's words; in later ones the model uses its own"""
RESAMPLE_TEMPERATURES = (0.5, 0.8)
"""of the rounds after the first; the last one stays"""
LONGEST = 128
"""tokens within which a question that was started has to end; more than the longest of the records in any language"""

_INTERROGATIVE = re.compile(r"なぜ|どの|どう|どん|何|誰|什么|怎|谁|哪|为何")

OnStep = Callable[[QuestionChain], None]
"""Called with a chain whenever it grows: by an answer, by the choice of the next question, by its end."""


class ChainStoreError(BonsaiError, ValueError):
    """A stored chain that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class QtQSettings:
    """How chains are run; part of what identifies a stored chain."""

    decoder: GenerationSettings = GREEDY
    """of answers and of the first round of candidates"""
    candidates: int = 4
    """a round, each from another perspective"""
    rounds: int = 3
    """of candidates until a chain ends; from the second on they are sampled"""
    plain: bool = False
    """the baseline: take whatever comes when the next question is asked for without perspectives and judge"""


def new_chain(question: Question, *, id: str, depth: int) -> QuestionChain:
    """Create a chain without steps, in the language its question is to be answered in."""
    theme = f"{question.instruction}\n{question.input}" if question.input else question.instruction
    return QuestionChain(id=id, theme=theme, language=resolve_answer_language(question).language, depth=depth)


def new_stored_chain(question: Question, *, model: str, depth: int, settings: QtQSettings) -> QuestionChain:
    """Create a chain whose id is a hash of all that determines it, so that the same call finds what it left behind.

    The depth is not part of the id, so a complete chain can be continued.
    """
    identity = {"question": question.model_dump(mode="json"), "model": model, "settings": asdict(settings)}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace"))
    return new_chain(question, id=f"chain-{digest.hexdigest()[:12]}", depth=depth)


def next_question(chain: QuestionChain) -> str | None:
    """Return the question to be answered next; None if it is still to be chosen, or there is none."""
    if chain.complete:
        return None
    if not chain.steps:
        return chain.theme
    candidates = chain.steps[-1].candidates
    return candidates[0].question if candidates and candidates[0].refused_because is None else None


def run_chains(
    engine: Engine,
    chains: Sequence[QuestionChain],
    settings: QtQSettings,
    *,
    personas: Mapping[str, str] | None = None,
    on_step: OnStep | None = None,
) -> list[QuestionChain]:
    """Run all chains until they are complete and return them in order; chains that have steps are continued.

    Args:
        personas: by the id of the chain, the system text before each of its questions.
        on_step: what it has received is final; store it, and an interruption costs a chain one turn.

    Raises:
        AskingError: a chain's opening question is empty, binary or too long.
        GenerationError: a question does not fit the model, or the model cannot be asked.
    """

    def as_question(chain: QuestionChain, text: str) -> Question:
        return Question(instruction=text, language=chain.language, system=(personas or {}).get(chain.id, ""))

    def chain_session(chain: QuestionChain) -> Session[QuestionChain]:
        while not chain.complete:
            question = next_question(chain)
            if question is None:
                chain = yield from _choose_next(chain, settings, (personas or {}).get(chain.id, ""))
            else:
                session = answer_session(as_question(chain, question), engine.name, decoder=settings.decoder)
                answer = yield from session
                perspective = chain.steps[-1].candidates[0].perspective if chain.steps else None
                number = len(chain.steps) + 1
                step = Step(number=number, question=question, perspective=perspective, answer=answer)
                chain = chain.model_copy(update={"steps": (*chain.steps, step)})
            if on_step is not None:
                on_step(chain)
        return chain

    check_questions([as_question(chain, chain.theme) for chain in chains if not chain.complete])
    return run_sessions(engine, [chain_session(chain) for chain in chains])


def _choose_next(chain: QuestionChain, settings: QtQSettings, persona: str) -> Session[QuestionChain]:
    """Return the chain with its next question chosen, or ended with the reason."""
    # 1. Order the perspectives: least used in the chain first, rotated differently for each chain and step.
    used = Counter(step.perspective for step in chain.steps)
    start = (crc32(chain.theme.encode("utf-8", "replace")) + len(chain.steps)) % len(PERSPECTIVES)
    order = sorted([*PERSPECTIVES[start:], *PERSPECTIVES[:start]], key=lambda view: used[view.key])

    passed: list[Candidate] = []
    rejected: list[ScoredCandidate] = []
    for number in range(1 if settings.plain else settings.rounds):
        # 2. Propose a question from each perspective of this round.
        first = number * settings.candidates
        views = [order[(first + place) % len(order)] for place in range(settings.candidates)]
        decoder = settings.decoder
        if number > 0:
            temperature = RESAMPLE_TEMPERATURES[min(number, len(RESAMPLE_TEMPERATURES)) - 1]
            decoder = replace(
                decoder,
                temperature=max(decoder.temperature, temperature),
                top_p=min(decoder.top_p, 0.95),
                seed=decoder.seed + number,
            )
        if settings.plain:
            views = [PLAIN]
        propose = propose_freely if settings.plain or number >= PREFIXED_ROUNDS else propose_with_prefix
        texts = yield from propose(chain, views, decoder, persona)

        # 3. Judge them; the baseline takes anything that is not empty.
        for text, view in zip(texts, views, strict=True):
            scored = score_candidate(text, view, chain)
            if settings.plain and scored.candidate.question:
                passed.append(scored.candidate.model_copy(update={"refused_because": None}))
            elif scored.fault is None:
                passed.append(scored.candidate)
            else:
                rejected.append(scored)
        if passed:
            break

    # 4. The best comes first, the rejected last; without any the chain ends.
    passed.sort(key=ranking_score, reverse=True)
    stop_reason = None if passed else explain_end((one.fault for one in rejected if one.fault), chain.language)
    *before, last = chain.steps
    last = last.model_copy(update={"candidates": (*passed, *(one.candidate for one in rejected))})
    return chain.model_copy(update={"steps": (*before, last), "ended_because": stop_reason})


def propose_with_prefix(
    chain: QuestionChain, views: Sequence[Perspective], decoder: GenerationSettings, persona: str
) -> Session[list[str]]:
    """Complete the first words of each perspective, each up to the end of the first question."""
    short = replace(decoder, max_new_tokens=min(decoder.max_new_tokens, LONGEST))
    openings = [view.opening[chain.language] for view in views]

    def is_question(opening: str, text: str) -> bool:
        return bool(extract_question(_join_prefix(opening, text)))

    completions = yield [
        GenerationRequest(
            f"{answer_prompt(next_question_request(chain, view, system=persona), '')}{opening}",
            short,
            partial(is_question, opening),
        )
        for view, opening in zip(views, openings, strict=True)
    ]
    return [_join_prefix(opening, one.text) for opening, one in zip(openings, completions, strict=True)]


def propose_freely(
    chain: QuestionChain, views: Sequence[Perspective], decoder: GenerationSettings, persona: str
) -> Session[list[str]]:
    """Ask for a question from each perspective, with a reasoning first and in the model's own words."""
    requests = [next_question_request(chain, view, system=persona) for view in views]
    answers = yield from gather([answer_session(one, "", decoder=decoder, passes="one") for one in requests])
    return [answer.answer for answer in answers]


def _join_prefix(opening: str, text: str) -> str:
    """Join the given first words with the model's text, unless that starts the sentence anew, as chat models do."""
    restarted = text.lstrip(' "“「\n')
    if restarted.startswith(opening):
        return restarted
    if opening.isascii():
        return text if opening and text[:1].isalnum() else f"{opening}{text}"
    return text if _INTERROGATIVE.search(opening) and _INTERROGATIVE.search(text) else f"{opening}{text}"


class ChainStore:
    """A folder of chains, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, chain: QuestionChain) -> Path:
        """Return the path of a chain's file."""
        return self.folder / f"{chain.id}.json"

    def write(self, chain: QuestionChain) -> None:
        """Store a chain, replacing its file atomically.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.path(chain), chain.model_dump_json(indent=1) + "\n")

    def load_or_new(self, chain: QuestionChain) -> QuestionChain:
        """Load the stored chain, at least as deep as asked for now; return ``chain`` itself if it is not stored.

        Raises:
            ChainStoreError: its file is damaged.
        """
        path = self.path(chain)
        if not path.exists():
            return chain
        try:
            stored = QuestionChain.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ChainStoreError(
                f"{path}: {describe_first_fault(error)}; move it away to start again. "
                "壊れています。別の場所へ移してください。"
            ) from error
        return stored.model_copy(update={"depth": max(stored.depth, chain.depth)})
