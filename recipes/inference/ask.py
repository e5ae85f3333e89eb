"""Ask a model a question and get a checked reasoning and answer.

Chosen on answers of the seedling that had run in a loop, when the penalty still counted the prompt too: from a penalty
of 1.15 on, the texts drifted off into words that nothing had asked for; at 1.05 half of them still looped. The barred
runs are long because a token of Japanese may be a third of a character: shorter ones would forbid common words.

Two passes are those of the post of 2024-05-07: the Reasoning is asked for alone and then put into the prompt, so that
it cannot vanish from the answer. A course asks by yielding a `Turn` and is sent what was said; it knows no engine.

Every question runs its own course (`bonsai.recipes.inference.ask`): one pass, two where one was not enough,
a retry where the text ran in a loop. Here the courses become talks with an engine, held beside one another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from bonsai.builder.checks.base import Issue, Severity, truncate
from bonsai.builder.checks.language import language_issues
from bonsai.builder.checks.reasoning import uninformative_issues
from bonsai.builder.checks.repetition import allows_repetition, detect_loop, repetition_issues, trim_to_first
from bonsai.builder.checks.unicode import mojibake_issues
from bonsai.builder.errors import AskingError
from bonsai.builder.language_id import detect_language
from bonsai.builder.prompt import RESPONSE_MARKER, SECTION_BREAK, format_instruction
from bonsai.builder.schema import LANGUAGES, Language
from bonsai.recipes.inference.conversation import Answer, LocalizedText, Question
from bonsai.recipes.inference.generation import (
    GREEDY,
    Completion,
    Engine,
    FinishReason,
    GenerationRequest,
    GenerationSettings,
)
from bonsai.recipes.inference.prompts import (
    Part,
    answer_prompt,
    one_pass_prompt,
    parse_answer,
    parse_one_pass,
    parse_partial,
    parse_reasoning,
    reasoning_prompt,
    starts_next_section,
)
from bonsai.recipes.inference.sessions import Session, run_sessions

_ANNOUNCES = re.compile(r"[:：]\s*$")


class CleanText(NamedTuple):
    """A Reasoning or an answer as it may be shown: what ran in a loop is cut where all was said once."""

    text: str
    loop: LocalizedText | None
    """what it says again, in a sentence; None: nothing"""
    stopped_by: FinishReason


def clean_generation(said: Completion, part: Part, *, refrain: bool) -> CleanText:
    """What a prompt for this part alone brought."""
    if said.stopped_by == "watch":
        return trim_loop(parse_partial(said.text, part).text, refrain=refrain)
    text = parse_answer(said.text) if part == "answer" else parse_reasoning(said.text)
    return check_text(text, said.stopped_by, refrain=refrain)


def check_text(text: str, stopped_by: FinishReason, *, refrain: bool) -> CleanText:
    """A text that was not stopped for running in a loop."""
    fault = next(_repetitions(text, refrain=refrain), None)
    return CleanText(text, _again(fault.message) if fault else None, stopped_by)


def trim_loop(text: str, *, refrain: bool) -> CleanText:
    """A text that was stopped: for running in a loop, or where another heading came."""
    loop = detect_loop(text, refrain=refrain)
    if loop is None:
        return check_text(text, "stop_string", refrain=refrain)
    return CleanText(trim_to_first(text, loop), _again(f"'{truncate(loop.unit)}' is said again and again"), "watch")


def _again(what: str) -> LocalizedText:
    """Of a finding, what is said again and how often."""
    said = what[1:].rpartition("' is said ")[0]
    return LocalizedText(en=what, ja=f"「{said}」を繰り返しています")


def has_repetition(text: str, *, refrain: bool) -> bool:
    """Whether a text says the same more than once."""
    return any(True for _ in _repetitions(text, refrain=refrain))


def _repetitions(text: str, *, refrain: bool) -> Iterator[Issue]:
    return repetition_issues(re.sub(r"\n+", "\n", text), refrain=refrain)


def reasoning_problem(reasoning: str, instruction: str) -> LocalizedText | None:
    """Why a Reasoning is none, in a clause; None: it is one."""
    if not reasoning:
        return LocalizedText(en="it is missing", ja="何も書かれていません")
    if _ANNOUNCES.search(reasoning):
        return LocalizedText(
            en=f"'{truncate(reasoning)}' only announces it", ja=f"「{truncate(reasoning)}」は前置きだけです"
        )
    if any(True for _ in uninformative_issues(reasoning, instruction, "", answers=False)):
        return LocalizedText(
            en=f"'{truncate(reasoning)}' only restates the question",
            ja=f"「{truncate(reasoning)}」は質問の言い換えです",
        )
    return None


def is_garbled(text: str) -> bool:
    """Whether mojibake stands inside."""
    return any(True for _ in mojibake_issues(text))


_IS_NOT = {
    Language.JA: LocalizedText(en="is not in Japanese", ja="日本語ではありません"),
    Language.EN: LocalizedText(en="is not in English", ja="英語ではありません"),
    Language.ZH: LocalizedText(en="is not in Chinese", ja="中国語ではありません"),
}
_NAMES_ONE = re.compile(
    r"translat|Japanese|English|Chinese|katakana|hiragana|kanji|haiku|\bcode\b|Python"
    r"|訳|译|日本語|英語|中国語|カタカナ|ひらがな|ローマ字|コード|日语|日文|英语|英文|中文|汉语|代码",
    re.IGNORECASE,
)
"""such a question may want its answer in that language"""


class AnswerLanguage(NamedTuple):
    """A language, and whether an answer in another one is wrong."""

    language: Language
    binding: bool


def resolve_answer_language(question: Question) -> AnswerLanguage:
    """That of the question unless it says otherwise."""
    if question.language is not None:
        return AnswerLanguage(question.language, True)
    found = detect_language(format_instruction(question.instruction, question.input))
    if found not in LANGUAGES:
        return AnswerLanguage(Language.EN, False)
    return AnswerLanguage(Language(found), not _NAMES_ONE.search(question.instruction))


def language_problem(answer: str, tongue: AnswerLanguage) -> LocalizedText | None:
    """What is wrong with the language of an answer, in words that follow 'the answer'; None: nothing."""
    if not tongue.binding:
        return None
    wrong = any(fault.severity is Severity.ERROR for fault in language_issues(answer, tongue.language))
    return _IS_NOT[tongue.language] if wrong else None


RETRY_TEMPERATURE = 0.7
RETRY_REPETITION_PENALTY = 1.1
RETRY_NGRAM_SIZE = 16
"""tokens"""


def with_sampling(decoder: GenerationSettings) -> GenerationSettings:
    """For a model that gave nothing: greedy, it would give nothing again."""
    return replace(decoder, temperature=max(decoder.temperature, RETRY_TEMPERATURE), top_p=min(decoder.top_p, 0.95))


def with_repetition_penalty(decoder: GenerationSettings) -> GenerationSettings:
    """For a text that ran in a loop."""
    return replace(
        decoder,
        repetition_penalty=max(decoder.repetition_penalty, RETRY_REPETITION_PENALTY),
        no_repeat_ngram_size=decoder.no_repeat_ngram_size or RETRY_NGRAM_SIZE,
    )


Passes = Literal["auto", "one", "two"]
"""auto: two only where one pass was not enough; one: never two; two: the Reasoning is asked for alone at once"""


class PromptStep(NamedTuple):
    """A prompt that a course waits for."""

    prompt: str
    decoder: GenerationSettings
    begins: Part
    """what the prompt asks for first"""
    refrain: bool
    """whether lines may come again"""


@dataclass(frozen=True, kw_only=True)
class AskResult:
    """What a course came to; fields as in `bonsai.recipes.inference.conversation.Answer`."""

    language: Language
    reasoning: str
    answer: str
    passes: Literal[1, 2]
    second_pass_because: LocalizedText | None
    retried_because: LocalizedText | None
    loops: bool
    stopped_by: FinishReason


_FORCED_TWO_PASS = LocalizedText(en="the Reasoning was to be asked for alone", ja="Reasoningだけを先に尋ねる設定です")
_NO_ANSWER = LocalizedText(
    en="one pass gave a Reasoning and no answer", ja="一段ではReasoningだけで、答えがありませんでした"
)
_SECOND_KEPT = LocalizedText(en="the second text is kept", ja="二度目の文を採りました")
_FIRST_KEPT = LocalizedText(
    en="the first is kept, the second was no better", ja="二度目もよくならず、初めの文を残しました"
)

AnswerSteps = Generator[PromptStep, Completion, AskResult]
_Turns = Generator[PromptStep, Completion, "_Draft"]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    reasoning: str
    answer: CleanText
    second_pass_because: LocalizedText | None = None


def answer_steps(question: Question, *, decoder: GenerationSettings, passes: Passes) -> AnswerSteps:
    """Ask one question."""
    return _AnswerFlow(
        question, decoder, resolve_answer_language(question), allows_repetition(question.instruction)
    ).course(passes)


class _AnswerFlow(NamedTuple):
    question: Question
    decoder: GenerationSettings
    tongue: AnswerLanguage
    refrain: bool

    def course(self, passes: Passes) -> AnswerSteps:
        if passes == "two":
            first = yield from self._two_passes(_FORCED_TWO_PASS)
        else:
            first = yield from self._one_pass(or_two=passes == "auto")
        fault = self._fault(first)
        kept, retried_because = first, None
        if fault is not None:
            second = yield from self._retry(first)
            kept = first if self._fault(second) or is_garbled(second.answer.text) else second
            which = _SECOND_KEPT if kept is second else _FIRST_KEPT
            retried_because = LocalizedText(en=f"the answer {fault.en}; {which.en}", ja=f"答えが{fault.ja}。{which.ja}")
        texts = (kept.reasoning, kept.answer.text)
        return AskResult(
            language=self.tongue.language,
            reasoning=kept.reasoning,
            answer=kept.answer.text,
            passes=1 if first.second_pass_because is None else 2,
            second_pass_because=first.second_pass_because,
            retried_because=retried_because,
            loops=any(has_repetition(text, refrain=self.refrain) for text in texts),
            stopped_by=kept.answer.stopped_by,
        )

    def _one_pass(self, *, or_two: bool) -> _Turns:
        said = yield self._turn(one_pass_prompt(self.question), "reasoning")
        found = parse_one_pass(said.text)
        answer = check_text(found.answer, said.stopped_by, refrain=self.refrain)
        reasoning = found.reasoning
        because: LocalizedText | None = None
        if said.stopped_by == "watch":
            piece = parse_partial(said.text, "reasoning")
            looping = trim_loop(piece.text, refrain=self.refrain)
            if piece.part == "answer":
                answer = looping
            else:
                reasoning, answer = looping.text, looping._replace(text="")
                because = _stopped(looping.loop)
        fault = reasoning_problem(reasoning, self.question.instruction)
        if fault is not None and because is None:
            because = LocalizedText(
                en=f"one pass gave no Reasoning: {fault.en}", ja=f"一段ではReasoningが得られませんでした：{fault.ja}"
            )
        again = check_text(reasoning, said.stopped_by, refrain=self.refrain).loop
        if again is not None and because is None:
            because = _stopped(again)
        elif not answer.text and because is None:
            because = _NO_ANSWER
        first = _Draft(reasoning=reasoning, answer=answer)
        if because is None or not or_two:
            return first
        is_sound = fault is None and again is None
        return (yield from self._two_passes(because, first=first, reasoning=reasoning if is_sound else None))

    def _two_passes(
        self, because: LocalizedText, *, first: _Draft | None = None, reasoning: str | None = None
    ) -> _Turns:
        """Get the Reasoning, unless it is there, then the answer.

        Args:
            first: what one pass gave; it stays where the second pass gives less.
        """
        if reasoning is None:
            reasoning = yield from self._reasoning(first.reasoning if first else "")
        said = yield self._turn(answer_prompt(self.question, reasoning), "answer")
        answer = clean_generation(said, "answer", refrain=self.refrain)
        if not answer.text and first is not None:
            answer = first.answer
        return _Draft(reasoning=reasoning, answer=answer, second_pass_because=because)

    def _reasoning(self, poor: str, *, in_language: Language | None = None) -> Generator[PromptStep, Completion, str]:
        """Ask for the Reasoning alone, in other words and more freely where the first gave nothing, or ran in a loop.

        Args:
            poor: a Reasoning that is better than none.
        """
        marker = RESPONSE_MARKER.strip()
        narrow = replace(self.decoder, stop_strings=(*self.decoder.stop_strings, marker, SECTION_BREAK))
        wide = with_sampling(replace(self.decoder, stop_strings=(*self.decoder.stop_strings, marker)))
        for wording, decoder in enumerate((narrow, wide)):
            prompt = reasoning_prompt(self.question, self.tongue.language, wording, in_language=in_language)
            said = yield self._turn(prompt, "reasoning")._replace(decoder=decoder)
            found = clean_generation(said, "reasoning", refrain=self.refrain)
            says_something = reasoning_problem(found.text, self.question.instruction) is None
            if says_something and not has_repetition(found.text, refrain=self.refrain):
                return found.text
            is_better = says_something and reasoning_problem(poor, self.question.instruction) is not None
            poor = found.text if is_better else poor or found.text
        return poor

    def _retry(self, first: _Draft) -> _Turns:
        """The answer once more: with other settings after a loop, asked for in so many words after a wrong language."""
        language = self.tongue.language if language_problem(first.answer.text, self.tongue) else None
        reasoning = first.reasoning
        if language and language_problem(reasoning, self.tongue):
            reasoning = (yield from self._reasoning("", in_language=language)) or reasoning
        turn = self._turn(answer_prompt(self.question, reasoning, in_language=language), "answer")
        if first.answer.loop or not first.answer.text:
            turn = turn._replace(decoder=with_repetition_penalty(self.decoder))
        said = yield turn
        return _Draft(reasoning=reasoning, answer=clean_generation(said, "answer", refrain=self.refrain))

    def _fault(self, draft: _Draft) -> LocalizedText | None:
        """What is wrong with an answer, in words that follow 'the answer' or 「答えが」; None: nothing."""
        if loop := draft.answer.loop:
            return LocalizedText(en=f"ran in a loop: {loop.en}", ja=loop.ja)
        if not draft.answer.text:
            return LocalizedText(en="was empty", ja="空でした")
        return language_problem(draft.answer.text, self.tongue)

    def _turn(self, prompt: str, begins: Part) -> PromptStep:
        return PromptStep(prompt, self.decoder, begins, self.refrain)


def _stopped(loop: LocalizedText | None) -> LocalizedText:
    if loop is None:
        return LocalizedText(en="the Reasoning did not come to an end", ja="Reasoningが終わりませんでした")
    return LocalizedText(en=f"the Reasoning ran in a loop: {loop.en}", ja=f"Reasoningが{loop.ja}")


MOST_CHARACTERS = 100_000
"""of a question with its input; far above what any of the models reads"""
_WHITE = frozenset("\t\n\v\f\r\x85")


def check_questions(questions: Sequence[Question]) -> None:
    """Refuse what is no question.

    Raises:
        AskingError: naming the question by its place.
    """
    for number, question in enumerate(questions, 1):
        what = "the question" if len(questions) == 1 else f"question {number} of {len(questions)}"
        text = format_instruction(question.instruction, question.input)
        if not question.instruction.strip():
            raise AskingError(f"{what} is empty; write what you want to know. 質問が空です。")
        if len(text) + len(question.system) >= MOST_CHARACTERS:
            raise AskingError(
                f"{what} has {len(text) + len(question.system):,} characters; fewer than {MOST_CHARACTERS:,} can be "
                "asked: cut it, or ask about its parts. 質問が長すぎます。"
            )
        if odd := next((letter for letter in text + question.system if _is_invalid_char(letter)), None):
            raise AskingError(
                f"{what} holds U+{ord(odd):04X}, which no text has: it seems to be a binary file; "
                "give plain text in UTF-8. テキストではありません。"
            )


def decode_utf8(data: bytes, name: str) -> str:
    """The text in a file.

    Args:
        name: what a reader knows the file by.

    Raises:
        AskingError: it is binary, or in another encoding than UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AskingError(
            f"{name}: byte {error.start:,} is not UTF-8: it is binary or in another encoding; give plain text in "
            "UTF-8. UTF-8のテキストではありません。"
        ) from error


def _is_invalid_char(letter: str) -> bool:
    """Controls, surrogates and the mark of what could not be decoded."""
    return (unicodedata.category(letter) in ("Cc", "Cs") and letter not in _WHITE) or letter == "\ufffd"


OnText = Callable[[int, Part, str], None]
"""Called with the place of the question, the part, and all of that part's text so far; a retry begins it anew."""

OnAnswer = Callable[[int, Answer], None]
"""Called with the place of the question and its answer as soon as it stands."""


def ask(
    engine: Engine,
    questions: Sequence[Question],
    *,
    decoder: GenerationSettings = GREEDY,
    passes: Passes = "auto",
    on_text: OnText | None = None,
    on_answer: OnAnswer | None = None,
) -> list[Answer]:
    """The answers, in the order of the questions.

    What ``on_answer`` was told stands, whatever comes after: an interruption loses only what was being answered.

    Raises:
        AskingError: a question is empty, binary or too long to be one; before anything is asked.
        GenerationError: a question does not fit the model, or the model cannot be asked.
    """
    check_questions(questions)

    def told(place: int) -> Callable[[Part, str], None] | None:
        return None if on_text is None else lambda part, text: on_text(place, part, text)

    talks = [
        answer_session(question, engine.name, decoder=decoder, passes=passes, on_text=told(place))
        for place, question in enumerate(questions)
    ]
    return run_sessions(engine, talks, on_answer)


def answer_session(
    question: Question,
    model: str,
    *,
    decoder: GenerationSettings,
    passes: Passes = "auto",
    on_text: Callable[[Part, str], None] | None = None,
) -> Session[Answer]:
    """One question's course as a talk.

    Args:
        model: what a reader calls the one that answers.
        on_text: as `OnText`, for this question.
    """
    running = answer_steps(question, decoder=decoder, passes=passes)
    tokens, seconds = 0, 0.0
    turn = next(running)
    while True:
        (said,) = yield [GenerationRequest(turn.prompt, turn.decoder, _make_stop_check(turn, on_text))]
        tokens, seconds = tokens + said.tokens, seconds + said.seconds
        try:
            turn = running.send(said)
        except StopIteration as end:
            return Answer(model=model, tokens=tokens, seconds=seconds, **vars(end.value))


def _make_stop_check(turn: PromptStep, on_text: Callable[[Part, str], None] | None) -> Callable[[str], bool]:
    def watch(text: str) -> bool:
        piece = parse_partial(text.rstrip("\ufffd"), turn.begins)
        if on_text is not None and piece.text:
            on_text(piece.part, piece.text)
        return detect_loop(piece.text, refrain=turn.refrain) is not None or starts_next_section(text, turn.begins)

    return watch
