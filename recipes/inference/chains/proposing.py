"""Next questions from a model, asked for in one batch.

A small model that is asked for a question answers the old one once more. So it is not asked whether it wants to: its
answer is begun for it with the perspective's first words ("What would have to change"), and it ends as soon as the
question does. Where that got nothing of use, it is asked as the adapters were taught: Reasoning first, in words of its
own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from bonsai.recipes.inference.asking.ask import ask
from bonsai.recipes.inference.asking.wording import for_answer
from bonsai.recipes.inference.chains.judging import new_question
from bonsai.recipes.inference.chains.perspectives import Perspective, asking_on
from bonsai.recipes.inference.conversation import Chain
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Engine

_ASKS_BY_A_WORD = re.compile(r"なぜ|どの|どう|どん|何|誰|什么|怎|谁|哪|为何")

LONGEST = 128
"""tokens within which a question that was begun has to end; more than the longest of the records has in any language"""


class Proposal(NamedTuple):
    """A chain whose next question is asked for, and from where."""

    chain: Chain
    perspective: Perspective


def begun_for_it(
    engine: Engine, proposals: Sequence[Proposal], decoder: Decoder, personas: Mapping[str, str]
) -> list[str]:
    """The texts, each with the perspective's first words, in the order of the proposals.

    Raises:
        GenerationError: a prompt does not fit the model, or the model cannot be asked.
    """
    openings = [perspective.opening[chain.language] for chain, perspective in proposals]
    prompts = [
        f"{for_answer(asking_on(chain, perspective, system=personas.get(chain.id, '')), '')}{opening}"
        for (chain, perspective), opening in zip(proposals, openings, strict=True)
    ]

    def asked(place: int, text: str) -> bool:
        return bool(new_question(_together(openings[place], text)))

    brief = replace(decoder, max_new_tokens=min(decoder.max_new_tokens, LONGEST))
    said = engine.generate(prompts, brief, watch=asked)
    return [_together(opening, one.text) for opening, one in zip(openings, said, strict=True)]


def in_its_own_words(
    engine: Engine, proposals: Sequence[Proposal], decoder: Decoder, personas: Mapping[str, str]
) -> list[str]:
    """The texts after a Reasoning, in the order of the proposals.

    Raises:
        GenerationError: a prompt does not fit the model, or the model cannot be asked.
    """
    requests = [asking_on(chain, perspective, system=personas.get(chain.id, "")) for chain, perspective in proposals]
    return [answer.answer for answer in ask(engine, requests, decoder=decoder, passes="one")]


def _together(opening: str, text: str) -> str:
    """A model that continues a text goes on behind the opening; a chat model may begin its sentence anew."""
    anew = text.lstrip(' "“「\n')
    if anew.startswith(opening):
        return anew
    if opening.isascii():
        return text if opening and text[:1].isalnum() else f"{opening}{text}"
    return text if _ASKS_BY_A_WORD.search(opening) and _ASKS_BY_A_WORD.search(text) else f"{opening}{text}"
