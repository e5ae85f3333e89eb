"""Release an adapter: its folder and card as one commit with a tag, naming the dataset commit it was trained on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from bonsai.builder.build import content_hash
from bonsai.builder.errors import ReleaseError
from bonsai.builder.files import atomic_write_text
from bonsai.builder.prompt import to_prompt_completion
from bonsai.builder.release import Release
from bonsai.hub.repo_files import folder_files
from bonsai.model_card.card import is_edited, render
from bonsai.model_card.facts import AdapterFacts, EvaluationFacts, LossRow, Price, Setting
from bonsai.model_card.linter import lint_card
from bonsai.recipes.training.plan.gpus import GPUS, PRICES_FROM, PRICES_READ
from bonsai.recipes.training.recipe import Recipe, base_folder
from bonsai.recipes.training.run_record import ARGUMENTS, SOURCE, RunRecord, load_diagnosis, read_record, weights_sha256

CARD = "README.md"
DATASET_LICENSE = "mit"
NOT_IN_SETTINGS_TABLE = frozenset(
    {
        "repo_id", "tag", "base_model", "base_model_revision", "base_model_package", "base_model_license",
        "base_model_licence", "dataset", "dataset_revision", "categories", "languages", "needs_gpu",
    }
)  # fmt: skip
"""fields of a recipe that the card states elsewhere than in the table of settings"""


def adapter_release(
    api: HfApi,
    recipe: Recipe,
    adapter: Path,
    repo_id: str,
    *,
    evaluation: EvaluationFacts | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Release:
    """Prepare the adapter in ``adapter`` and its card for publishing.

    Args:
        evaluation: results before and after training, for the card.
        on_note: called with what the card leaves out because the run has no data for it.

    Raises:
        ReleaseError: the dataset it was trained on is not on this Hub, it was trained in another namespace or from a
            folder, the base model's licence differs from the recipe's, the evaluation belongs to another adapter, or
            the linter rejects the card.
        RecipeError: the folder holds no trained adapter.
    """
    # 1. Check what can be checked without the Hub first.
    record = read_record(adapter)
    for complaint in folder_base(record):
        raise ReleaseError(complaint)
    if record.adapter_repo != repo_id:
        raise ReleaseError(
            f"{adapter}: trained for {record.adapter_repo}, not for {repo_id}; train it in this namespace"
        )
    # 2. The dataset must be there and hold the records of the run; the base's licence must be the recipe's.
    dataset_commit = find_dataset_commit(api, recipe, record)
    check_base_license(api, recipe, record)
    # 3. Render the card, and refuse one that the linter rejects.
    facts = adapter_facts(recipe, record, dataset_commit, adapter)
    if evaluation is not None:
        facts = dataclasses.replace(facts, evaluation=check_evaluated_weights(evaluation, facts, adapter))
    card = render(facts)
    check_card(card, facts)
    if facts.missing and on_note is not None:
        on_note(f"its card leaves out: {', '.join(facts.missing)}")
    return Release(
        repo_id=repo_id,
        repo_type="model",
        files={**folder_files(adapter), CARD: card.encode()},
        message=f"{record.recipe_name} {recipe.tag}",
        tag=recipe.tag,
    )


def write_card(recipe: Recipe, adapter: Path, evaluation: EvaluationFacts | None = None) -> Path:
    """Write the card into the adapter's folder, without the dataset's commit, which is known when it is published.

    Args:
        evaluation: left out if it is of other weights than those in the folder.
    """
    facts = adapter_facts(recipe, read_record(adapter), None, adapter)
    if evaluation is not None and evaluation.adapter_sha256 == weights_sha256(adapter):
        facts = dataclasses.replace(facts, evaluation=evaluation)
    path = adapter / CARD
    atomic_write_text(path, render(facts))
    return path


def edited_card(adapter: Path) -> str | None:
    """Return a warning if the card in the adapter's folder was edited by hand; None if it was not."""
    path = adapter / CARD
    if not path.is_file() or not is_edited(path.read_text(encoding="utf-8", errors="replace")):
        return None
    return (
        f"{path}: was edited by hand; it is overwritten from the run's record, so put your text into the repository's "
        "discussions, or into model_card/README.md.j2"
    )


def adapter_facts(recipe: Recipe, record: RunRecord, dataset_commit: str | None, adapter: Path) -> AdapterFacts:
    """Collect everything that the card of the adapter in this folder states, except an evaluation.

    A fact whose name is that of a field of the run's record is taken from there; only the others are spelled out.
    """
    # 1. What the record holds under the same name.
    shared = {
        fact.name: getattr(record, fact.name) for fact in dataclasses.fields(AdapterFacts) if hasattr(record, fact.name)
    }
    # 2. The recipe's fields by what they set, in the recipe's order.
    settings = []
    for name, value in record.recipe.items():
        if name not in NOT_IN_SETTINGS_TABLE and value is not None:
            if name.startswith("bnb_"):
                part = "quantisation"
            elif name == "reasoning":
                part = "records"
            else:
                part = "LoRA" if name in ("r", "target_modules") or name.startswith("lora_") else "trainer"
            settings.append(Setting(part, name, value))
    # 3. What lies in the adapter's folder. PEFT has resolved "all-linear" to the layers' names.
    modules = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
    gguf = sorted(adapter.glob("*.gguf"))
    example = to_prompt_completion("What is the longest river in Japan?", "", "…", "…")
    computed: dict[str, Any] = {
        "repo_id": record.adapter_repo,
        "command": command(record),
        "license": recipe.base_model_license,
        "dataset_license": DATASET_LICENSE,
        "base_model_revision": recipe.base_model_revision,
        "dataset": record.dataset_repo,
        "dataset_revision": recipe.dataset_revision,
        "dataset_commit": dataset_commit,
        "languages": record.recipe["languages"],
        "categories": record.recipe["categories"],
        "settings": tuple(settings),
        "losses": [LossRow(p.step, p.loss, p.learning_rate, p.tokens) for p in record.losses],
        "evaluations": {point.step: point.loss for point in record.evaluations},
        "kept_step": record.best_step,
        "price": price(record.device),
        "adapted_modules": (modules,) if isinstance(modules, str) else tuple(sorted(modules)),
        "prompt": record.prompt_beginning + example.prompt.rstrip("\n"),
        "arguments": (adapter / ARGUMENTS).is_file(),
        "tag": recipe.tag,
        "gguf": gguf[0].name if gguf else None,
        "diagnosis": load_diagnosis(adapter),
    }
    return AdapterFacts(**shared | computed)


def command(record: RunRecord) -> str:
    """Return the shell command that repeats this run in a checkout, with namespace and number of steps if given."""
    owner, own = record.adapter_repo.partition("/")[0], str(record.recipe["repo_id"]).partition("/")[0]
    name = record.recipe_name if record.max_steps is None else f"{record.recipe_name} --max-steps {record.max_steps}"
    name += "" if record.with_engine else " --no-engine"
    variable = "" if owner == own else f"export BONSAI_NAMESPACE={owner} && "
    checkout = "" if record.source_commit is None else f" && git checkout -q {record.source_commit}"
    return (
        f"git clone -q {SOURCE} && cd bonsai{checkout}\n"
        f"{variable}pip install nox && nox -s build && nox -s train -- {name}"
    )


def price(device: str) -> Price | None:
    """Look up the price of this device per hour in the list that `bonsai plan` uses."""
    for gpu in GPUS:
        if gpu.flavour is not None and gpu.name.split()[0] in device.replace("-", " ").split():
            return Price(usd_per_hour=gpu.usd_per_hour, source=f"{PRICES_FROM}, {gpu.flavour}, read {PRICES_READ}")
    return None


def folder_base(record: RunRecord) -> list[str]:
    """Explain why an adapter whose base is a local folder cannot be published; empty if its base is on the Hub."""
    folder = base_folder(record.base_model)
    if folder is None:
        return []
    came_from = ""
    with contextlib.suppress(OSError, ValueError):
        origin = str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_name_or_path") or "")
        if origin.count("/") == 1 and base_folder(origin) is None:
            came_from = f"; its config.json names {origin}: if the weights are the same, that is the id"
    return [
        f"{record.adapter_repo}: its base model is the folder {folder} of this machine, which no reader has: "
        f"publish it (`hf upload OWNER/NAME {folder}`), write that id and its commit into the recipe, and train "
        f"again{came_from}"
    ]


def check_evaluated_weights(evaluation: EvaluationFacts, facts: AdapterFacts, adapter: Path) -> EvaluationFacts:
    """Check that an evaluation is of these weights, and pin its results to the dataset's commit.

    Raises:
        ReleaseError: it is of other weights.
    """
    if evaluation.adapter_sha256 != weights_sha256(adapter):
        raise ReleaseError(
            f"{adapter}: the evaluation is of other weights than those in the folder; "
            f"run `bonsai evaluate {facts.recipe_name}`"
        )
    results = [
        dataclasses.replace(result, dataset_revision=facts.dataset_commit)
        if result.dataset_type == facts.dataset
        else result
        for result in evaluation.results
    ]
    return dataclasses.replace(evaluation, results=results)


def check_base_license(api: HfApi, recipe: Recipe, record: RunRecord) -> None:
    """Compare the licence in the base model's card with the recipe's; skipped if the model is not on this Hub.

    Raises:
        ReleaseError: they differ.
    """
    base, revision = record.base_model, recipe.base_model_revision
    if not api.repo_exists(base) or not api.revision_exists(base, revision):
        return
    card = api.model_info(base, revision=revision).card_data
    written = card.license if card is not None else None
    if written is not None and written != recipe.base_model_license:
        raise ReleaseError(
            f"{record.adapter_repo}: {base} {revision} is under {written}, but base_model_license in the recipe is "
            f"{recipe.base_model_license}; correct the recipe"
        )


def check_card(card: str, facts: AdapterFacts) -> None:
    """Lint the card.

    Raises:
        ReleaseError: with every complaint of the linter.
    """
    complaints = lint_card(card, facts)
    if complaints:
        lines = "\n".join(f"  README.md:{complaint}" for complaint in complaints)
        raise ReleaseError(f"{facts.repo_id}: its card cannot be published:\n{lines}")


def find_dataset_commit(api: HfApi, recipe: Recipe, record: RunRecord) -> str:
    """Find the commit of the dataset's pinned revision, and check that its Parquet holds the records of the run.

    Raises:
        ReleaseError: it is not on this Hub, or holds other records.
    """
    repo = record.dataset_repo
    if not api.repo_exists(repo, repo_type="dataset") or not api.revision_exists(
        repo, recipe.dataset_revision, repo_type="dataset"
    ):
        raise ReleaseError(
            f"{record.adapter_repo} was trained on {repo} {recipe.dataset_revision}, which is not on {api.endpoint}; "
            "publish the dataset first"
        )
    with tempfile.TemporaryDirectory() as folder:
        api.snapshot_download(
            repo, repo_type="dataset", revision=recipe.dataset_revision, allow_patterns="*.parquet", local_dir=folder
        )
        published = content_hash(Path(folder))
    if published != record.dataset_content_hash:
        raise ReleaseError(
            f"{record.adapter_repo} was trained on other records than {repo} {recipe.dataset_revision} holds; "
            f"run `nox -s train -- {record.recipe_name}` again"
        )
    sha = api.repo_info(repo, repo_type="dataset", revision=recipe.dataset_revision).sha
    if sha is None:
        raise ReleaseError(f"{repo}: the Hub names no commit for {recipe.dataset_revision}; publish again in a minute")
    return sha
