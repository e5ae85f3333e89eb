"""`bonsai ask`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bonsai.builder.schema import BonsaiError, Language
from bonsai.cli.console import Terminal
from bonsai.cli.quieting import quiet_libraries
from bonsai.cli.serving import ensure_bases, hub_for
from bonsai.recipes.inference.asking.course import Passes
from bonsai.recipes.inference.asking.errors import AskingError
from bonsai.recipes.inference.asking.limits import check_questions, text_of
from bonsai.recipes.inference.asking.question_file import questions_in
from bonsai.recipes.inference.conversation import Question
from bonsai.recipes.training.registry import recipe_names

if TYPE_CHECKING:
    from bonsai.recipes.inference.asking.said import Part
    from bonsai.recipes.inference.conversation import Answer, Because
    from bonsai.recipes.inference.generation.decoder import Decoder
    from bonsai.recipes.inference.generation.engine import Engine

STANDARD_INPUT = "-"


def ask(
    instruction: str | None,
    *,
    model: str,
    base_url: str | None = None,
    provider: str | None = None,
    dtype: str | None = None,
    input_file: str | None = None,
    questions_file: str | None = None,
    language: str | None = None,
    persona: str = "",
    passes: Passes = "auto",
    decoder: str = "greedy",
    max_new_tokens: int | None = None,
    as_json: bool = False,
    out: Path,
    console: Console,
) -> None:
    """Ask one question, or those of a file, and print the answers as they come.

    Args:
        model: what `bonsai.recipes.inference.models.opening.open_model` opens.
        dtype: what a model on this machine computes in; None: as `open_model` chooses.
        input_file: the text that the question is about; ``-``: what is piped in.
        questions_file: one question a line, or JSON Lines; ``-``: what is piped in.
        language: of the answers; None: that of each question.
        max_new_tokens: of one pass; None: the decoder's own.
        as_json: a line of JSON an answer, for other programs.

    Raises:
        AskingError, GenerationError: with the reason.
    """
    questions = _questions(instruction, input_file, questions_file, language, persona)
    from bonsai.recipes.inference.generation.decoder import decoder_called

    check_questions(questions)
    settings = decoder_called(decoder, AskingError, max_new_tokens=max_new_tokens)
    with opened(model, base_url, provider, out, dtype) as engine:
        answer_all(engine, questions, decoder=settings, passes=passes, as_json=as_json, console=console)


def answer_all(
    engine: Engine,
    questions: Sequence[Question],
    *,
    decoder: Decoder,
    passes: Passes,
    as_json: bool,
    console: Console,
) -> list[Answer]:
    """Ask and print: a single question word by word, several as each is answered; after Ctrl-C what is done stands."""
    from bonsai.recipes.inference.asking.ask import ask as ask_engine

    done = 0
    voice = _Voice(console)

    def answered(place: int, answer: Answer) -> None:
        nonlocal done
        done += 1
        if as_json:
            told = {"number": place + 1, "question": questions[place].model_dump(mode="json")}
            line = json.dumps(told | {"answer": answer.model_dump(mode="json")}, ensure_ascii=False)
            console.print(line, soft_wrap=True)
            return
        if len(questions) > 1:
            console.print(f"\n{place + 1}/{len(questions)} {questions[place].instruction}", style="cyan")
        voice.complete(answer)

    alone = len(questions) == 1 and not as_json
    try:
        return ask_engine(
            engine,
            questions,
            decoder=decoder,
            passes=passes,
            on_text=voice.say if alone else None,
            on_answer=answered,
        )
    except (KeyboardInterrupt, BonsaiError):
        if len(questions) > 1:
            Terminal(stderr=True).print(
                f"\n{done} of {len(questions)} questions are answered. {len(questions)}問中{done}問に答えました。"
            )
        elif alone:
            console.print()
        raise


class _Voice:
    """The Reasoning dim and the answer bold, as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._part: Part | None = None
        self._shown = {"reasoning": "", "answer": ""}
        """what was printed of each part"""

    def say(self, _place: int, part: Part, text: str) -> None:
        """Print what is new of a part; where it is said anew, all of it on a new line."""
        if part == self._part and text.startswith(self._shown[part]):
            fresh = text[len(self._shown[part]) :]
        else:
            fresh = f"\n{text}" if self._part else text
        self._part = part
        self._shown[part] = text
        self._print(fresh, part, end="")

    def complete(self, answer: Answer) -> None:
        """Print what was not said as it stands now, and how it came about."""
        if self._part is not None:
            self._console.print()
        # what ran in a loop stays on the screen as it was said; only what it does not begin with is printed
        reasoned = self._shown["reasoning"].startswith(answer.reasoning)
        if not reasoned:
            self._print(answer.reasoning, "reasoning")
        if not reasoned or not self._shown["answer"].startswith(answer.answer):
            self._print(answer.answer, "answer")
        for note in _notes(answer):
            self._console.print(f"({note})", style="yellow", soft_wrap=True)
        told = f"{answer.model}, {answer.tokens} tokens, {answer.seconds:.1f} s"
        self._console.print(told, style="dim italic")
        self._part, self._shown = None, {"reasoning": "", "answer": ""}

    def _print(self, text: str, part: Part, end: str = "\n") -> None:
        style = "bold" if part == "answer" else "dim"
        self._console.print(text, end=end, soft_wrap=True, style=style)


def _notes(answer: Answer) -> list[str]:
    notes = []
    if answer.second_pass_because:
        notes.append(f"two passes 二段階: {_told(answer.second_pass_because)}")
    if answer.retried_because:
        notes.append(f"asked again 再質問: {_told(answer.retried_because)}")
    if not answer.reasoning:
        notes.append("no Reasoning was given 根拠が得られませんでした")
    if answer.loops:
        notes.append("it still repeats itself 繰り返しが残っています")
    return notes


def _told(because: Because) -> str:
    return f"{because.en}. {because.ja}。"


def _questions(
    instruction: str | None, input_file: str | None, questions_file: str | None, language: str | None, persona: str
) -> list[Question]:
    if (instruction is None) == (questions_file is None):
        raise AskingError("ask what? give one question, or a file of them with --questions. 質問を一つ与えてください。")
    spoken = Language(language) if language else None
    if questions_file is None:
        text = _read(input_file) if input_file is not None else ""
        return [Question(instruction=instruction or "", input=text.strip("\n"), language=spoken, system=persona)]
    if input_file is not None:
        raise AskingError("--input belongs to one question; in a file each question has its own `input`")
    return questions_in(_read(questions_file), questions_file, language=spoken, system=persona)


def _read(name: str) -> str:
    data = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    return text_of(data, "standard input" if name == STANDARD_INPUT else name)


@contextlib.contextmanager
def opened(
    model: str, base_url: str | None, provider: str | None, out: Path, dtype: str | None = None
) -> Iterator[Engine]:
    """The model, inside the Hub that its recipe's base comes from, without the libraries' own bars and warnings."""
    quiet_libraries()
    recipes = [model] if base_url is None and provider is None and model in recipe_names() else []
    with hub_for(recipes, out):
        ensure_bases(recipes)
        from bonsai.recipes.inference.models.opening import open_model

        with open_model(model, out=out, base_url=base_url, provider=provider, dtype=dtype) as engine:
            yield engine
