"""Release an adapter: its folder and its card as one commit and a tag, on the dataset commit it was trained on."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from bonsai.builder.build import content_hash
from bonsai.builder.errors import ReleaseError
from bonsai.builder.prompt import to_prompt_completion
from bonsai.builder.release import Release
from bonsai.hub.repo_files import folder_files
from bonsai.model_card.card import is_edited, render
from bonsai.model_card.facts import AdapterFacts, EvaluationFacts, LossRow, Price, Setting
from bonsai.model_card.linter import lint_card
from bonsai.recipes.training.plan.speed import GPUS, PRICES_FROM, PRICES_READ
from bonsai.recipes.training.recipe import Recipe, base_folder
from bonsai.recipes.training.run_record import ARGUMENTS, SOURCE, RunRecord, load_diagnosis, read_record

NOT_IN_SETTINGS_TABLE = frozenset(
    {
        "repo_id",
        "tag",
        "base_model",
        "base_model_revision",
        "base_model_package",
        "base_model_licence",
        "dataset",
        "dataset_revision",
        "categories",
        "languages",
        "needs_gpu",
    }
)
"""fields of a recipe that the card tells in another place than the table of settings"""
DATASET_LICENCE = "mit"


def adapter_facts(recipe: Recipe, record: RunRecord, dataset_commit: str | None, adapter: Path) -> AdapterFacts:
    """All that the card of the adapter in this folder states, without an evaluation."""
    shown = to_prompt_completion("What is the longest river in Japan?", "", "…", "…")
    gguf = sorted(adapter.glob("*.gguf"))
    return AdapterFacts(
        repo_id=record.adapter_repo,
        recipe_name=record.recipe_name,
        command=command(record),
        licence=recipe.base_model_licence,
        dataset_licence=DATASET_LICENCE,
        base_model=record.base_model,
        base_model_revision=recipe.base_model_revision,
        base_model_commit=record.base_model_commit,
        dataset=record.dataset_repo,
        dataset_revision=recipe.dataset_revision,
        dataset_commit=dataset_commit,
        dataset_content_hash=record.dataset_content_hash,
        languages=record.recipe["languages"],
        categories=record.recipe["categories"],
        rows_by_category=record.rows_by_category,
        settings=tuple(settings(record.recipe)),
        losses=[LossRow(p.step, p.loss, p.learning_rate, p.tokens) for p in record.losses],
        evaluations={point.step: point.loss for point in record.evaluations},
        validation_loss_before=record.validation_loss_before,
        validation_loss_after=record.validation_loss_after,
        train_rows=record.train_rows,
        validation_rows=record.validation_rows,
        kept_step=record.best_step,
        seconds=record.seconds,
        peak_memory_gib=record.peak_memory_gib,
        device=record.device,
        compute_dtype=record.compute_dtype,
        engine=record.engine,
        price=price(record.device),
        trainable_parameters=record.trainable_parameters,
        adapted_modules=adapted_modules(adapter),
        versions=record.versions,
        python=record.python,
        constraints_sha256=record.constraints_sha256,
        prompt=record.prompt_beginning + shown.prompt.rstrip("\n"),
        samples=record.samples,
        lengths_by_category=record.lengths_by_category,
        machine=record.machine,
        passes=record.passes,
        arguments=(adapter / ARGUMENTS).is_file(),
        tag=recipe.tag,
        gguf=gguf[0].name if gguf else None,
        generators=record.generators,
        prompt_beginning=record.prompt_beginning,
        diagnosis=load_diagnosis(adapter),
    )


def settings(recipe: dict[str, Any]) -> Iterator[Setting]:
    """The recipe's fields by what they set, in the recipe's order."""
    for name, value in recipe.items():
        if name not in NOT_IN_SETTINGS_TABLE and value is not None:
            yield Setting(_part(name), name, value)


def command(record: RunRecord) -> str:
    """What does this run again, in a checkout: with the namespace and the number of steps if they were given."""
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
    """What an hour of this device costs, by the list that `bonsai plan` uses."""
    for gpu in GPUS:
        if gpu.flavour is not None and gpu.name.split()[0] in device.replace("-", " ").split():
            return Price(usd_per_hour=gpu.usd_per_hour, source=f"{PRICES_FROM}, {gpu.flavour}, read {PRICES_READ}")
    return None


def adapted_modules(adapter: Path) -> tuple[str, ...]:
    """The names of the layers that carry a LoRA, as PEFT resolved them."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    modules = config["target_modules"]
    return (modules,) if isinstance(modules, str) else tuple(sorted(modules))


def _part(name: str) -> str:
    if name.startswith("bnb_"):
        return "quantisation"
    if name == "reasoning":
        return "records"
    return "LoRA" if name in ("r", "target_modules") or name.startswith("lora_") else "trainer"


WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"


def adapter_release(
    api: HfApi,
    recipe: Recipe,
    adapter: Path,
    repo_id: str,
    *,
    evaluation: EvaluationFacts | None = None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Release:
    """The adapter in ``adapter`` with its card, to be published.

    Args:
        evaluation: what was asked before and after training, for the card.
        on_note: told what the card leaves out because the run has no data for it.

    Raises:
        ReleaseError: the dataset it was trained on is not on this Hub, it was trained in another namespace or from a
            folder, the base model's licence is another than the recipe's, the evaluation is another adapter's, or the
            linter has complaints about the card.
        RecipeError: nothing is trained here.
    """
    record = read_record(adapter)
    for complaint in folder_base(record):
        raise ReleaseError(complaint)
    if record.adapter_repo != repo_id:
        raise ReleaseError(
            f"{adapter}: trained for {record.adapter_repo}, not for {repo_id}; train it in this namespace"
        )
    dataset_commit = find_dataset_commit(api, recipe, record)
    check_base_license(api, recipe, record)
    facts = adapter_facts(recipe, record, dataset_commit, adapter)
    if evaluation is not None:
        facts = dataclasses.replace(facts, evaluation=check_evaluated_weights(evaluation, facts, adapter))
    card = render(facts)
    check_card(card, facts)
    if facts.missing:
        on_note(f"its card leaves out: {', '.join(facts.missing)}")
    return Release(
        repo_id=repo_id,
        repo_type="model",
        files={**folder_files(adapter), CARD: card.encode()},
        message=f"{record.recipe_name} {recipe.tag}",
        tag=recipe.tag,
    )


def write_card(recipe: Recipe, adapter: Path, evaluation: EvaluationFacts | None = None) -> Path:
    """Write the card into the adapter's folder as far as it is known before publishing: all but the dataset's commit.

    Args:
        evaluation: left out if other weights were asked than lie here.
    """
    facts = adapter_facts(recipe, read_record(adapter), None, adapter)
    if evaluation is not None and evaluation.adapter_sha256 == _weights_sha256(adapter):
        facts = dataclasses.replace(facts, evaluation=evaluation)
    path = adapter / CARD
    path.write_text(render(facts), encoding="utf-8")
    return path


def edited_card(adapter: Path) -> str | None:
    """The sentence for a card in the adapter's folder that somebody has edited; None: nobody has."""
    path = adapter / CARD
    if not path.is_file() or not is_edited(path.read_text(encoding="utf-8", errors="replace")):
        return None
    return (
        f"{path}: was edited by hand; it is written anew from the run's record, so say what you want said in the "
        "repository's discussions, or in model_card/README.md.j2"
    )


def folder_base(record: RunRecord) -> list[str]:
    """What speaks against publishing an adapter whose base is a folder of this machine: no reader has that."""
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
    """The evaluation, its results on the dataset's commit.

    Raises:
        ReleaseError: other weights than these were asked.
    """
    if evaluation.adapter_sha256 != _weights_sha256(adapter):
        raise ReleaseError(
            f"{adapter}: the evaluation is of other weights than lie here; run `bonsai evaluate {facts.recipe_name}`"
        )
    results = [
        dataclasses.replace(result, dataset_revision=facts.dataset_commit)
        if result.dataset_type == facts.dataset
        else result
        for result in evaluation.results
    ]
    return dataclasses.replace(evaluation, results=results)


def _weights_sha256(adapter: Path) -> str:
    return hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()


def check_base_license(api: HfApi, recipe: Recipe, record: RunRecord) -> None:
    """Read the licence in the base model's card; a base model that is not on this Hub is not asked.

    Raises:
        ReleaseError: it is another than the recipe's.
    """
    base, revision = record.base_model, recipe.base_model_revision
    if not api.repo_exists(base) or not api.revision_exists(base, revision):
        return
    card = api.model_info(base, revision=revision).card_data
    written = card.license if card is not None else None
    if written is not None and written != recipe.base_model_licence:
        raise ReleaseError(
            f"{record.adapter_repo}: {base} {revision} is under {written}, but base_model_licence in the recipe is "
            f"{recipe.base_model_licence}; correct the recipe"
        )


def check_card(card: str, facts: AdapterFacts) -> None:
    """Publish no card that the linter complains about.

    Raises:
        ReleaseError: with every complaint.
    """
    complaints = lint_card(card, facts)
    if complaints:
        told = "\n".join(f"  README.md:{complaint}" for complaint in complaints)
        raise ReleaseError(f"{facts.repo_id}: its card is not fit to be published:\n{told}")


def find_dataset_commit(api: HfApi, recipe: Recipe, record: RunRecord) -> str:
    """The commit of the dataset's pinned revision, once its Parquet has been seen to be what the run was fed."""
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
            repo,
            repo_type="dataset",
            revision=recipe.dataset_revision,
            allow_patterns="*.parquet",
            local_dir=folder,
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
