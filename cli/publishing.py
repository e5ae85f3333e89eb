"""`bonsai publish`: ask what speaks against it, release, load it back as a stranger would, say what to type next."""

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
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bonsai.builder.folder import exclusive
from bonsai.builder.schema import BonsaiError
from bonsai.cli.console import note_stage
from bonsai.hub.client.destination import Destination, chosen_hub, in_namespace, local_hub
from bonsai.hub.errors import HubError
from bonsai.recipes.training.recipe import Recipe, base_folder
from bonsai.recipes.training.registry import load_recipe, recipe_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bonsai.builder.release import Release
    from bonsai.hub.client.gate import Check
    from bonsai.hub.client.push import Pushed

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
    wanted = list(what) or _made(out)
    if not wanted:
        raise BonsaiError(f"{out}: nothing is made yet; run `nox -s build train` first")
    recipes = {name: load_recipe(name) for name in wanted if name not in (DATASET, SPACE)}
    with contextlib.ExitStack() as held, chosen_hub(out / "hub") as destination:
        for folder in [out / "dataset"] * (DATASET in wanted) + [out / "adapters" / recipe for recipe in recipes]:
            held.enter_context(exclusive(folder))
        api = connect(destination, out)
        if dry_run:
            from bonsai.builder.release import dataset_release
            from bonsai.cli.previewing import show

            releases = [dataset_release(out / "dataset", in_namespace("qeu/bonsai"))] if DATASET in wanted else []
            releases += [_adapter_release(api, name, recipe, out, console) for name, recipe in recipes.items()]
            show(api, releases, console)
        else:
            console.print(Text.assemble(f"publishing {', '.join(wanted)} to ", (str(destination), "bold")))
        from bonsai.hub.client.gate import gate

        with console.status("looking at what would go out"):
            gate(", ".join(wanted), _checks(api, wanted, recipes, out, records), sentences=(BonsaiError, HubError))
        if dry_run:
            console.print("nothing speaks against it; nothing was sent. 送信していません。")
            return
        if DATASET in wanted:
            _dataset(api, destination, out, console)
        for name, recipe in recipes.items():
            _adapter(api, destination, name, recipe, out, console)
        if SPACE in wanted:
            from bonsai.cli.space import publish_space

            tell(publish_space(api, may_move_tag=destination.is_local), console)
        _what_next(destination, wanted, recipes, console)


def connect(destination: Destination, out: Path) -> HfApi:
    """The client of a Hub that answers and knows the token.

    Raises:
        HTTPError: it does not; a wrong address or token is not worth a second try.
    """
    destination.settle(out / "cache")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import logging

    from huggingface_hub import HfApi

    from bonsai.hub.client.patience import Patience
    from bonsai.hub.client.session import limit_silence

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of every try, with addresses
    limit_silence()
    api = HfApi(endpoint=destination.endpoint, token=destination.token)
    Patience(tries=3, first_wait=0.5).run(api.whoami, state=lambda: "nothing was sent")
    return api


def _made(out: Path) -> list[str]:
    made = [DATASET] if (out / "dataset" / "README.md").is_file() else []
    return made + [name for name in recipe_names() if (out / "adapters" / name / "training" / "run.json").is_file()]


def _checks(
    api: HfApi, wanted: Sequence[str], recipes: dict[str, Recipe], out: Path, records: Path | None
) -> list[Check]:
    """All that can be known before the first repo is written; an adapter's card is looked at once it is rendered."""
    from bonsai.builder.outgoing import private_texts, unsafe_weights
    from bonsai.builder.reader import default_records
    from bonsai.builder.release import dataset_checks, dataset_release
    from bonsai.hub.client.content import folder_files
    from bonsai.hub.client.gate import Check, pinned
    from bonsai.recipes.evaluation.card_results import against_evaluation
    from bonsai.recipes.training.record import read_record
    from bonsai.recipes.training.release import folder_base

    checks: list[Check] = []
    if DATASET in wanted:
        release = dataset_release(out / "dataset", in_namespace("qeu/bonsai"))
        checks += dataset_checks(release, out / "dataset", records or default_records())
    for name, recipe in recipes.items():
        record = read_record(out / "adapters" / name)
        files = folder_files(out / "adapters" / name)
        base, dataset = in_namespace(recipe.base_model), in_namespace(recipe.dataset)
        checks.append(Check(f"{name}, private", partial(private_texts, files)))
        checks.append(Check(f"{name}, weights", partial(unsafe_weights, files)))
        checks.append(Check(f"{name}, evaluation", partial(against_evaluation, out / "adapters" / name, name)))
        checks.append(Check(f"{name}, base", partial(folder_base, record)))
        if recipe.base_model_package is None and base_folder(recipe.base_model) is None:
            checks.append(Check(f"{name}, base", partial(pinned, api, base, "model", recipe.base_model_revision)))
        if DATASET not in wanted:
            checks.append(Check(f"{name}, dataset", partial(pinned, api, dataset, "dataset", recipe.dataset_revision)))
    return checks


def _adapter_release(api: HfApi, name: str, recipe: Recipe, out: Path, console: Console) -> Release:
    from bonsai.recipes.evaluation.card_results import evaluation_of
    from bonsai.recipes.training.release import adapter_release

    folder, repo_id = out / "adapters" / name, in_namespace(recipe.repo_id)
    return adapter_release(api, recipe, folder, repo_id, evaluation=evaluation_of(folder), on_note=console.print)


def _dataset(api: HfApi, destination: Destination, out: Path, console: Console) -> None:
    from bonsai.builder.release import release_dataset
    from bonsai.hub.client.stranger import run_as_stranger

    repo_id = in_namespace("qeu/bonsai")
    lines: list[str] = []

    def loads(commit: str) -> None:
        status.update("loading the dataset back with a fresh cache")
        started = time.perf_counter()
        told = json.loads(run_as_stranger(["-m", "bonsai.builder.verify", repo_id, commit], destination))
        note_stage("load back", time.perf_counter() - started)
        configs = ", ".join(f"{name} {rows}" for name, rows in told["configs"].items())
        lines.append(f'  load_dataset("{repo_id}") {told["rows"]} in {told["seconds_default"]} s')
        lines.append(f"  {configs}; streaming and revision={commit[:12]} agree")

    with console.status("publishing the dataset") as status:
        pushed = release_dataset(api, out / "dataset", repo_id, may_move_tag=destination.is_local, loads=loads)
    tell(pushed, console)
    for line in lines:
        console.print(line)


def _adapter(api: HfApi, destination: Destination, name: str, recipe: Recipe, out: Path, console: Console) -> None:
    from bonsai.builder.messages import RESPONSE_MARKER
    from bonsai.builder.release import ReleaseError
    from bonsai.hub.client.content import read
    from bonsai.hub.client.gate import gate
    from bonsai.hub.client.patience import PATIENCE
    from bonsai.hub.client.stranger import run_as_stranger
    from bonsai.model_card.snippets import python_snippets
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
        answer = run_as_stranger(["-c", untagged], destination, python=python).strip()
        note_stage("load back", time.perf_counter() - started)
        if not answer:
            raise ReleaseError(
                f"{release.repo_id}: the card's snippet loads the adapter and it answers nothing at all; look at its "
                f"loss in {folder}/README.md, train it longer or with other settings, and publish again"
            )
        answers.append(answer)

    with console.status(f"publishing {name}") as status:
        release = PATIENCE.run(
            lambda: _adapter_release(api, name, recipe, out, console),
            state=lambda: f"{name} is not published; publish again",
        )
        gate(name, release.checks())  # again, now with the card
        pushed = release.push(api, may_move_tag=destination.is_local, loads=loads)
    (folder / CARD).write_bytes(read(release.files[CARD]))
    tell(pushed, console)
    console.print(f"  the card's snippet loaded {pushed.repo_id} and it answered:")
    for line in answers[-1].splitlines():
        console.print(Text.assemble(("  | ", "green"), line))
    if RESPONSE_MARKER.strip() not in answers[-1]:
        console.print(f"  without {RESPONSE_MARKER.strip()}: the form that its card promises is not learnt well")


def _base_model(api: HfApi, recipe: Recipe, out: Path, console: Console) -> None:
    """Bring a base model that so far lies on the Hub of this machine to the real one, unless it is there."""
    from huggingface_hub import HfApi

    from bonsai.hub.client.push import folder_files, push

    repo_id = in_namespace(recipe.base_model)
    if api.repo_exists(repo_id) and api.revision_exists(repo_id, recipe.base_model_revision):
        return
    with local_hub(out / "hub") as home, tempfile.TemporaryDirectory() as folder:
        local = HfApi(endpoint=home.endpoint, token=home.token)
        local.snapshot_download(repo_id, revision=recipe.base_model_revision, local_dir=folder)
        pushed = push(
            api,
            repo_id=repo_id,
            repo_type="model",
            files=folder_files(Path(folder)),
            message=f"Weights of {recipe.base_model_package}, dequantised",
            tag=recipe.base_model_revision,
        )
    tell(pushed, console)


def tell(pushed: Pushed, console: Console) -> None:
    """Say how a repo stands after its release."""
    state = "released" if pushed.changed else "unchanged, no commit made"
    moved = "; this rehearsal moved the tag, the real Hub would ask for a new version" if pushed.tag_moved else ""
    told = f" {pushed.tag} at {pushed.commit[:12]}: {state}{moved}"
    console.print(Text.assemble((pushed.repo_id, "bold"), told))


def _what_next(destination: Destination, wanted: Sequence[str], recipes: dict[str, Recipe], console: Console) -> None:
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
        name = in_namespace("qeu/bonsai")
        lines.append(f"  python -c \"from datasets import load_dataset; print(load_dataset('{name}'))\"")
    lines += [
        f"  peft: AutoPeftModelForCausalLM.from_pretrained('{in_namespace(recipe.repo_id)}')"
        for recipe in recipes.values()
    ]
    if destination.is_local:
        lines.append(
            "To publish for everybody: export HF_TOKEN=… BONSAI_NAMESPACE=<your name>, then nox -s build train publish"
        )
    for line in lines:  # to be copied: not to be broken
        console.print(line, soft_wrap=True)
