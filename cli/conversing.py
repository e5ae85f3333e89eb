"""The commands that talk with a model: `bonsai ask`, `qtq`, `compare`, `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bonsai.cli.console import OUT, Out, console
from bonsai.recipes.training.registry import DEFAULT_RECIPE

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
Spoken = Annotated[str | None, typer.Option(help="ja, en or zh: of the answers; else the question's. 回答の言語。")]
Persona = Annotated[str, typer.Option(help="System text, e.g. あなたは良心的な科学者です。 システム文。")]
DecoderName = Annotated[str, typer.Option("--decoder", help="greedy, or post: the posts' settings. 生成の設定。")]
Longest = Annotated[int | None, typer.Option(min=1, help="Tokens of an answer at most. 回答の最大トークン数。")]


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
    language: Spoken = None,
    persona: Persona = "",
    one_pass: Annotated[bool, typer.Option("--one-pass", help="Reasoning and answer at once. 一段階だけ。")] = False,
    two_pass: Annotated[bool, typer.Option("--two-pass", help="Always ask for it alone first. 常に二段階。")] = False,
    decoder: DecoderName = "greedy",
    max_new_tokens: Longest = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON an answer. JSON Linesで出力。")] = False,
    out: Out = OUT,
) -> None:
    """Ask, and read Reasoning and answer as they come. 質問し、理由と回答を読む。"""
    from bonsai.cli.asking import ask as ask_model

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
    language: Spoken = None,
    persona: Persona = "",
    decoder: DecoderName = "greedy",
    max_new_tokens: Longest = None,
    in_own_words: Annotated[
        bool, typer.Option("--in-own-words", help="The model sums up too, above the quotations. モデル自身の要約も。")
    ] = False,
    out: Out = OUT,
) -> None:
    """Question to Question: each answer breeds a deeper question, with a まとめ. 質問を深めていく。"""
    from bonsai.cli.deepening import qtq as deepen

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
    max_new_tokens: Longest = None,
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
    from bonsai.cli import comparing

    if vote is not None:
        comparing.vote(vote, console=console)
        return
    fine = comparing.compare(
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
    from bonsai.cli.showing import demo as serve

    serve(models or [], out=out, console=console, records=records, host=host, port=port, names=name or [])
