"""Implement `bonsai publish` (run preflight checks, release, verify the download) and `bonsai releases`."""

from __future__ import annotations

import contextlib
import json
import logging
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
from rich.table import Table
from rich.text import Text

from bonsai.builder.errors import BonsaiError
from bonsai.builder.files import exclusive
from bonsai.cli.common import OUT, Out, console, note_stage
from bonsai.hub.errors import HubError
from bonsai.hub.target import HubTarget, local_hub, resolve_hub, run_in_clean_environment, with_namespace
from bonsai.recipes.training.recipe import Recipe, base_folder, load_recipe, recipe_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bonsai.builder.release import Release
    from bonsai.hub.publish import PreflightCheck, PublishResult

DATASET, SPACE = "dataset", "space"
MODEL_PYTHON = "BONSAI_MODEL_PYTHON"
"""environment variable: an interpreter with torch, which loads the adapters back"""
_SIGNS = {"added": Text("+", "green"), "changed": Text("~", "yellow"), "removed": Text("-", "red")}


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
    # 1. What is to go out: the artifacts that were named, or all that there are.
    wanted = list(what or [])
    if not wanted:
        wanted = [DATASET] if (out / "dataset" / "README.md").is_file() else []
        wanted += [name for name in recipe_names() if (out / "adapters" / name / "training" / "run.json").is_file()]
    if not wanted:
        raise BonsaiError(f"{out}: nothing is made yet; run `nox -s build train` first")
    recipes = {name: load_recipe(name) for name in wanted if name not in (DATASET, SPACE)}
    with contextlib.ExitStack() as locks, resolve_hub(out / "hub") as target:
        # 2. Nobody may build, train or evaluate it meanwhile.
        for folder in [out / "dataset"] * (DATASET in wanted) + [out / "adapters" / recipe for recipe in recipes]:
            locks.enter_context(exclusive(folder))
        api = hub_client(target, out)
        from bonsai.hub.publish import run_preflight

        # 3. Everything that could be refused, before the first repo is written.
        if dry_run:
            from bonsai.builder.release import dataset_release

            releases = (
                [dataset_release(out / "dataset", with_namespace("qeu/bonsai"), api)] if DATASET in wanted else []
            )
            releases += [render_adapter(api, name, recipe, out) for name, recipe in recipes.items()]
            for release in releases:
                print_preview(api, release)
        else:
            console.print(Text.assemble(f"publishing {', '.join(wanted)} to ", (str(target), "bold")))
        with console.status("looking at what would go out"):
            run_preflight(
                ", ".join(wanted), list_checks(api, wanted, recipes, out, records), sentences=(BonsaiError, HubError)
            )
        if dry_run:
            console.print("no obstacle was found; nothing was sent. 送信していません。")
            return
        # 4. Release: dataset first, for the adapters' cards name its revision.
        if DATASET in wanted:
            publish_dataset(api, target, out)
        for name, recipe in recipes.items():
            publish_adapter(api, target, name, recipe, out)
        if SPACE in wanted:
            from bonsai.recipes.demo.space import publish_space

            print_published(publish_space(api, may_move_tag=target.is_local))
        # 5. What to type next, on lines that can be copied whole.
        lines = [""]
        if target.is_local:
            lines += [
                "It is all on the Hub of this machine. To use it:   この端末のHubにあります。使うには：",
                "  nox -s hub                                  # serves it and prints HF_ENDPOINT",
                "  export HF_ENDPOINT=http://127.0.0.1:8420    # in another terminal  別の端末で",
            ]
        else:
            lines.append("It is public. To use it:   公開しました。使うには：")
        if DATASET in wanted:
            repo_id = with_namespace("qeu/bonsai")
            lines.append(f"  python -c \"from datasets import load_dataset; print(load_dataset('{repo_id}'))\"")
        lines += [
            f"  peft: AutoPeftModelForCausalLM.from_pretrained('{with_namespace(recipe.repo_id)}')"
            for recipe in recipes.values()
        ]
        if target.is_local:
            lines.append(
                "To publish for everybody: export HF_TOKEN=… BONSAI_NAMESPACE=<your name>, "
                "then nox -s build train publish"
            )
        for line in lines:
            console.print(line, soft_wrap=True)


def hub_client(target: HubTarget, out: Path) -> HfApi:
    """Create a client, and make sure that its Hub answers and knows the token.

    Raises:
        HTTPError: it does not; a wrong address or token is not tried again.
    """
    target.settle(out / "cache")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from huggingface_hub import HfApi

    from bonsai.hub.http_client import set_idle_timeout
    from bonsai.hub.retry import RetryPolicy

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every attempt, with addresses
    set_idle_timeout()
    api = HfApi(endpoint=target.endpoint, token=target.token)
    RetryPolicy(tries=3, first_wait=0.5).run(api.whoami, state=lambda: "nothing was sent")
    return api


def list_checks(
    api: HfApi, wanted: Sequence[str], recipes: dict[str, Recipe], out: Path, records: Path | None
) -> list[PreflightCheck]:
    """List what can be checked before the first repo is written; an adapter's card is checked once it is rendered."""
    from bonsai.builder.records import default_records_dir
    from bonsai.builder.release import dataset_preflight, dataset_release, find_private_text, find_unsafe_weights
    from bonsai.hub.publish import PreflightCheck, check_pinned_revision
    from bonsai.hub.repo_files import folder_files
    from bonsai.recipes.evaluation.report import publish_blockers
    from bonsai.recipes.training.release import folder_base
    from bonsai.recipes.training.run_record import read_record

    checks: list[PreflightCheck] = []
    if DATASET in wanted:
        release = dataset_release(out / "dataset", with_namespace("qeu/bonsai"), api)
        checks += dataset_preflight(release, out / "dataset", records or default_records_dir())
    # an adapter: nothing private, no pickles, an evaluation, and a base and dataset that the Hub has at that revision
    for name, recipe in recipes.items():
        folder = out / "adapters" / name
        record, files = read_record(folder), folder_files(folder)
        base, dataset = with_namespace(recipe.base_model), with_namespace(recipe.dataset)
        checks.append(PreflightCheck(f"{name}, private", partial(find_private_text, files)))
        checks.append(PreflightCheck(f"{name}, weights", partial(find_unsafe_weights, files)))
        checks.append(PreflightCheck(f"{name}, evaluation", partial(publish_blockers, folder, name)))
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


def render_adapter(api: HfApi, name: str, recipe: Recipe, out: Path) -> Release:
    """Collect the files of an adapter's release, with its card rendered for this Hub."""
    from bonsai.recipes.evaluation.report import card_evaluation
    from bonsai.recipes.training.release import adapter_release

    folder, repo_id = out / "adapters" / name, with_namespace(recipe.repo_id)
    return adapter_release(api, recipe, folder, repo_id, evaluation=card_evaluation(folder), on_note=console.print)


def publish_dataset(api: HfApi, target: HubTarget, out: Path) -> None:
    """Release the dataset once a clean environment has loaded it back from the commit."""
    from bonsai.builder.release import dataset_release

    repo_id = with_namespace("qeu/bonsai")
    lines: list[str] = []

    def verify(commit: str) -> None:
        status.update("loading the dataset back with a fresh cache")
        started = time.perf_counter()
        report = json.loads(run_in_clean_environment(["-m", "bonsai.builder.verify", repo_id, commit], target))
        note_stage("load back", time.perf_counter() - started)
        configs = ", ".join(f"{name} {rows}" for name, rows in report["configs"].items())
        lines.append(f'  load_dataset("{repo_id}") {report["rows"]} in {report["seconds_default"]} s')
        lines.append(f"  {configs}; streaming and revision={commit[:12]} agree")

    with console.status("publishing the dataset") as status:
        result = dataset_release(out / "dataset", repo_id, api).push(api, may_move_tag=target.is_local, loads=verify)
    print_published(result)
    for line in lines:
        console.print(line)


def publish_adapter(api: HfApi, target: HubTarget, name: str, recipe: Recipe, out: Path) -> None:
    """Release an adapter once its card's own snippet has loaded it in a clean environment and got an answer.

    Raises:
        ReleaseError: the answer is empty.
    """
    from bonsai.builder.errors import ReleaseError
    from bonsai.builder.prompt import RESPONSE_MARKER
    from bonsai.hub.publish import run_preflight
    from bonsai.hub.repo_files import read
    from bonsai.hub.retry import DEFAULT_RETRY
    from bonsai.model_card.card import python_snippets
    from bonsai.recipes.training.release import CARD, edited_card

    # 1. Its base first: the card names it.
    if recipe.base_model_package is not None and not target.is_local:
        publish_base(api, recipe, out)
    folder = out / "adapters" / name
    if edited := edited_card(folder):
        console.print(edited, soft_wrap=True)
    # 2. How the commit is verified before it gets its tag.
    answers: list[str] = []

    def verify(commit: str) -> None:
        status.update("running the card's snippet with a fresh cache")
        snippet = python_snippets(read(release.files[CARD]).decode("utf-8"))[0]
        untagged = snippet.replace(f'revision="{recipe.tag}"', f'revision="{commit}"')  # the tag comes after this
        python = os.environ.get(MODEL_PYTHON, sys.executable)
        started = time.perf_counter()
        answer = run_in_clean_environment(["-c", untagged], target, python=python).strip()
        note_stage("load back", time.perf_counter() - started)
        if not answer:
            raise ReleaseError(
                f"{release.repo_id}: the card's snippet loads the adapter and it answers nothing at all; look at its "
                f"loss in {folder}/README.md, train it longer or with other settings, and publish again"
            )
        answers.append(answer)

    # 3. Render the card, check it, and push.
    with console.status(f"publishing {name}") as status:
        release = DEFAULT_RETRY.run(
            lambda: render_adapter(api, name, recipe, out),
            state=lambda: f"{name} is not published; publish again",
        )
        run_preflight(name, release.checks())  # again, for now there is a card
        result = release.push(api, may_move_tag=target.is_local, loads=verify)
    (folder / CARD).write_bytes(read(release.files[CARD]))
    # 4. Show the answer.
    print_published(result)
    console.print(f"  the card's snippet loaded {result.repo_id} and it answered:")
    for line in answers[-1].splitlines():
        console.print(Text.assemble(("  | ", "green"), line))
    if RESPONSE_MARKER.strip() not in answers[-1]:
        console.print(f"  without {RESPONSE_MARKER.strip()}: it has not learnt well the form that its card promises")


def publish_base(api: HfApi, recipe: Recipe, out: Path) -> None:
    """Copy a packaged base model from the Hub of this machine to the real one, unless it is there."""
    from huggingface_hub import HfApi

    from bonsai.hub.publish import publish_files
    from bonsai.hub.repo_files import folder_files

    repo_id = with_namespace(recipe.base_model)
    if api.repo_exists(repo_id) and api.revision_exists(repo_id, recipe.base_model_revision):
        return
    with local_hub(out / "hub") as local_target, tempfile.TemporaryDirectory() as folder:
        local = HfApi(endpoint=local_target.endpoint, token=local_target.token)
        local.snapshot_download(repo_id, revision=recipe.base_model_revision, local_dir=folder)
        result = publish_files(
            api,
            repo_id=repo_id,
            repo_type="model",
            files=folder_files(Path(folder)),
            message=f"Weights of {recipe.base_model_package}, dequantised",
            tag=recipe.base_model_revision,
        )
    print_published(result)


def print_published(result: PublishResult) -> None:
    """Print a repo's state after its release."""
    state = "released" if result.changed else "unchanged, no commit made"
    moved = "; this rehearsal moved the tag, the real Hub would require a new version" if result.tag_moved else ""
    outcome = f" {result.tag} at {result.commit[:12]}: {state}{moved}"
    console.print(Text.assemble((result.repo_id, "bold"), outcome))


def print_preview(api: HfApi, release: Release) -> None:
    """Print what a release would change; the Hub is only asked, never written."""
    from bonsai.hub.publish import preview_release

    plan = preview_release(
        api, repo_id=release.repo_id, repo_type=release.repo_type, files=release.files, tag=release.tag
    )
    table = Table(title=f"{plan.repo_id} {plan.tag}", title_justify="left", box=None)
    table.add_column("")
    # in a log a path is not cut, however long
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
        color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        console.print(line, style=color, soft_wrap=True)
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
    with resolve_hub(out / "hub") as target:
        api = hub_client(target, out)
        from bonsai.hub.releases import list_releases

        found = list_releases(api, repo_id, repo_type)
    table = Table("release", "commit", "date 日付", "", title=f"{repo_id} on {target}", box=None)
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
    with resolve_hub(out / "hub") as target:
        api = hub_client(target, out)
        from bonsai.hub import releases

        commit = releases.withdraw(api, repo_id, repo_type, tag, reason=reason, instead=instead)
    put = f", main holds {instead} again" if instead else ""
    console.print(Text.assemble((repo_id, "bold"), f" {tag}: withdrawn, the card says so ({commit[:12]}){put}"))


@app.command()
def current(what: What, tag: Tag, out: Out = OUT) -> None:
    """Make main hold the files of an earlier release again, in one commit. 以前のリリースに戻す。"""
    repo_id, repo_type = _repo(what)
    with resolve_hub(out / "hub") as target:
        api = hub_client(target, out)  # first: whatever imports the client fixes its address
        from bonsai.hub.releases import restore_release

        commit = restore_release(api, repo_id, repo_type, tag)
    console.print(Text.assemble((repo_id, "bold"), f": main holds {tag} ({commit[:12]})"))


def _repo(what: str) -> tuple[str, str]:
    if what == "dataset":
        return with_namespace("qeu/bonsai"), "dataset"
    return with_namespace(load_recipe(what).repo_id), "model"
