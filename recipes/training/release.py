"""An adapter's release: its folder and its card as one commit and a tag, on the dataset commit it was trained on."""

from __future__ import annotations

import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from bonsai.builder.build import content_hash
from bonsai.builder.release import ReleaseError
from bonsai.hub.client.push import Pushed, folder_files, push
from bonsai.model_card.card import AdapterFacts, LossRow, render
from bonsai.recipes.training.prompt import example
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.record import RunRecord, read_record

HYPERPARAMETERS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "seed",
)


def release_adapter(api: HfApi, recipe: Recipe, adapter: Path, repo_id: str, *, may_move_tag: bool) -> Pushed:
    """Publish the adapter in ``adapter``.

    Raises:
        ReleaseError: the dataset it was trained on is not on this Hub, or it was trained in another namespace.
        RecipeError: nothing is trained here.
        PushError: the version is published with other content, or somebody committed meanwhile.
    """
    record = read_record(adapter)
    if record.adapter_repo != repo_id:
        raise ReleaseError(
            f"{adapter}: trained for {record.adapter_repo}, not for {repo_id}; train it in this namespace"
        )
    dataset_commit = trained_dataset_commit(api, recipe, record)
    card = render(card_facts(recipe, record, dataset_commit))
    return push(
        api,
        repo_id=repo_id,
        repo_type="model",
        files={**folder_files(adapter), "README.md": card.encode()},
        message=f"{record.recipe_name} {recipe.tag}",
        tag=recipe.tag,
        may_move_tag=may_move_tag,
    )


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


def card_facts(recipe: Recipe, record: RunRecord, dataset_commit: str) -> AdapterFacts:
    """The record of a run as the card's facts."""
    shown = example("What is the longest river in Japan?", "", "…", "…")
    last = record.losses[-1]
    return AdapterFacts(
        repo_id=record.adapter_repo,
        recipe_name=record.recipe_name,
        licence=recipe.base_model_licence,
        base_model=record.base_model,
        base_model_revision=recipe.base_model_revision,
        base_model_commit=record.base_model_commit,
        dataset=record.dataset_repo,
        dataset_revision=recipe.dataset_revision,
        dataset_commit=dataset_commit,
        languages=record.recipe["languages"],
        categories=record.recipe["categories"],
        hyperparameters={name: record.recipe[name] for name in HYPERPARAMETERS},
        losses=[LossRow(p.step, p.loss, p.learning_rate, p.tokens) for p in record.losses],
        validation_loss_before=record.validation_loss_before,
        validation_loss_after=record.validation_loss_after,
        train_rows=record.train_rows,
        validation_rows=record.validation_rows,
        steps=last.step,
        tokens=last.tokens,
        seconds=record.seconds,
        peak_memory_gib=record.peak_memory_gib,
        device=record.device,
        compute_dtype=record.compute_dtype,
        trainable_parameters=record.trainable_parameters,
        versions=record.versions,
        python=record.python,
        constraints_sha256=record.constraints_sha256,
        prompt=shown.prompt.rstrip("\n"),
        tag=recipe.tag,
    )
