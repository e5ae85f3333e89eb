"""`bonsai publish`: release, then load everything back as a stranger would, then say what to type next."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bonsai.builder.schema import BonsaiError
from bonsai.hub.client.destination import Destination, chosen_hub, in_namespace, local_hub
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.registry import load_recipe, recipe_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bonsai.hub.client.push import Pushed

DATASET = "dataset"
MODEL_PYTHON = "BONSAI_MODEL_PYTHON"
"""environment variable: the interpreter that has torch, for loading the adapters back"""


def publish(what: Sequence[str], *, out: Path, console: Console) -> None:
    """Publish the dataset and adapters that were named, or all that is made.

    Raises:
        BonsaiError, HubError: with the reason; a repo is either released as a whole or as it was before.
    """
    wanted = list(what) or _made(out)
    if not wanted:
        raise BonsaiError(f"{out}: nothing is made yet; run `nox -s build train` first")
    recipes = {name: load_recipe(name) for name in wanted if name != DATASET}
    with chosen_hub(out / "hub") as destination:
        os.environ.update({**destination.environment, "HF_HOME": str((out / "cache").resolve())})
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        console.print(f"publishing {', '.join(wanted)} to [bold]{destination}[/]")
        from huggingface_hub import HfApi

        api = HfApi(endpoint=destination.endpoint, token=destination.token)
        if DATASET in wanted:
            _dataset(api, destination, out, console)
        for name, recipe in recipes.items():
            _adapter(api, destination, name, recipe, out, console)
        _what_next(destination, wanted, recipes, console)


def _made(out: Path) -> list[str]:
    made = [DATASET] if (out / "dataset" / "README.md").is_file() else []
    return made + [name for name in recipe_names() if (out / "adapters" / name / "training" / "run.json").is_file()]


def _dataset(api: HfApi, destination: Destination, out: Path, console: Console) -> None:
    from bonsai.builder.release import release_dataset

    with console.status("publishing the dataset"):
        pushed = release_dataset(api, out / "dataset", in_namespace("qeu/bonsai"), may_move_tag=destination.is_local)
    _tell(pushed, console)
    from bonsai.hub.client.stranger import run_as_stranger

    with console.status("loading the dataset back with a fresh cache"):
        told = json.loads(run_as_stranger(["-m", "bonsai.builder.verify", pushed.repo_id, pushed.tag], destination))
    console.print(f'  load_dataset("{pushed.repo_id}") {told["rows"]} in {told["seconds_default"]} s')
    console.print(
        f"  {', '.join(f'{name} {rows}' for name, rows in told['configs'].items())}; "
        f"streaming and revision={pushed.tag} agree"
    )


def _adapter(api: HfApi, destination: Destination, name: str, recipe: Recipe, out: Path, console: Console) -> None:
    from bonsai.hub.client.stranger import run_as_stranger
    from bonsai.model_card.snippets import python_snippets
    from bonsai.recipes.training.release import release_adapter

    if recipe.base_model_package is not None and not destination.is_local:
        _base_model(api, recipe, out, console)
    with console.status(f"publishing {name}"):
        pushed = release_adapter(
            api, recipe, out / "adapters" / name, in_namespace(recipe.repo_id), may_move_tag=destination.is_local
        )
    _tell(pushed, console)
    card = Path(api.hf_hub_download(pushed.repo_id, "README.md", revision=pushed.tag)).read_text(encoding="utf-8")
    snippet = python_snippets(card)[0]
    with console.status("running the card's snippet with a fresh cache"):
        answer = run_as_stranger(["-c", snippet], destination, python=os.environ.get(MODEL_PYTHON, sys.executable))
    console.print(f"  the card's snippet loaded {pushed.repo_id} and it answered:")
    for line in answer.strip().splitlines():
        console.print(f"  [green]|[/] {line}", markup=True)


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
        _tell(
            push(
                api,
                repo_id=repo_id,
                repo_type="model",
                files=folder_files(Path(folder)),
                message=f"Weights of {recipe.base_model_package}, dequantised",
                tag=recipe.base_model_revision,
            ),
            console,
        )


def _tell(pushed: Pushed, console: Console) -> None:
    state = "released" if pushed.changed else "unchanged, no commit made"
    moved = "; this rehearsal moved the tag, the real Hub would ask for a new version" if pushed.tag_moved else ""
    console.print(f"[bold]{pushed.repo_id}[/] {pushed.tag} at {pushed.commit[:12]}: {state}{moved}")


def _what_next(destination: Destination, wanted: Sequence[str], recipes: dict[str, Recipe], console: Console) -> None:
    console.print()
    if destination.is_local:
        console.print("Everything lies on the Hub of this machine. To use it:   この端末のHubにあります。使うには：")
        console.print("  nox -s hub                                  # serves it and prints HF_ENDPOINT")
        console.print("  export HF_ENDPOINT=http://127.0.0.1:8420    # in another terminal  別の端末で")
    else:
        console.print("It is public. To use it:   公開しました。使うには：")
    if DATASET in wanted:
        console.print(
            f"  python -c \"from datasets import load_dataset; print(load_dataset('{in_namespace('qeu/bonsai')}'))\""
        )
    for recipe in recipes.values():
        console.print(f"  peft: AutoPeftModelForCausalLM.from_pretrained('{in_namespace(recipe.repo_id)}')")
    if destination.is_local:
        console.print(
            "To publish for everybody: export HF_TOKEN=… BONSAI_NAMESPACE=<your name>, then nox -s build train publish"
        )
