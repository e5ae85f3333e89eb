"""Next questions of a chain from a model, asked for together.

A small model that is asked for a question answers the old one once more. So it is not asked whether it wants to: its
answer is begun for it with the perspective's first words ("What would have to change"), and it ends as soon as the
question does. Where that got nothing of use, it is asked as the adapters were taught: Reasoning first, in words of its
own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bonsai.recipes.inference.asking.ask import asking
from bonsai.recipes.inference.asking.wording import for_answer
from bonsai.recipes.inference.chains.judging import new_question
from bonsai.recipes.inference.chains.perspectives import Perspective, asking_on
from bonsai.recipes.inference.conversation import Chain
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Request
from bonsai.recipes.inference.generation.talks import Talk, side_by_side

_ASKS_BY_A_WORD = re.compile(r"なぜ|どの|どう|どん|何|誰|什么|怎|谁|哪|为何")

LONGEST = 128
"""tokens within which a question that was begun has to end; more than the longest of the records has in any language"""


def begun_for_it(chain: Chain, views: Sequence[Perspective], decoder: Decoder, persona: str) -> Talk[list[str]]:
    """A text from each perspective, with its first words before it."""
    brief = replace(decoder, max_new_tokens=min(decoder.max_new_tokens, LONGEST))
    openings = [view.opening[chain.language] for view in views]

    def asked(opening: str, text: str) -> bool:
        return bool(new_question(_together(opening, text)))

    said = yield [
        Request(f"{for_answer(asking_on(chain, view, system=persona), '')}{opening}", brief, partial(asked, opening))
        for view, opening in zip(views, openings, strict=True)
    ]
    return [_together(opening, one.text) for opening, one in zip(openings, said, strict=True)]


def in_its_own_words(chain: Chain, views: Sequence[Perspective], decoder: Decoder, persona: str) -> Talk[list[str]]:
    """A text from each perspective, after a Reasoning."""
    requests = [asking_on(chain, view, system=persona) for view in views]
    answers = yield from side_by_side([asking(one, "", decoder=decoder, passes="one") for one in requests])
    return [answer.answer for answer in answers]


def _together(opening: str, text: str) -> str:
    """A model that continues a text goes on behind the opening; a chat model may begin its sentence anew."""
    anew = text.lstrip(' "“「\n')
    if anew.startswith(opening):
        return anew
    if opening.isascii():
        return text if opening and text[:1].isalnum() else f"{opening}{text}"
    return text if _ASKS_BY_A_WORD.search(opening) and _ASKS_BY_A_WORD.search(text) else f"{opening}{text}"
