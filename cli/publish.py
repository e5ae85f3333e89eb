"""Implement `bonsai publish` and `bonsai releases`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bonsai.builder.errors import BonsaiError
from bonsai.builder.files import exclusive
from bonsai.cli.common import OUT, Out, console, note_stage
from bonsai.hub.errors import HubError
from bonsai.hub.target import HubTarget, local_hub, resolve_hub, with_namespace
from bonsai.recipes.training.recipe import Recipe, base_folder, load_recipe, recipe_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bonsai.builder.release import Release
    from bonsai.hub.publish import PreflightCheck, Preview, PublishResult

DATASET, SPACE = "dataset", "space"
MODEL_PYTHON = "BONSAI_MODEL_PYTHON"
"""environment variable: the interpreter that has torch, for loading the adapters back"""


def publish(
    what: Sequence[str], *, out: Path, console: Console, records: Path | None = None, dry_run: bool = False
) -> None:
    """Publish the dataset and adapters that were named, or all that is made.

    Args:
        records: the working copy the dataset was built from; None: the installed one.
        dry_run: only show what would be sent, and what speaks against it.

    Raises:
        GateError: with every reason against it; nothing was sent.
        FolderInUseError: what is to go out is being built, trained or evaluated.
        BonsaiError, HubError: with the reason; a repo is either released as a whole or as it was before.
    """
    wanted = list(what) or _published_artifacts(out)
    if not wanted:
        raise BonsaiError(f"{out}: nothing is made yet; run `nox -s build train` first")
    recipes = {name: load_recipe(name) for name in wanted if name not in (DATASET, SPACE)}
    with contextlib.ExitStack() as held, resolve_hub(out / "hub") as destination:
        for folder in [out / "dataset"] * (DATASET in wanted) + [out / "adapters" / recipe for recipe in recipes]:
            held.enter_context(exclusive(folder))
        api = hub_client(destination, out)
        if dry_run:
            from bonsai.builder.release import dataset_release

            releases = [dataset_release(out / "dataset", with_namespace("qeu/bonsai"))] if DATASET in wanted else []
            releases += [_adapter_release(api, name, recipe, out, console) for name, recipe in recipes.items()]
            print_previews(api, releases, console)
        else:
            console.print(Text.assemble(f"publishing {', '.join(wanted)} to ", (str(destination), "bold")))
        from bonsai.hub.publish import run_preflight

        with console.status("looking at what would go out"):
            run_preflight(
                ", ".join(wanted), _checks(api, wanted, recipes, out, records), sentences=(BonsaiError, HubError)
            )
        if dry_run:
            console.print("nothing speaks against it; nothing was sent. 送信していません。")
            return
        if DATASET in wanted:
            _dataset(api, destination, out, console)
        for name, recipe in recipes.items():
            _adapter(api, destination, name, recipe, out, console)
        if SPACE in wanted:
            from bonsai.recipes.demo.space import publish_space

            print_published(publish_space(api, may_move_tag=destination.is_local), console)
        _print_next_steps(destination, wanted, recipes, console)


def hub_client(destination: HubTarget, out: Path) -> HfApi:
    """The client of a Hub that answers and knows the token.

    Raises:
        HTTPError: it does not; a wrong address or token is not worth a second try.
    """
    destination.settle(out / "cache")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import logging

    from huggingface_hub import HfApi

    from bonsai.hub.http_client import set_idle_timeout
    from bonsai.hub.retry import RetryPolicy

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of every try, with addresses
    set_idle_timeout()
    api = HfApi(endpoint=destination.endpoint, token=destination.token)
    RetryPolicy(tries=3, first_wait=0.5).run(api.whoami, state=lambda: "nothing was sent")
    return api


def _published_artifacts(out: Path) -> list[str]:
    made = [DATASET] if (out / "dataset" / "README.md").is_file() else []
    return made + [name for name in recipe_names() if (out / "adapters" / name / "training" / "run.json").is_file()]


def _checks(
    api: HfApi, wanted: Sequence[str], recipes: dict[str, Recipe], out: Path, records: Path | None
) -> list[PreflightCheck]:
    """All that can be known before the first repo is written; an adapter's card is looked at once it is rendered."""
    from bonsai.builder.records import default_records_dir
    from bonsai.builder.release import dataset_preflight, dataset_release, find_private_text, find_unsafe_weights
    from bonsai.hub.publish import PreflightCheck, check_pinned_revision
    from bonsai.hub.repo_files import folder_files
    from bonsai.recipes.evaluation.report import publish_blockers
    from bonsai.recipes.training.release import folder_base
    from bonsai.recipes.training.run_record import read_record

    checks: list[PreflightCheck] = []
    if DATASET in wanted:
        release = dataset_release(out / "dataset", with_namespace("qeu/bonsai"))
        checks += dataset_preflight(release, out / "dataset", records or default_records_dir())
    for name, recipe in recipes.items():
        record = read_record(out / "adapters" / name)
        files = folder_files(out / "adapters" / name)
        base, dataset = with_namespace(recipe.base_model), with_namespace(recipe.dataset)
        checks.append(PreflightCheck(f"{name}, private", partial(find_private_text, files)))
        checks.append(PreflightCheck(f"{name}, weights", partial(find_unsafe_weights, files)))
        checks.append(PreflightCheck(f"{name}, evaluation", partial(publish_blockers, out / "adapters" / name, name)))
        checks.append(PreflightCheck(f"{name}, base", partial(folder_base, record)))
        if recipe.base_model_package is None and base_folder(recipe.base_model) is None:
            checks.append(
                PreflightCheck(
                    f"{name}, base", partial(check_pinned_revision, api, base, "model", recipe.base_model_revision)
                )
            )
        if DATASET not in wanted:
            checks.append(
                PreflightCheck(
                    f"{name}, dataset", partial(check_pinned_revision, api, dataset, "dataset", recipe.dataset_revision)
                )
            )
    return checks


def _adapter_release(api: HfApi, name: str, recipe: Recipe, out: Path, console: Console) -> Release:
    from bonsai.recipes.evaluation.report import card_evaluation
    from bonsai.recipes.training.release import adapter_release

    folder, repo_id = out / "adapters" / name, with_namespace(recipe.repo_id)
    return adapter_release(api, recipe, folder, repo_id, evaluation=card_evaluation(folder), on_note=console.print)


def _dataset(api: HfApi, destination: HubTarget, out: Path, console: Console) -> None:
    from bonsai.builder.release import dataset_release
    from bonsai.hub.target import run_in_clean_environment

    repo_id = with_namespace("qeu/bonsai")
    lines: list[str] = []

    def loads(commit: str) -> None:
        status.update("loading the dataset back with a fresh cache")
        started = time.perf_counter()
        told = json.loads(run_in_clean_environment(["-m", "bonsai.builder.verify", repo_id, commit], destination))
        note_stage("load back", time.perf_counter() - started)
        configs = ", ".join(f"{name} {rows}" for name, rows in told["configs"].items())
        lines.append(f'  load_dataset("{repo_id}") {told["rows"]} in {told["seconds_default"]} s')
        lines.append(f"  {configs}; streaming and revision={commit[:12]} agree")

    with console.status("publishing the dataset") as status:
        pushed = dataset_release(out / "dataset", repo_id).push(api, may_move_tag=destination.is_local, loads=loads)
    print_published(pushed, console)
    for line in lines:
        console.print(line)


def _adapter(api: HfApi, destination: HubTarget, name: str, recipe: Recipe, out: Path, console: Console) -> None:
    from bonsai.builder.errors import ReleaseError
    from bonsai.builder.prompt import RESPONSE_MARKER
    from bonsai.hub.publish import run_preflight
    from bonsai.hub.repo_files import read
    from bonsai.hub.retry import DEFAULT_RETRY
    from bonsai.hub.target import run_in_clean_environment
    from bonsai.model_card.card import python_snippets
    from bonsai.recipes.training.release import CARD, edited_card

    if recipe.base_model_package is not None and not destination.is_local:
        _base_model(api, recipe, out, console)
    folder = out / "adapters" / name
    if edited := edited_card(folder):
        console.print(edited, markup=False, soft_wrap=True)
    answers: list[str] = []

    def loads(commit: str) -> None:
        status.update("running the card's snippet with a fresh cache")
        snippet = python_snippets(read(release.files[CARD]).decode("utf-8"))[0]
        untagged = snippet.replace(f'revision="{recipe.tag}"', f'revision="{commit}"')  # the tag comes after this
        python = os.environ.get(MODEL_PYTHON, sys.executable)
        started = time.perf_counter()
        answer = run_in_clean_environment(["-c", untagged], destination, python=python).strip()
        note_stage("load back", time.perf_counter() - started)
        if not answer:
            raise ReleaseError(
                f"{release.repo_id}: the card's snippet loads the adapter and it answers nothing at all; look at its "
                f"loss in {folder}/README.md, train it longer or with other settings, and publish again"
            )
        answers.append(answer)

    with console.status(f"publishing {name}") as status:
        release = DEFAULT_RETRY.run(
            lambda: _adapter_release(api, name, recipe, out, console),
            state=lambda: f"{name} is not published; publish again",
        )
        run_preflight(name, release.checks())  # again, now with the card
        pushed = release.push(api, may_move_tag=destination.is_local, loads=loads)
    (folder / CARD).write_bytes(read(release.files[CARD]))
    print_published(pushed, console)
    console.print(f"  the card's snippet loaded {pushed.repo_id} and it answered:")
    for line in answers[-1].splitlines():
        console.print(Text.assemble(("  | ", "green"), line))
    if RESPONSE_MARKER.strip() not in answers[-1]:
        console.print(f"  without {RESPONSE_MARKER.strip()}: the form that its card promises is not learnt well")


def _base_model(api: HfApi, recipe: Recipe, out: Path, console: Console) -> None:
    """Bring a base model that so far lies on the Hub of this machine to the real one, unless it is there."""
    from huggingface_hub import HfApi

    from bonsai.hub.publish import publish_files
    from bonsai.hub.repo_files import folder_files

    repo_id = with_namespace(recipe.base_model)
    if api.repo_exists(repo_id) and api.revision_exists(repo_id, recipe.base_model_revision):
        return
    with local_hub(out / "hub") as home, tempfile.TemporaryDirectory() as folder:
        local = HfApi(endpoint=home.endpoint, token=home.token)
        local.snapshot_download(repo_id, revision=recipe.base_model_revision, local_dir=folder)
        pushed = publish_files(
            api,
            repo_id=repo_id,
            repo_type="model",
            files=folder_files(Path(folder)),
            message=f"Weights of {recipe.base_model_package}, dequantised",
            tag=recipe.base_model_revision,
        )
    print_published(pushed, console)


def print_published(pushed: PublishResult, console: Console) -> None:
    """Say how a repo stands after its release."""
    state = "released" if pushed.changed else "unchanged, no commit made"
    moved = "; this rehearsal moved the tag, the real Hub would ask for a new version" if pushed.tag_moved else ""
    told = f" {pushed.tag} at {pushed.commit[:12]}: {state}{moved}"
    console.print(Text.assemble((pushed.repo_id, "bold"), told))


def _print_next_steps(
    destination: HubTarget, wanted: Sequence[str], recipes: dict[str, Recipe], console: Console
) -> None:
    lines = [""]
    if destination.is_local:
        lines += [
            "Everything lies on the Hub of this machine. To use it:   この端末のHubにあります。使うには：",
            "  nox -s hub                                  # serves it and prints HF_ENDPOINT",
            "  export HF_ENDPOINT=http://127.0.0.1:8420    # in another terminal  別の端末で",
        ]
    else:
        lines.append("It is public. To use it:   公開しました。使うには：")
    if DATASET in wanted:
        name = with_namespace("qeu/bonsai")
        lines.append(f"  python -c \"from datasets import load_dataset; print(load_dataset('{name}'))\"")
    lines += [
        f"  peft: AutoPeftModelForCausalLM.from_pretrained('{with_namespace(recipe.repo_id)}')"
        for recipe in recipes.values()
    ]
    if destination.is_local:
        lines.append(
            "To publish for everybody: export HF_TOKEN=… BONSAI_NAMESPACE=<your name>, then nox -s build train publish"
        )
    for line in lines:  # to be copied: not to be broken
        console.print(line, soft_wrap=True)


_SIGNS = {"added": Text("+", "green"), "changed": Text("~", "yellow"), "removed": Text("-", "red")}


def print_previews(api: HfApi, releases: Sequence[Release], console: Console) -> None:
    """Print what each release would do; only questions go to the Hub."""
    from bonsai.hub.publish import preview_release

    for one in releases:
        _print(
            preview_release(api, repo_id=one.repo_id, repo_type=one.repo_type, files=one.files, tag=one.tag), console
        )


def _print(plan: Preview, console: Console) -> None:
    table = Table(title=f"{plan.repo_id} {plan.tag}", title_justify="left", box=None)
    table.add_column("")
    # in a log a path stays whole, however long
    widest = None if console.is_terminal else max((cell_len(file.path) for file in plan.files), default=None)
    table.add_column("file ファイル", min_width=widest, no_wrap=widest is not None)
    table.add_column("bytes", justify="right")
    for file in plan.files:
        table.add_row(_SIGNS.get(file.state, " "), Text(file.path), f"{file.size:,}")
    console.print(table)
    counts = ", ".join(
        f"{number} {state}" for state in _SIGNS if (number := sum(file.state == state for file in plan.files))
    )
    console.print(f"main: {plan.head or 'no such repo yet'}; {counts or 'nothing would change'}; {plan.sent:,} bytes")
    if plan.tagged:
        console.print(f"{plan.tag} is at {plan.tagged} already")
    for line in plan.card.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        console.print(line, style=colour, soft_wrap=True)
    console.print()


app = typer.Typer(
    help="List releases, take one back, make an earlier one current. リリースの一覧、取り下げ、差し戻し。",
    no_args_is_help=True,
)

What = Annotated[str, typer.Argument(help="'dataset' or a recipe's name. データセットかレシピ名。")]
Tag = Annotated[str, typer.Argument(help="A release, such as v0.1.0. リリースのタグ。")]


@app.command("list")
def list_(what: What, out: Out = OUT) -> None:
    """Tag, commit, date, and which of them main holds. 一覧。"""
    repo_id, repo_type = _repo(what)
    with resolve_hub(out / "hub") as destination:
        api = hub_client(destination, out)
        from bonsai.hub.releases import list_releases

        found = list_releases(api, repo_id, repo_type)
    table = Table("release", "commit", "date 日付", "", title=f"{repo_id} on {destination}", box=None)
    for release in found:
        current = "current 現行" if release.is_current else ""
        table.add_row(release.tag, release.commit[:12], f"{release.date:%Y-%m-%d %H:%M}", current)
    console.print(table if found else f"{repo_id}: no release yet. リリースはまだありません。")


@app.command()
def withdraw(
    what: What,
    tag: Tag,
    reason: Annotated[str, typer.Option(help="A sentence for the card. カードに書く理由。")],
    instead: Annotated[
        str | None, typer.Option(help="An earlier release for main, in the same commit. 代わりのリリース。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Remove a release's tag and say so on the card; its files stay in the history. 取り下げる。"""
    repo_id, repo_type = _repo(what)
    with resolve_hub(out / "hub") as destination:
        api = hub_client(destination, out)
        from bonsai.hub import releases

        commit = releases.withdraw(api, repo_id, repo_type, tag, reason=reason, instead=instead)
    put = f", main holds {instead} again" if instead else ""
    console.print(Text.assemble((repo_id, "bold"), f" {tag}: withdrawn, the card says so ({commit[:12]}){put}"))


@app.command()
def current(what: What, tag: Tag, out: Out = OUT) -> None:
    """Make main hold the files of an earlier release again, in one commit. 以前のリリースに戻す。"""
    repo_id, repo_type = _repo(what)
    with resolve_hub(out / "hub") as destination:
        api = hub_client(destination, out)  # before anything that imports the client, which reads then where it is
        from bonsai.hub.releases import restore_release

        commit = restore_release(api, repo_id, repo_type, tag)
    console.print(Text.assemble((repo_id, "bold"), f": main holds {tag} ({commit[:12]})"))


def _repo(what: str) -> tuple[str, str]:
    if what == "dataset":
        return with_namespace("qeu/bonsai"), "dataset"
    return with_namespace(load_recipe(what).repo_id), "model"
