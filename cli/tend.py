"""Implement `bonsai tend`: the desk in the browser, and blind samples for readers that work with files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_write_text
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import LANGUAGES, Language
from bonsai.cli.common import OUT, Out, Records, console, quiet_libraries
from bonsai.hub.target import with_namespace


def tend(
    records: Records = None,
    reader: Annotated[str, typer.Option(help="Who signs. 読み手の名前。")] = "",
    model: Annotated[
        bool, typer.Option("--model", help="The reader is a language model. 読み手は言語モデル。")
    ] = False,
    drafts: Annotated[Path, typer.Option(help="Where deleted groups go. 下書きのフォルダー。")] = Path("drafts"),
    port: Annotated[int, typer.Option(help="0: any free port. 0なら空きポート。")] = 8430,
    sample: Annotated[int | None, typer.Option(min=1, help="Draw so many texts to read blind. 無作為に選ぶ。")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample. 乱数の種。")] = 0,
    language: Annotated[list[str] | None, typer.Option(help="Of the sample; repeatable. 言語。")] = None,
    to: Annotated[Path, typer.Option(help="The sample's file. 書き出し先。")] = Path("sample.jsonl"),
    verdicts: Annotated[Path | None, typer.Option(help="A sample's file, filled in. 記入した標本。")] = None,
    out: Out = OUT,
) -> None:
    """A page to edit, check, sign and compare the records. レコードを手入れする。"""
    directory = records or default_records_dir()
    if sample is not None:
        return _draw(directory, sample, seed, language or [], to)
    if verdicts is not None:
        return _take(directory, verdicts, reader, "model" if model else "person")
    quiet_libraries()
    # starlette and the checks take a second to import
    from bonsai.builder.desk.app import create_app
    from bonsai.builder.desk.desk import Desk
    from bonsai.builder.desk.releases import Releases
    from bonsai.hub.server.serve import listen, serve_app

    if not directory.is_dir():
        raise RecordError([f"{directory}: no such folder; name the folder that holds the *.jsonl records"])
    with listen("127.0.0.1", port) as listener:
        desk = Desk(directory, drafts)
        desk.start()
        releases = Releases(out / "hub", with_namespace("qeu/bonsai"))
        app = create_app(desk, releases, reader=reader, kind="model" if model else "person")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        console.print(f"{url}  (Ctrl-C ends it. Ctrl-Cで終わります。)", soft_wrap=True)
        raise typer.Exit(serve_app(app, listener))


def _draw(directory: Path, size: int, seed: int, languages: list[str], to: Path) -> None:
    from bonsai.builder.samples import blind_lines, draw_sample

    for name in languages:
        if name not in LANGUAGES:
            raise RecordError([f"--language {name}: there is no such language; write one of {', '.join(LANGUAGES)}"])
    if to.exists():
        raise RecordError([f"{to}: exists already, and may hold verdicts; name another file with --to"])
    groups = [located.group for located in read_groups(directory)]
    lines = blind_lines(draw_sample(groups, size, seed, [Language(name) for name in languages]), seed)
    atomic_write_text(to, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    console.print(Text.assemble(f"{len(lines)} texts, seed {seed} -> ", (str(to), "bold")))
    console.print('fill in "verdict" (fine or fault), "fault" and "words" in each line, and then:')
    console.print(f"  bonsai tend --verdicts {to} --reader NAME [--model]")


def _take(directory: Path, path: Path, reader: str, kind: str) -> None:
    from bonsai.builder.samples import read_verdicts, take_verdicts

    if not reader.strip():
        raise RecordError(
            ["--reader: nothing given; a signature needs the name of a person, or of a model and --model"]
        )
    seed, verdicts = read_verdicts(path)
    taken = take_verdicts(
        directory, verdicts, seed=seed, reader=reader.strip(), kind="model" if kind == "model" else "person"
    )
    facts = taken.facts
    share = f"{facts.faults / facts.size:.1%} (95% interval {facts.low:.1%} to {facts.high:.1%})"
    console.print(f"{facts.reader} ({facts.kind}) read {facts.size} texts: {facts.faults} with a fault, {share}")
    if taken.edited:
        console.print(f"{taken.edited} of them were edited meanwhile: counted here, but not signed")
    console.print(Text.assemble("-> ", (str(taken.path), "bold")))
