"""The course of one question: one pass, two where that was not enough, one retry where the answer went wrong.

Two passes are those of the post of 2024-05-07: the Reasoning is asked for alone and then put into the prompt, so that
it cannot vanish from the answer. A course asks by yielding a `Turn` and is sent what was said; it knows no engine.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from bonsai.builder.messages import GAP, RESPONSE_MARKER
from bonsai.builder.schema import Language
from bonsai.recipes.inference.asking.faults import Spoken, cut, is_garbled, reasoning_fault, repeats, spoken, whole
from bonsai.recipes.inference.asking.guard import may_repeat
from bonsai.recipes.inference.asking.other_settings import livelier, without_loops
from bonsai.recipes.inference.asking.said import Part, both, growing
from bonsai.recipes.inference.asking.tongue import Tongue, in_another, tongue_of
from bonsai.recipes.inference.asking.wording import for_answer, for_reasoning, one_pass
from bonsai.recipes.inference.conversation import Because, Question
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Generation, StoppedBy

Passes = Literal["auto", "one", "two"]
"""auto: two only where one pass was not enough; one: never two; two: the Reasoning is asked for alone at once"""


class Turn(NamedTuple):
    """A prompt that a course waits for."""

    prompt: str
    decoder: Decoder
    begins: Part
    """what the prompt asks for first"""
    refrain: bool
    """whether lines may come again"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a course came to; fields as in `bonsai.recipes.inference.conversation.Answer`."""

    language: Language
    reasoning: str
    answer: str
    passes: Literal[1, 2]
    second_pass_because: Because | None
    retried_because: Because | None
    loops: bool
    stopped_by: StoppedBy


_TO_BE_ALONE = Because(en="the Reasoning was to be asked for alone", ja="Reasoningだけを先に尋ねる設定です")
_NO_ANSWER = Because(en="one pass gave a Reasoning and no answer", ja="一段ではReasoningだけで、答えがありませんでした")
_SECOND_KEPT = Because(en="the second text is kept", ja="二度目の文を採りました")
_FIRST_KEPT = Because(en="the first is kept, the second was no better", ja="二度目もよくならず、初めの文を残しました")

Course = Generator[Turn, Generation, Outcome]
_Turns = Generator[Turn, Generation, "_Draft"]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    reasoning: str
    answer: Spoken
    second_pass_because: Because | None = None


def course(question: Question, *, decoder: Decoder, passes: Passes) -> Course:
    """Ask one question."""
    return _Asking(question, decoder, tongue_of(question), may_repeat(question.instruction)).course(passes)


class _Asking(NamedTuple):
    question: Question
    decoder: Decoder
    tongue: Tongue
    refrain: bool

    def course(self, passes: Passes) -> Course:
        if passes == "two":
            first = yield from self._two_passes(_TO_BE_ALONE)
        else:
            first = yield from self._one_pass(or_two=passes == "auto")
        fault = self._fault(first)
        kept, retried_because = first, None
        if fault is not None:
            second = yield from self._again(first)
            kept = first if self._fault(second) or is_garbled(second.answer.text) else second
            which = _SECOND_KEPT if kept is second else _FIRST_KEPT
            retried_because = Because(en=f"the answer {fault.en}; {which.en}", ja=f"答えが{fault.ja}。{which.ja}")
        texts = (kept.reasoning, kept.answer.text)
        return Outcome(
            language=self.tongue.language,
            reasoning=kept.reasoning,
            answer=kept.answer.text,
            passes=1 if first.second_pass_because is None else 2,
            second_pass_because=first.second_pass_because,
            retried_because=retried_because,
            loops=any(repeats(text, refrain=self.refrain) for text in texts),
            stopped_by=kept.answer.stopped_by,
        )

    def _one_pass(self, *, or_two: bool) -> _Turns:
        said = yield self._turn(one_pass(self.question), "reasoning")
        found = both(said.text)
        answer = whole(found.answer, said.stopped_by, refrain=self.refrain)
        reasoning = found.reasoning
        because: Because | None = None
        if said.stopped_by == "watch":
            piece = growing(said.text, "reasoning")
            looping = cut(piece.text, refrain=self.refrain)
            if piece.part == "answer":
                answer = looping
            else:
                reasoning, answer = looping.text, looping._replace(text="")
                because = _stopped(looping.loop)
        fault = reasoning_fault(reasoning, self.question.instruction)
        if fault is not None and because is None:
            because = Because(
                en=f"one pass gave no Reasoning: {fault.en}", ja=f"一段ではReasoningが得られませんでした：{fault.ja}"
            )
        again = whole(reasoning, said.stopped_by, refrain=self.refrain).loop
        if again is not None and because is None:
            because = _stopped(again)
        elif not answer.text and because is None:
            because = _NO_ANSWER
        first = _Draft(reasoning=reasoning, answer=answer)
        if because is None or not or_two:
            return first
        is_sound = fault is None and again is None
        return (yield from self._two_passes(because, first=first, reasoning=reasoning if is_sound else None))

    def _two_passes(self, because: Because, *, first: _Draft | None = None, reasoning: str | None = None) -> _Turns:
        """Get the Reasoning, unless it is there, then the answer.

        Args:
            first: what one pass gave; it stays where the second pass gives less.
        """
        if reasoning is None:
            reasoning = yield from self._reasoning(first.reasoning if first else "")
        said = yield self._turn(for_answer(self.question, reasoning), "answer")
        answer = spoken(said, "answer", refrain=self.refrain)
        if not answer.text and first is not None:
            answer = first.answer
        return _Draft(reasoning=reasoning, answer=answer, second_pass_because=because)

    def _reasoning(self, poor: str, *, in_language: Language | None = None) -> Generator[Turn, Generation, str]:
        """Ask for the Reasoning alone, in other words and more freely where the first gave nothing, or ran in a loop.

        Args:
            poor: a Reasoning that is better than none.
        """
        marker = RESPONSE_MARKER.strip()
        narrow = replace(self.decoder, stop_strings=(*self.decoder.stop_strings, marker, GAP))
        wide = livelier(replace(self.decoder, stop_strings=(*self.decoder.stop_strings, marker)))
        for wording, decoder in enumerate((narrow, wide)):
            prompt = for_reasoning(self.question, self.tongue.language, wording, in_language=in_language)
            said = yield self._turn(prompt, "reasoning")._replace(decoder=decoder)
            found = spoken(said, "reasoning", refrain=self.refrain)
            says_something = reasoning_fault(found.text, self.question.instruction) is None
            if says_something and not repeats(found.text, refrain=self.refrain):
                return found.text
            is_better = says_something and reasoning_fault(poor, self.question.instruction) is not None
            poor = found.text if is_better else poor or found.text
        return poor

    def _again(self, first: _Draft) -> _Turns:
        """The answer once more: with other settings after a loop, asked for in so many words after a wrong language."""
        language = self.tongue.language if in_another(first.answer.text, self.tongue) else None
        reasoning = first.reasoning
        if language and in_another(reasoning, self.tongue):
            reasoning = (yield from self._reasoning("", in_language=language)) or reasoning
        turn = self._turn(for_answer(self.question, reasoning, in_language=language), "answer")
        if first.answer.loop or not first.answer.text:
            turn = turn._replace(decoder=without_loops(self.decoder))
        said = yield turn
        return _Draft(reasoning=reasoning, answer=spoken(said, "answer", refrain=self.refrain))

    def _fault(self, draft: _Draft) -> Because | None:
        """What is wrong with an answer, in words that follow 'the answer' or 「答えが」; None: nothing."""
        if loop := draft.answer.loop:
            return Because(en=f"ran in a loop: {loop.en}", ja=loop.ja)
        if not draft.answer.text:
            return Because(en="was empty", ja="空でした")
        return in_another(draft.answer.text, self.tongue)

    def _turn(self, prompt: str, begins: Part) -> Turn:
        return Turn(prompt, self.decoder, begins, self.refrain)


def _stopped(loop: Because | None) -> Because:
    if loop is None:
        return Because(en="the Reasoning did not come to an end", ja="Reasoningが終わりませんでした")
    return Because(en=f"the Reasoning ran in a loop: {loop.en}", ja=f"Reasoningが{loop.ja}")
