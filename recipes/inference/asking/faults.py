"""What is wrong with a Reasoning or an answer, by the rules that the records are checked with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from bonsai.builder.checks.mojibake import mojibake
from bonsai.builder.checks.reasoning import empty_talk
from bonsai.builder.checks.repetition import repeated
from bonsai.builder.checks.text_fields import Fault, shortened
from bonsai.recipes.inference.asking.guard import loop_at_end, once
from bonsai.recipes.inference.asking.said import Part, answer_alone, growing, reasoning_alone
from bonsai.recipes.inference.conversation import Because
from bonsai.recipes.inference.generation.engine import Generation, StoppedBy

_ANNOUNCES = re.compile(r"[:：]\s*$")


class Spoken(NamedTuple):
    """A Reasoning or an answer as it may be shown: what ran in a loop is cut where all was said once."""

    text: str
    loop: Because | None
    """what it says again, in a sentence; None: nothing"""
    stopped_by: StoppedBy


def spoken(said: Generation, part: Part, *, refrain: bool) -> Spoken:
    """What a prompt for this part alone brought."""
    if said.stopped_by == "watch":
        return cut(growing(said.text, part).text, refrain=refrain)
    text = answer_alone(said.text) if part == "answer" else reasoning_alone(said.text)
    return whole(text, said.stopped_by, refrain=refrain)


def whole(text: str, stopped_by: StoppedBy, *, refrain: bool) -> Spoken:
    """A text that was not stopped for running in a loop."""
    fault = next(_repetitions(text, refrain=refrain), None)
    return Spoken(text, _again(fault.what) if fault else None, stopped_by)


def cut(text: str, *, refrain: bool) -> Spoken:
    """A text that was stopped: for running in a loop, or where another heading came."""
    loop = loop_at_end(text, refrain=refrain)
    if loop is None:
        return whole(text, "stop_string", refrain=refrain)
    return Spoken(once(text, loop), _again(f"'{shortened(loop.said)}' is said again and again"), "watch")


def _again(what: str) -> Because:
    """Of a finding, what is said again and how often."""
    said = what[1:].rpartition("' is said ")[0]
    return Because(en=what, ja=f"「{said}」を繰り返しています")


def repeats(text: str, *, refrain: bool) -> bool:
    """Whether a text says the same more than once."""
    return any(True for _ in _repetitions(text, refrain=refrain))


def _repetitions(text: str, *, refrain: bool) -> Iterator[Fault]:
    return repeated(re.sub(r"\n+", "\n", text), refrain=refrain)


def reasoning_fault(reasoning: str, instruction: str) -> Because | None:
    """Why a Reasoning is none, in a clause; None: it is one."""
    if not reasoning:
        return Because(en="it is missing", ja="何も書かれていません")
    if _ANNOUNCES.search(reasoning):
        return Because(
            en=f"'{shortened(reasoning)}' only announces it", ja=f"「{shortened(reasoning)}」は前置きだけです"
        )
    if any(True for _ in empty_talk(reasoning, instruction, "", answers=False)):
        return Because(
            en=f"'{shortened(reasoning)}' only restates the question",
            ja=f"「{shortened(reasoning)}」は質問の言い換えです",
        )
    return None


def is_garbled(text: str) -> bool:
    """Whether mojibake stands inside."""
    return any(True for _ in mojibake(text))
