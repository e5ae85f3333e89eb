"""Whether a proposed question may come next in a chain, and how good it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.language import foreign
from bonsai.builder.checks.mojibake import mojibake
from bonsai.builder.checks.reasoning import overlap
from bonsai.builder.checks.repetition import repeated
from bonsai.builder.checks.rewording import content
from bonsai.builder.schema import Language
from bonsai.recipes.inference.chains.aspects import aspects
from bonsai.recipes.inference.chains.depth import DEEP_FROM, depth
from bonsai.recipes.inference.chains.perspectives import Perspective, readable, turn
from bonsai.recipes.inference.chains.reasons import Kind, Refusal, refusal
from bonsai.recipes.inference.chains.sameness import SAME_FROM, sameness
from bonsai.recipes.inference.conversation import Candidate, Chain
from bonsai.recipes.inference.summary.essentials import sentences

ON_THEME = 0.30
"""cosine with the theme, the last question or the last turn below which a question has left the theme.

Of the 252 question_to_question rows of the records 90 to 94% reach it; of pairs drawn from two chains 20 to 30%.
"""
COPIED = 0.6
"""share of pieces in common from which a question is the request itself"""
LONGEST = 300
"""characters; the longest question of the records has 161"""

ADDED = 0.2
"""share of its content up to which a question adds nothing to a sentence of an answer"""
_REPEATS = frozenset({"whether", "role", "supposed"})
"""what a question asks for that only says an answer again: "is it so", "what if it is so"; why and how go on from it"""

_BULLET = re.compile(
    r"^\s*(?:[-*•・>]|\d{1,2}\s*[.．、)）:：])?\s*(?:(?:next |new )?question\s*\d*\s*[:：]|質問[:：]|问题[:：])?\s*",
    re.I,
)
_SENTENCE_END = re.compile(r"(?<=[。！？!?])[\"”」』)]?|(?<=\.)\s|\n")
_ASKS = re.compile(r"[?？][\"”」』)]?$|(?:か|でしょう|かな|吗|呢)[。.]?$")
_MARKS = re.compile(r"###|\[INST|<\||\bWrite (?:just )?one question\b|質問を一つだけ書いて|只写一个", re.I)
_POINTS = re.compile(
    r"\b(?:the|this|that) (?:answer|claim|question|exchange)\b(?! to)"
    r"|(?:この|その|上の)(?:答え|回答|主張|質問)|(?:这个|该|上述)(?:回答|说法)",
    re.I,
)
"""at what stands beside the request: the question is asked alone"""
_SAID_TWICE = re.compile(r"\b(\w+(?: \w+){3,})\b.*\b\1\b|([ぁ-んァ-ヴー一-鿿]{12,}).*\2", re.I)
"""four words, or twelve letters of Japanese or Chinese: "a shop that sells well is a shop that sells well" """


def new_question(text: str) -> str:
    """The first question in a text, without bullets and labels; empty if it asks nothing."""
    pieces = (_BULLET.sub("", piece).strip().strip('"“”「」') for piece in _SENTENCE_END.split(text))
    return next((piece for piece in pieces if _ASKS.search(piece)), "")


class Judged(NamedTuple):
    """A candidate as it is kept, and its fault if it has one."""

    candidate: Candidate
    fault: Kind | None


def judged(text: str, perspective: Perspective, chain: Chain) -> Judged:
    """What a model said when it was asked for the next question, weighed against the chain so far.

    The first fault found is the one that is told.
    """
    question = new_question(text)
    shown = readable(question or text.strip()[:LONGEST])
    asked = [step.question for step in chain.steps]
    answered = [piece for step in chain.steps for piece in sentences(step.answer.answer)]
    *known, new = vectors([*asked, *answered, chain.theme, turn(chain.steps[-1], chain.language), shown])
    cosines = [float(row @ new) for row in known]
    theme = cosines[-2]
    near = max(theme, cosines[len(asked) - 1], cosines[-1])
    reached = depth(shown, asked)
    fault = _faults(text, question, perspective, chain, asked, answered, near, reached)
    candidate = Candidate(
        question=shown,
        perspective=perspective.key,
        nearness=max(cosines[:-2]),
        theme=theme,
        depth=reached,
        refused_because=fault.because if fault else None,
    )
    return Judged(candidate, fault.kind if fault else None)


def worth(candidate: Candidate) -> float:
    """What candidates that passed are ranked by: deep, on the theme, and far from what was said."""
    return candidate.depth + candidate.theme - candidate.nearness


def _faults(
    text: str,
    question: str,
    perspective: Perspective,
    chain: Chain,
    asked: Sequence[str],
    answered: Sequence[str],
    near: float,
    reached: float,
) -> Refusal | None:
    spoken = chain.language
    if not text.strip():
        return refusal(Kind.SILENT, spoken)
    if (malformed := _malformed(question, perspective, spoken)) is not None:
        return malformed
    if (circular := _circular(question, asked, answered, spoken)) is not None:
        return circular
    if near < ON_THEME:
        return refusal(Kind.ASTRAY, spoken, found=near, limit=ON_THEME)
    return refusal(Kind.SHALLOW, spoken, found=reached, limit=DEEP_FROM) if reached < DEEP_FROM else None


def _malformed(question: str, perspective: Perspective, spoken: Language) -> Refusal | None:
    if not question:
        return refusal(Kind.NO_QUESTION, spoken)
    if any(True for _ in mojibake(question)):
        return refusal(Kind.GARBLED, spoken)
    if any(fault.severity is Severity.ERROR for fault in foreign(question, spoken)):
        return refusal(Kind.FOREIGN, spoken)
    wording = perspective.wording[spoken]
    about = content(question)
    if (
        _MARKS.search(question)
        or _POINTS.search(question)
        or overlap(question, wording) >= COPIED
        or (about and about <= content(wording))
    ):
        return refusal(Kind.REQUEST, spoken)
    if len(question) > LONGEST:
        return refusal(Kind.LONG, spoken, found=len(question), limit=LONGEST)
    if _SAID_TWICE.search(question) or any(True for _ in repeated(question)):
        return refusal(Kind.LOOPING, spoken)
    return None if about else refusal(Kind.EMPTY, spoken)


def _circular(question: str, asked: Sequence[str], answered: Sequence[str], spoken: Language) -> Refusal | None:
    likely, number = max((sameness(earlier, question), -number) for number, earlier in enumerate(asked, 1))
    if likely >= SAME_FROM:
        return refusal(Kind.CIRCULAR, spoken, found=-number, likely=likely)
    if not (aspects(question) <= _REPEATS or "supposed" in aspects(question)):
        return None
    about = content(question)
    said_all = [said for said in answered if len(about - content(said)) <= ADDED * len(about)]
    likely, sentence = max(((sameness(said, question), said) for said in said_all), default=(0.0, ""))
    return refusal(Kind.ANSWERED, spoken, found=sentence[:80], likely=likely) if likely >= SAME_FROM else None
