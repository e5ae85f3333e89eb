"""The `bonsai` command: what the nox sessions run.

Heavy libraries are imported inside the commands: `--help` answers at once, and the Hub's clients read their settings
when they are imported, after a command has chosen the Hub.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything that may be missing, or be interrupted, is imported
    from bonsai.cli.entry_point import main

    main()

import os
from pathlib import Path
from typing import Annotated

import typer

from bonsai.cli import ask
from bonsai.cli import evaluate as cli_evaluate
from bonsai.cli import publish as cli_publish
from bonsai.cli import train as cli_train
from bonsai.cli.common import OUT, Out, console, hide_unused_packages, local_hub_for, rest_waiting_threads
from bonsai.cli.entry_point import main as main
from bonsai.recipes.training.recipe import DEFAULT_RECIPE, is_main_process

hide_unused_packages()
rest_waiting_threads()
app = typer.Typer(
    help="BONSAI 盆栽: a small dataset and the adapters grown from it.\n\n"
    "データセットを作り、アダプターを育て、公開します。",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_publish.app, name="releases")
app.add_typer(ask.app)


@app.command()
def build(
    records: Annotated[Path | None, typer.Option(help="Folder of *.jsonl records. レコードのフォルダー。")] = None,
    check: Annotated[bool, typer.Option(help="Without the checks it can't be released. 検査の有無。")] = True,
    again: Annotated[bool, typer.Option("--again", help="Build though nothing changed. 無変更でも作る。")] = False,
    out: Out = OUT,
) -> None:
    """Build the dataset from the records: out/dataset/. レコードからデータセットを作る。"""
    console.outlives_reader = True
    from bonsai.cli.dataset import build as build_dataset

    build_dataset(records, out=out, check=check, again=again, console=console)


@app.command()
def check(
    records: Annotated[Path | None, typer.Option(help="Folder of *.jsonl records. レコードのフォルダー。")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Tell the notes in full too. 注記も全部表示する。")] = False,
) -> None:
    """Look for contradictions, duplicates, wrong languages and more. レコードの疑わしい所を探す。"""
    from bonsai.builder.records import default_records_dir
    from bonsai.cli.dataset import check as check_records

    if check_records(records or default_records_dir(), console, notes=notes).errors:
        raise SystemExit(1)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, XLSX, JSON, JSONL or Parquet. 取り込むファイル。")],
    source: Annotated[str, typer.Option(help="Where the texts come from. 出所。")],
    licence: Annotated[str, typer.Option(help="Under which they may be published. ライセンス。")],
    to: Annotated[Path, typer.Option(help="A new folder for groups and drafts. 出力先。")] = Path("imported"),
    generator: Annotated[str, typer.Option(help="Who or which model wrote them. 書き手。")] = "unknown",
    encoding: Annotated[str | None, typer.Option(help="utf-8, cp932 or gb18030; else guessed. 文字コード。")] = None,
    expect: Annotated[str | None, typer.Option(help="ja or zh, where the script is no help. 言語。")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come in. 試すだけ。")] = False,
) -> None:
    """Bring in your own data: Alpaca, Dolly, ShareGPT or BONSAI columns. 自分のデータを取り込む。"""
    from bonsai.cli.dataset import run_import

    run_import(
        file,
        to,
        console,
        source=source,
        licence=licence,
        generator=generator,
        encoding=encoding,
        expected_language=expect,
        dry_run=dry_run,
    )


@app.command()
def check_rows(
    file: Annotated[Path, typer.Argument(help="JSONL with instruction, input, output. 調べるファイル。")],
    to: Annotated[Path, typer.Argument(help="The marked copy. 印を付けた写し。")],
) -> None:
    """Mark duplicates and languages in a file of up to millions of rows. 重複と言語に印を付ける。"""
    from bonsai.cli.dataset import run_check_rows

    run_check_rows(file, to, console)


@app.command()
def train(
    recipes: Annotated[list[str] | None, typer.Argument(help="Recipe names; none: seedling. レシピ名。")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint. 続きから学習する。")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, discard an unfinished run. 途中の学習を破棄して最初から。")
    ] = False,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Fewer steps, for a smoke run. 試しに数ステップだけ。")
    ] = None,
    report_to: Annotated[
        list[str] | None, typer.Option(help="tensorboard or trackio, beside our own table. 記録先。")
    ] = None,
    engine: Annotated[
        bool, typer.Option(help="--no-engine: TRL, PEFT and bitsandbytes alone, slower. 高速化を使わない。")
    ] = True,
    on: Annotated[
        str | None, typer.Option(help="Print the command that trains on this Hugging Face Jobs flavor, e.g. t4-small.")
    ] = None,
    evaluate: Annotated[
        bool | None, typer.Option(help="Ask before and after; by default unless --max-steps. 学習後の評価。")
    ] = None,
    gguf: Annotated[
        bool | None, typer.Option(help="The adapter for llama.cpp too; by default unless --max-steps. GGUF版も作る。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Train recipes into out/adapters/ and ask what changed. レシピを学習し、何が変わったかを調べる。"""
    if on is not None:
        from bonsai.cli.train import print_job_command
        from bonsai.recipes.training.run_record import SOURCE

        print_job_command(recipes or [DEFAULT_RECIPE], on, SOURCE, console)
        return
    console.outlives_reader = True  # what counts lies on the disk
    names, whole = recipes or [DEFAULT_RECIPE], max_steps is None
    cli_train.refuse_foreign_namespaces(names)
    with local_hub_for(names, out):
        for name in names:
            cli_train.train(
                name,
                out=out,
                max_steps=max_steps,
                resume=resume,
                fresh=fresh,
                with_engine=engine,
                gguf=whole if gguf is None else gguf,
                report_to=tuple(report_to or ()),
                console=console,
            )
            if is_main_process() and (whole if evaluate is None else evaluate):
                cli_evaluate.evaluate(name, out=out, console=console)


@app.command("evaluate")
def evaluate_(
    recipe: Annotated[str, typer.Argument(help="Recipe name. レシピ名。")],
    base: Annotated[bool, typer.Option("--base", help="The bare base model only. 土台モデルだけ。")] = False,
    decoder: Annotated[str, typer.Option(help="greedy, or post: the posts' settings. 生成の設定。")] = "greedy",
    limit: Annotated[
        int | None, typer.Option(min=0, help="Questions of each category and language; 0: all. 質問数の上限。")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A folder or a Hub revision; exit code 1 if worse. 比較対象。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Ask the test questions and probes before and after training. 学習の前後で質問して比べる。"""
    with local_hub_for([recipe], out):
        stands = cli_evaluate.evaluate(
            recipe, out=out, console=console, base=base, decoder=decoder, limit=limit, against=against
        )
    if not stands:
        raise typer.Exit(1)


@app.command()
def plan(
    recipe: Annotated[str | None, typer.Argument(help="Recipe name. レシピ名。")] = None,
    base: Annotated[str | None, typer.Option(help="Another base model in its place. 別の土台モデル。")] = None,
    gpus: Annotated[int, typer.Option(min=1, max=8, help="That train together. 同時に使うGPU数。")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs. JSONで出力。")] = False,
    out: Out = OUT,
) -> None:
    """Say what a recipe will take: memory, time, cost. 必要なメモリ・時間・費用を見積もる。"""
    from bonsai.cli.plan import plan as plan_recipe

    plan_recipe(recipe, base=base, gpus=gpus, out=out, as_json=as_json, console=console)


@app.command()
def publish(
    what: Annotated[
        list[str] | None, typer.Argument(help="dataset, space, or recipe names; none: all that is made. 公開するもの。")
    ] = None,
    records: Annotated[Path | None, typer.Option(help="What the dataset was built from. 元のレコード。")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent and send nothing. 送信せずに内容を表示。")
    ] = False,
    out: Out = OUT,
) -> None:
    """Publish to the Hub (HF_TOKEN set) or to the Hub on this machine. 公開する。"""
    console.outlives_reader = not dry_run
    cli_publish.publish(what or [], out=out, console=console, records=records, dry_run=dry_run)


@app.command()
def hub(
    port: Annotated[int, typer.Option(help="0: any free port. 0なら空きポート。")] = 8420,
    user: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A user, token local-NAME; repeatable. ユーザー（トークンはlocal-NAME）。"),
    ] = None,
    out: Out = OUT,
) -> None:
    """Serve the Hub on this machine until Ctrl-C. この端末のHubを開く。"""
    from bonsai.hub.server.accounts import USERS
    from bonsai.hub.server.serve import main as serve
    from bonsai.hub.target import namespace

    users = user or ([] if os.environ.get(USERS) else [namespace()])
    raise SystemExit(
        serve(["--root", str(out / "hub"), "--port", str(port), *(part for name in users for part in ("--user", name))])
    )
