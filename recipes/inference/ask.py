"""Ask a model questions and get a checked reasoning and answer to each.

1. One pass: prompt for reasoning and answer together.
2. If the reasoning is missing, loops or has swallowed the answer: ask for the reasoning alone, then for the answer with
   that reasoning in the prompt. These are the two passes of the blog post of 2024-05-07.
3. If the answer loops, is empty or in the wrong language: retry once with other settings and keep the better text.

Each question is a session (`bonsai.recipes.inference.sessions`), so many of them share one engine.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
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
from bonsai.recipes.inference.labels import reason
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

MAX_CHARACTERS = 100_000
"""of a question with its input; far above what any of the models reads"""

# Chosen on looping answers of the seedling, when the penalty still counted the prompt too: from a penalty of 1.15 on,
# the texts drifted into unrelated words; at 1.05 half of them still looped. The n-grams are long because a token of
# Japanese may be a third of a character: shorter ones would forbid common words.
RETRY_TEMPERATURE = 0.7
RETRY_TOP_P = 0.95
RETRY_REPETITION_PENALTY = 1.1
RETRY_NGRAM_SIZE = 16
"""tokens"""

_WHITESPACE = frozenset("\t\n\v\f\r\x85")
_ANNOUNCES = re.compile(r"[:：]\s*$")
_NAMES_A_LANGUAGE = re.compile(
    r"translat|Japanese|English|Chinese|katakana|hiragana|kanji|haiku|\bcode\b|Python"
    r"|訳|译|日本語|英語|中国語|カタカナ|ひらがな|ローマ字|コード|日语|日文|英语|英文|中文|汉语|代码",
    re.IGNORECASE,
)
"""the answer to such a question may have to be in that language"""

Passes = Literal["auto", "one", "two"]
"""auto: two only where one pass was not enough; one: never two; two: ask for the reasoning alone from the start"""

OnText = Callable[[int, Part, str], None]
"""Called with the index of the question, the part, and all of that part's text so far; a retry starts it anew."""

OnAnswer = Callable[[int, Answer], None]
"""Called with the index of the question and its answer as soon as that is final."""


class AnswerLanguage(NamedTuple):
    """The language an answer should have."""

    language: Language
    required: bool
    """whether an answer in another language is wrong"""


class _CleanText(NamedTuple):
    """A reasoning or an answer fit to be shown: a loop is cut off after its first round."""

    text: str
    loop: LocalizedText | None
    """which words repeat, in a sentence; None: it does not loop"""
    stopped_by: FinishReason


class _Draft(NamedTuple):
    reasoning: str
    answer: _CleanText


def ask(
    engine: Engine,
    questions: Sequence[Question],
    *,
    decoder: GenerationSettings = GREEDY,
    passes: Passes = "auto",
    on_text: OnText | None = None,
    on_answer: OnAnswer | None = None,
) -> list[Answer]:
    """Answer questions concurrently; results keep the order of the questions.

    An interruption loses only the answers in progress: what ``on_answer`` has received is final.

    Raises:
        AskingError: a question is empty, binary or too long; raised before any is asked.
        GenerationError: a question does not fit the model, or the model cannot be asked.
    """
    check_questions(questions)

    def text_callback(index: int) -> Callable[[Part, str], None] | None:
        return None if on_text is None else lambda part, text: on_text(index, part, text)

    sessions = [
        answer_session(question, engine.name, decoder=decoder, passes=passes, on_text=text_callback(index))
        for index, question in enumerate(questions)
    ]
    return run_sessions(engine, sessions, on_answer)


def answer_session(
    question: Question,
    model: str,
    *,
    decoder: GenerationSettings,
    passes: Passes = "auto",
    on_text: Callable[[Part, str], None] | None = None,
) -> Session[Answer]:
    """Answer one question, as a session to be run beside others.

    Args:
        model: the name to put into the answer.
        on_text: as `OnText`, for this question.
    """
    dialogue = _Dialogue(question, decoder, on_text)
    draft: _Draft | None = None
    reasoning: str | None = None
    second_pass_reason: LocalizedText | None = reason("forced_two_pass")
    retry_reason: LocalizedText | None = None

    # 1. One pass for reasoning and answer together.
    if passes != "two":
        completion = yield from dialogue.generate(one_pass_prompt(question), "reasoning")
        draft, reasoning, problem = dialogue.read_one_pass(completion)
        second_pass_reason = problem if passes == "auto" else None

    # 2. Two passes: the reasoning alone, unless the first pass gave a sound one, then the answer.
    if draft is None or second_pass_reason is not None:
        if reasoning is None:
            reasoning = yield from dialogue.ask_reasoning(fallback=draft.reasoning if draft else "")
        completion = yield from dialogue.generate(answer_prompt(question, reasoning), "answer")
        answer = dialogue.clean(completion, "answer")
        draft = _Draft(reasoning, draft.answer if draft and not answer.text else answer)

    # 3. Retry once: more freely after a loop or silence, with the language in the prompt after a wrong language.
    if problem := dialogue.answer_problem(draft.answer):
        wrong_language = language_problem(draft.answer.text, dialogue.target) is not None
        language = dialogue.target.language if wrong_language else None
        reasoning = draft.reasoning
        if language and language_problem(reasoning, dialogue.target):
            reasoning = (yield from dialogue.ask_reasoning(in_language=language)) or reasoning
        loops_or_empty = draft.answer.loop or not draft.answer.text
        completion = yield from dialogue.generate(
            answer_prompt(question, reasoning, in_language=language),
            "answer",
            with_repetition_penalty(decoder) if loops_or_empty else decoder,
        )
        answer = dialogue.clean(completion, "answer")
        is_better = not (dialogue.answer_problem(answer) or any(True for _ in mojibake_issues(answer.text)))
        draft = _Draft(reasoning, answer) if is_better else draft
        retry_reason = reason("second_kept" if is_better else "first_kept", problem=problem)

    return Answer(
        model=model,
        language=dialogue.target.language,
        reasoning=draft.reasoning,
        answer=draft.answer.text,
        passes=1 if second_pass_reason is None else 2,
        second_pass_because=second_pass_reason,
        retried_because=retry_reason,
        loops=any(dialogue.repeats(text) for text in (draft.reasoning, draft.answer.text)),
        stopped_by=draft.answer.stopped_by,
        tokens=dialogue.tokens,
        seconds=dialogue.seconds,
    )


@dataclass
class _Dialogue:
    """One question with its settings, and what asking it has cost so far."""

    question: Question
    decoder: GenerationSettings
    on_text: Callable[[Part, str], None] | None

    def __post_init__(self) -> None:
        self.target = resolve_answer_language(self.question)
        self.refrain = allows_repetition(self.question.instruction)
        self.tokens, self.seconds = 0, 0.0

    def generate(self, prompt: str, part: Part, decoder: GenerationSettings | None = None) -> Session[Completion]:
        """Send one prompt; stream its text, and end it where it loops or goes on to a section nobody asked for.

        Args:
            part: the part that the prompt asks for first.
        """

        def should_stop(text: str) -> bool:
            partial = parse_partial(text.rstrip("\ufffd"), part)
            if self.on_text is not None and partial.text:
                self.on_text(partial.part, partial.text)
            return detect_loop(partial.text, refrain=self.refrain) is not None or starts_next_section(text, part)

        (completion,) = yield [GenerationRequest(prompt, decoder or self.decoder, should_stop)]
        self.tokens += completion.tokens
        self.seconds += completion.seconds
        return completion

    def ask_reasoning(self, *, fallback: str = "", in_language: Language | None = None) -> Session[str]:
        """Ask for the reasoning alone; a second time in other words and sampled if it is poor or loops.

        Args:
            fallback: a poor reasoning that is better than none.
            in_language: the language to name in the prompt.
        """
        stops = (*self.decoder.stop_strings, RESPONSE_MARKER.strip())
        strict = replace(self.decoder, stop_strings=(*stops, SECTION_BREAK))
        # greedy, a model that gave nothing would give nothing again
        sampled = replace(
            self.decoder,
            stop_strings=stops,
            temperature=max(self.decoder.temperature, RETRY_TEMPERATURE),
            top_p=min(self.decoder.top_p, RETRY_TOP_P),
        )
        for wording, decoder in enumerate((strict, sampled)):
            prompt = reasoning_prompt(self.question, self.target.language, wording, in_language=in_language)
            completion = yield from self.generate(prompt, "reasoning", decoder)
            text = self.clean(completion, "reasoning").text
            is_sound = reasoning_problem(text, self.question.instruction) is None
            if is_sound and not self.repeats(text):
                return text
            is_better = is_sound and reasoning_problem(fallback, self.question.instruction) is not None
            fallback = text if is_better else fallback or text
        return fallback

    def read_one_pass(self, completion: Completion) -> tuple[_Draft, str | None, LocalizedText | None]:
        """Split a one-pass completion.

        Returns:
            The draft; its reasoning if that is sound; and why a second pass is needed, None if it is not.
        """
        reasoning, answer_text = parse_one_pass(completion.text)
        answer = self._check(answer_text, completion.stopped_by)
        second_pass_reason: LocalizedText | None = None
        if completion.stopped_by == "watch":
            partial = parse_partial(completion.text, "reasoning")
            trimmed = self._trim_loop(partial.text)
            if partial.part == "answer":
                answer = trimmed
            else:
                reasoning, answer = trimmed.text, trimmed._replace(text="")
                loop = trimmed.loop
                second_pass_reason = reason("reasoning_loops", loop=loop) if loop else reason("unfinished")
        problem = reasoning_problem(reasoning, self.question.instruction)
        loop = self._check(reasoning, completion.stopped_by).loop
        if second_pass_reason is None:
            if problem is not None:
                second_pass_reason = reason("no_reasoning", problem=problem)
            elif loop is not None:
                second_pass_reason = reason("reasoning_loops", loop=loop)
            elif not answer.text:
                second_pass_reason = reason("no_answer")
        return _Draft(reasoning, answer), reasoning if problem is None and loop is None else None, second_pass_reason

    def clean(self, completion: Completion, part: Part) -> _CleanText:
        """Extract the text of a prompt that asked for this part alone."""
        if completion.stopped_by == "watch":
            return self._trim_loop(parse_partial(completion.text, part).text)
        text = parse_answer(completion.text) if part == "answer" else parse_reasoning(completion.text)
        return self._check(text, completion.stopped_by)

    def answer_problem(self, answer: _CleanText) -> LocalizedText | None:
        """Explain what is wrong with an answer, in words that follow 'the answer' or 「答えが」; None if nothing is."""
        if loop := answer.loop:
            return reason("answer_loops", loop=loop)
        if not answer.text:
            return reason("answer_empty")
        return language_problem(answer.text, self.target)

    def repeats(self, text: str) -> bool:
        """Return whether a text repeats itself."""
        return any(True for _ in self._repetitions(text))

    def _repetitions(self, text: str) -> Iterator[Issue]:
        return repetition_issues(re.sub(r"\n+", "\n", text), refrain=self.refrain)

    def _check(self, text: str, stopped_by: FinishReason) -> _CleanText:
        issue = next(self._repetitions(text), None)
        return _CleanText(text, _loop_message(issue.message) if issue else None, stopped_by)

    def _trim_loop(self, text: str) -> _CleanText:
        """Cut a text that the stop check ended: because it looped, or because the next section began."""
        loop = detect_loop(text, refrain=self.refrain)
        if loop is None:
            return self._check(text, "stop_string")
        message = _loop_message(f"'{truncate(loop.unit)}' is said again and again")
        return _CleanText(trim_to_first(text, loop), message, "watch")


def _loop_message(english: str) -> LocalizedText:
    """Translate ``'these words' is said three times``."""
    quoted = english[1:].rpartition("' ")[0]
    return LocalizedText(en=english, ja=f"「{quoted}」を繰り返しています")


def reasoning_problem(reasoning: str, instruction: str) -> LocalizedText | None:
    """Explain in a clause why a text does not qualify as reasoning; `None` if it does."""
    shown = truncate(reasoning)
    if not reasoning:
        return reason("missing")
    if _ANNOUNCES.search(reasoning):
        return reason("announces", shown=shown)
    if any(True for _ in uninformative_issues(reasoning, instruction, "", answers=False)):
        return reason("restates", shown=shown)
    return None


def resolve_answer_language(question: Question) -> AnswerLanguage:
    """Take the language that the question asks for, else its own; English, not required, if that is unclear."""
    if question.language is not None:
        return AnswerLanguage(question.language, True)
    detected = detect_language(format_instruction(question.instruction, question.input))
    if detected not in LANGUAGES:
        return AnswerLanguage(Language.EN, False)
    return AnswerLanguage(Language(detected), not _NAMES_A_LANGUAGE.search(question.instruction))


def language_problem(answer: str, target: AnswerLanguage) -> LocalizedText | None:
    """Explain what is wrong with the language of an answer, in words that follow 'the answer'; None if nothing is."""
    if not target.required:
        return None
    is_wrong = any(issue.severity is Severity.ERROR for issue in language_issues(answer, target.language))
    return reason(f"not_{target.language}") if is_wrong else None


def with_repetition_penalty(decoder: GenerationSettings) -> GenerationSettings:
    """Return settings for the retry of a text that looped."""
    return replace(
        decoder,
        repetition_penalty=max(decoder.repetition_penalty, RETRY_REPETITION_PENALTY),
        no_repeat_ngram_size=decoder.no_repeat_ngram_size or RETRY_NGRAM_SIZE,
    )


def check_questions(questions: Sequence[Question]) -> None:
    """Validate questions before a model is loaded.

    Raises:
        AskingError: a question is empty, too long or binary; the message gives its number.
    """
    for number, question in enumerate(questions, 1):
        subject = "the question" if len(questions) == 1 else f"question {number} of {len(questions)}"
        text = format_instruction(question.instruction, question.input) + question.system
        if not question.instruction.strip():
            raise AskingError(f"{subject} is empty; write what you want to know. 質問が空です。")
        if len(text) >= MAX_CHARACTERS:
            raise AskingError(
                f"{subject} has {len(text):,} characters; fewer than {MAX_CHARACTERS:,} can be asked: shorten "
                "it, or ask about its parts. 質問が長すぎます。"
            )
        for character in text:
            # control characters, lone surrogates, and U+FFFD for what could not be decoded
            is_control = unicodedata.category(character) in ("Cc", "Cs") and character not in _WHITESPACE
            if is_control or character == "\ufffd":
                raise AskingError(
                    f"{subject} contains U+{ord(character):04X}, which does not occur in text: it seems to be a binary "
                    "file; give plain text in UTF-8. テキストではありません。"
                )


def decode_utf8(data: bytes, name: str) -> str:
    """Decode the contents of a text file.

    Args:
        name: how messages call the file.

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
