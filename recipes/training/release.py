"""An adapter's release: its folder and its card as one commit and a tag, on the dataset commit it was trained on."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi

from bonsai.builder.build import content_hash
from bonsai.builder.release import Release, ReleaseError
from bonsai.hub.client.content import folder_files
from bonsai.model_card.card import is_edited, render
from bonsai.model_card.facts import AdapterFacts, EvaluationFacts
from bonsai.model_card.linter import lint_card
from bonsai.recipes.training.card_facts import card_facts
from bonsai.recipes.training.recipe import Recipe, base_folder
from bonsai.recipes.training.record import RunRecord, read_record

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
    dataset_commit = trained_dataset_commit(api, recipe, record)
    refuse_other_licence(api, recipe, record)
    facts = card_facts(recipe, record, dataset_commit, adapter)
    if evaluation is not None:
        facts = dataclasses.replace(facts, evaluation=of_this_adapter(evaluation, facts, adapter))
    card = render(facts)
    refuse_complaints(card, facts)
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
    facts = card_facts(recipe, read_record(adapter), None, adapter)
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


def of_this_adapter(evaluation: EvaluationFacts, facts: AdapterFacts, adapter: Path) -> EvaluationFacts:
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


def refuse_other_licence(api: HfApi, recipe: Recipe, record: RunRecord) -> None:
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


def refuse_complaints(card: str, facts: AdapterFacts) -> None:
    """Publish no card that the linter complains about.

    Raises:
        ReleaseError: with every complaint.
    """
    complaints = lint_card(card, facts)
    if complaints:
        told = "\n".join(f"  README.md:{complaint}" for complaint in complaints)
        raise ReleaseError(f"{facts.repo_id}: its card is not fit to be published:\n{told}")


def trained_dataset_commit(api: HfApi, recipe: Recipe, record: RunRecord) -> str:
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
