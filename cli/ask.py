"""Implement `bonsai ask`, and declare the options of the commands that talk with a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bonsai.builder.errors import AskingError, BonsaiError
from bonsai.builder.schema import Language
from bonsai.cli.common import OUT, Out, Terminal, console, open_engine
from bonsai.recipes.inference.ask import Passes, check_questions, decode_utf8
from bonsai.recipes.inference.conversation import Question, load_questions
from bonsai.recipes.training.recipe import DEFAULT_RECIPE

if TYPE_CHECKING:
    from bonsai.recipes.inference.conversation import Answer, LocalizedText
    from bonsai.recipes.inference.generation import Engine, GenerationSettings
    from bonsai.recipes.inference.prompts import Part

STANDARD_INPUT = "-"


def ask_model(
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
        model: what `bonsai.recipes.inference.models.open_model` opens.
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
    from bonsai.recipes.inference.generation import get_preset

    check_questions(questions)
    settings = get_preset(decoder, AskingError, max_new_tokens=max_new_tokens)
    with open_engine(model, base_url, provider, out, dtype) as engine:
        answer_all(engine, questions, decoder=settings, passes=passes, as_json=as_json, console=console)


def answer_all(
    engine: Engine,
    questions: Sequence[Question],
    *,
    decoder: GenerationSettings,
    passes: Passes,
    as_json: bool,
    console: Console,
) -> list[Answer]:
    """Ask and print: a single question word by word, several as each is answered; after Ctrl-C what is done stands."""
    from bonsai.recipes.inference.ask import ask as ask_engine

    done = 0
    voice = _AnswerPrinter(console)

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


class _AnswerPrinter:
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
        notes.append(f"two passes 二段階: {_bilingual(answer.second_pass_because)}")
    if answer.retried_because:
        notes.append(f"asked again 再質問: {_bilingual(answer.retried_because)}")
    if not answer.reasoning:
        notes.append("no Reasoning was given 根拠が得られませんでした")
    if answer.loops:
        notes.append("it still repeats itself 繰り返しが残っています")
    return notes


def _bilingual(because: LocalizedText) -> str:
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
    return load_questions(_read(questions_file), questions_file, language=spoken, system=persona)


def _read(name: str) -> str:
    data = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    return decode_utf8(data, "standard input" if name == STANDARD_INPUT else name)


app = typer.Typer()

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
DType = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16, on this machine. 計算の精度。")]
AnswerLanguageOption = Annotated[
    str | None, typer.Option(help="ja, en or zh: of the answers; else the question's. 回答の言語。")
]
Persona = Annotated[str, typer.Option(help="System text, e.g. あなたは良心的な科学者です。 システム文。")]
DecoderName = Annotated[str, typer.Option("--decoder", help="greedy, or post: the posts' settings. 生成の設定。")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Tokens of an answer at most. 回答の最大トークン数。")]


def _named(model: str | None, base_url: str | None) -> str:
    """The model that is meant: an address is asked which one it serves."""
    return model or ("" if base_url is not None else DEFAULT_RECIPE)


@app.command()
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
    language: AnswerLanguageOption = None,
    persona: Persona = "",
    one_pass: Annotated[bool, typer.Option("--one-pass", help="Reasoning and answer at once. 一段階だけ。")] = False,
    two_pass: Annotated[bool, typer.Option("--two-pass", help="Always ask for it alone first. 常に二段階。")] = False,
    decoder: DecoderName = "greedy",
    max_new_tokens: MaxNewTokens = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON an answer. JSON Linesで出力。")] = False,
    out: Out = OUT,
) -> None:
    """Ask, and read Reasoning and answer as they come. 質問し、理由と回答を読む。"""

    if one_pass and two_pass:
        raise typer.BadParameter("give --one-pass or --two-pass, not both")
    ask_model(
        question,
        model=_named(model, base_url),
        base_url=base_url,
        provider=provider,
        dtype=dtype,
        input_file=input_file,
        questions_file=questions,
        language=language,
        persona=persona,
        passes="one" if one_pass else "two" if two_pass else "auto",
        decoder=decoder,
        max_new_tokens=max_new_tokens,
        as_json=as_json,
        out=out,
        console=console,
    )


@app.command()
def qtq(
    question: Annotated[str | None, typer.Argument(help="None: nine prepared ones. 省略すると用意した9問。")] = None,
    model: Model = None,
    base_url: BaseUrl = None,
    provider: Provider = None,
    dtype: DType = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="A file: one a line, or JSON Lines. 質問のファイル。")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Steps of each chain. 深さ。")] = 5,
    language: AnswerLanguageOption = None,
    persona: Persona = "",
    decoder: DecoderName = "greedy",
    max_new_tokens: MaxNewTokens = None,
    in_own_words: Annotated[
        bool, typer.Option("--in-own-words", help="The model sums up too, above the quotations. モデル自身の要約も。")
    ] = False,
    out: Out = OUT,
) -> None:
    """Question to Question: each answer breeds a deeper question, with a まとめ. 質問を深めていく。"""
    from bonsai.cli.qtq import qtq as deepen

    deepen(
        question,
        model=_named(model, base_url),
        base_url=base_url,
        provider=provider,
        dtype=dtype,
        questions_file=questions,
        depth=depth,
        language=language,
        persona=persona,
        decoder=decoder,
        max_new_tokens=max_new_tokens,
        in_own_words=in_own_words,
        out=out,
        console=console,
    )


@app.command()
def compare(
    models: Annotated[list[str] | None, typer.Argument(help="Two or more; see `bonsai ask --model`. モデル。")] = None,
    questions: Annotated[
        list[str] | None, typer.Option("--questions", help="post-ja, post-en, probes, or a file; repeatable. 質問集。")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Answers to each question. 一問あたりの回答数。")] = None,
    decoder: DecoderName = "post",
    max_new_tokens: MaxNewTokens = None,
    persona: Annotated[str | None, typer.Option(help="System text; else the post's. システム文。")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Else out/compared. 出力フォルダー。")] = None,
    against: Annotated[Path | None, typer.Option(help="An earlier one; exit code 1 if worse. 比較対象。")] = None,
    blind: Annotated[bool, typer.Option("--blind", help="A page without names, to be judged. 名前を伏せる。")] = False,
    vote: Annotated[
        Path | None, typer.Option("--vote", help="Judge the comparison in this folder. 名前を伏せて投票する。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Put the same questions to several models, side by side. 同じ質問で複数のモデルを比べる。"""
    from bonsai.cli import compare as cli_compare

    if vote is not None:
        cli_compare.vote(vote, console=console)
        return
    fine = cli_compare.compare(
        models or [],
        folder=folder or out / "compared",
        out=out,
        console=console,
        questions=questions or ["post-ja"],
        samples=samples,
        decoder=decoder,
        max_new_tokens=max_new_tokens,
        persona=persona,
        against=against,
        blind=blind,
    )
    if not fine:
        raise typer.Exit(1)


@app.command()
def demo(
    models: Annotated[list[str] | None, typer.Argument(help="As for ask; the first is the default. モデル。")] = None,
    records: Annotated[Path | None, typer.Option(help="Records to browse; else the built-in ones. レコード。")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. 待ち受けるアドレス。")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free port. 0なら空きポート。")] = 7860,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A host name it is reached under; repeatable. ホスト名。")
    ] = None,
    out: Out = OUT,
) -> None:
    """A page: Ask, QtQ, Compare, Browse. ブラウザーで試す。"""
    from bonsai.cli.demo import demo as serve

    serve(models or [], out=out, console=console, records=records, host=host, port=port, names=name or [])
