"""Implement `bonsai ask`: print reasoning and answer as the model writes them.

`bonsai qtq` talks with a model under the same options, which are declared here.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from bonsai.builder.errors import AskingError, BonsaiError
from bonsai.builder.schema import Language
from bonsai.cli.common import OUT, DecoderName, MaxNewTokens, Out, Terminal, console, quiet_libraries
from bonsai.cli.hub import ensure_base_models, local_hub_for
from bonsai.recipes.inference.conversation import Question, load_questions
from bonsai.recipes.training.recipe import DEFAULT_RECIPE, recipe_names

if TYPE_CHECKING:
    from bonsai.recipes.inference.ask import Passes
    from bonsai.recipes.inference.conversation import Answer
    from bonsai.recipes.inference.generation import Engine, GenerationSettings
    from bonsai.recipes.inference.prompts import Part

STDIN = "-"

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A recipe, folder, Hub id, .gguf, or a name at --base-url; none: seedling, or the only one there. "
        "レシピ、フォルダー、Hub ID。",
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option(help="An OpenAI-compatible address, e.g. http://localhost:8000/v1. 接続先。")
]
Provider = Annotated[str | None, typer.Option(help="A Hugging Face Inference Provider. 推論プロバイダー。")]
DType = Annotated[
    Literal["float32", "float16", "bfloat16"] | None, typer.Option(help="Computed in, on this machine. 計算の精度。")
]
AnswerLanguage = Annotated[Language | None, typer.Option(help="Of the answers; else the question's. 回答の言語。")]
Persona = Annotated[str, typer.Option(help="System text, e.g. あなたは良心的な科学者です。 システム文。")]


def ask(
    question: Annotated[str | None, typer.Argument(help="What you want to know. 質問。")] = None,
    model: Model = None,
    base_url: BaseUrl = None,
    provider: Provider = None,
    dtype: DType = None,
    input_file: Annotated[
        str | None, typer.Option("--input", help="A file the question is about; -: piped in. 質問の対象の文章。")
    ] = None,
    questions: Annotated[
        str | None, typer.Option("--questions", help="A file: one a line, or JSON Lines; -: piped in. 質問のファイル。")
    ] = None,
    language: AnswerLanguage = None,
    persona: Persona = "",
    one_pass: Annotated[bool, typer.Option("--one-pass", help="Reasoning and answer at once. 一段階だけ。")] = False,
    two_pass: Annotated[bool, typer.Option("--two-pass", help="Always ask for it alone first. 常に二段階。")] = False,
    decoder: DecoderName = "greedy",
    max_new_tokens: MaxNewTokens = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON an answer. JSON Linesで出力。")] = False,
    out: Out = OUT,
) -> None:
    """Ask, and read Reasoning and answer as they come. 質問し、理由と回答を読む。"""
    # 1. Read the questions: one from the command line, or those of a file.
    if one_pass and two_pass:
        raise typer.BadParameter("give --one-pass or --two-pass, not both")
    if (question is None) == (questions is None):
        raise AskingError(
            "no question to ask: give either one question or a file of them with --questions. "
            "質問を一つ与えてください。"
        )
    if questions is None:
        text = _read(input_file) if input_file is not None else ""
        wanted = [Question(instruction=question or "", input=text.strip("\n"), language=language, system=persona)]
    elif input_file is not None:
        raise AskingError("--input belongs to one question; in a file each question has its own `input`")
    else:
        wanted = load_questions(_read(questions), questions, language=language, system=persona)
    # 2. Refuse what can't be asked before a model is loaded.
    from bonsai.recipes.inference.ask import check_questions
    from bonsai.recipes.inference.generation import get_preset

    check_questions(wanted)
    settings = get_preset(decoder, max_new_tokens=max_new_tokens)
    # 3. Ask.
    passes: Passes = "one" if one_pass else "two" if two_pass else "auto"
    with open_engine(model, base_url, provider, out, dtype) as engine:
        answer_all(engine, wanted, decoder=settings, passes=passes, as_json=as_json, console=console)


def _read(name: str) -> str:
    from bonsai.recipes.inference.ask import decode_utf8

    data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    return decode_utf8(data, "standard input" if name == STDIN else name)


@contextlib.contextmanager
def open_engine(
    model: str | None, base_url: str | None, provider: str | None, out: Path, dtype: str | None = None
) -> Iterator[Engine]:
    """Open the model that the options name, inside the Hub that its base model comes from.

    Args:
        model: see `bonsai.recipes.inference.models.open_model`; None: the only one at ``base_url``, else seedling.
        out: where `bonsai train` puts adapters.
        dtype: what a model on this machine computes in; None: as `open_model` chooses.
    """
    name = model or ("" if base_url is not None else DEFAULT_RECIPE)
    quiet_libraries()
    recipes = [name] if base_url is None and provider is None and name in recipe_names() else []
    with local_hub_for(recipes, out):
        ensure_base_models(recipes)
        from bonsai.recipes.inference.models import open_model

        with open_model(name, out=out, base_url=base_url, provider=provider, dtype=dtype) as engine:
            yield engine


def answer_all(
    engine: Engine,
    questions: Sequence[Question],
    *,
    decoder: GenerationSettings,
    passes: Passes,
    as_json: bool,
    console: Console,
) -> list[Answer]:
    """Print a single answer word by word, several as each is complete; Ctrl-C leaves the complete ones on the screen.

    Args:
        as_json: print one line of JSON per answer, for other programs.
    """
    from bonsai.recipes.inference.ask import ask as ask_engine

    # 1. How an answer is printed once it is complete.
    done = 0
    printer = AnswerPrinter(console)

    def on_answer(index: int, answer: Answer) -> None:
        nonlocal done
        done += 1
        if as_json:
            record = {
                "number": index + 1,
                "question": questions[index].model_dump(mode="json"),
                "answer": answer.model_dump(mode="json"),
            }
            console.print(Text(json.dumps(record, ensure_ascii=False)), soft_wrap=True)
            return
        if len(questions) > 1:
            console.print(Text(f"\n{index + 1}/{len(questions)} {questions[index].instruction}", style="cyan"))
        printer.complete(answer)

    # 2. Ask; only a single answer can be streamed, for several grow at once.
    streamed = len(questions) == 1 and not as_json
    try:
        on_text = printer.stream if streamed else None
        return ask_engine(engine, questions, decoder=decoder, passes=passes, on_text=on_text, on_answer=on_answer)
    except (KeyboardInterrupt, BonsaiError):
        if len(questions) > 1:
            Terminal(stderr=True).print(
                f"\n{done} of {len(questions)} questions are answered. {len(questions)}問中{done}問に答えました。"
            )
        elif streamed:
            console.print()
        raise


class AnswerPrinter:
    """Print reasoning dim and answer bold while they grow.

    What a model wrote is wrapped in `Text`: Rich would read ``[sic]`` in a plain string as markup and drop it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._part: Part | None = None
        self._printed = {"reasoning": "", "answer": ""}

    def stream(self, _index: int, part: Part, text: str) -> None:
        """Print what is new of a part; if the model began it again, print all of it on a new line."""
        if part == self._part and text.startswith(self._printed[part]):
            fresh = text[len(self._printed[part]) :]
        else:
            fresh = f"\n{text}" if self._part else text
        self._part = part
        self._printed[part] = text
        self._print(fresh, part, end="")

    def complete(self, answer: Answer) -> None:
        """Print what was not streamed as it is now, and how the answer came about."""
        if self._part is not None:
            self._console.print()
        # text cut off because it looped stays on the screen; only what does not begin with the final text is printed
        has_reasoning = self._printed["reasoning"].startswith(answer.reasoning)
        if not has_reasoning:
            self._print(answer.reasoning, "reasoning")
        if not has_reasoning or not self._printed["answer"].startswith(answer.answer):
            self._print(answer.answer, "answer")
        notes = []
        if (why := answer.second_pass_because) is not None:
            notes.append(f"two passes 二段階: {why.en}. {why.ja}。")
        if (why := answer.retried_because) is not None:
            notes.append(f"asked again 再質問: {why.en}. {why.ja}。")
        if not answer.reasoning:
            notes.append("no Reasoning was given 根拠が得られませんでした")
        if answer.loops:
            notes.append("it still repeats itself 繰り返しが残っています")
        for note in notes:
            self._console.print(Text(f"({note})", style="yellow"), soft_wrap=True)
        footer = f"{answer.model}, {answer.tokens} tokens, {answer.seconds:.1f} s"
        self._console.print(Text(footer, style="dim italic"))
        self._part, self._printed = None, {"reasoning": "", "answer": ""}

    def _print(self, text: str, part: Part, end: str = "\n") -> None:
        style = "bold" if part == "answer" else "dim"
        self._console.print(Text(text, style=style), end=end, soft_wrap=True)
