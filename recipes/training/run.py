"""One training run: rows and base in, an adapter with its record out, or nothing."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bonsai.builder.folder import replaced_folder
from bonsai.hub.client.destination import in_namespace
from bonsai.recipes.training.data import TrainingRows, training_rows
from bonsai.recipes.training.losses import draw, write_table
from bonsai.recipes.training.memory import peak_memory_gib
from bonsai.recipes.training.progress import ProgressBar
from bonsai.recipes.training.recipe import Recipe, RecipeError
from bonsai.recipes.training.record import RunRecord, constraints_sha256, package_versions
from bonsai.recipes.training.trainer import Prepared, compute_dtype, prepare


def train(
    name: str, recipe: Recipe, *, dataset: Path, out: Path, console: Console, max_steps: int | None = None
) -> RunRecord:
    """Train a recipe into the folder ``out``, which is replaced as a whole or not at all.

    Args:
        dataset: the build, `out/dataset`.
        max_steps: fewer steps than the recipe's, for a smoke run.

    Raises:
        RecipeError: the machine or the data do not fit the recipe.
    """
    if recipe.needs_gpu and not torch.cuda.is_available():
        raise RecipeError(f"{name} needs a GPU and this machine has none; on a CPU run `nox -s train -- seedling`")
    rows = training_rows(recipe, dataset)
    base_model = in_namespace(recipe.base_model)
    console.print(f"[bold]{name}[/]: {len(rows.train)} records, base {base_model} in NF4")
    with replaced_folder(out) as fresh, tempfile.TemporaryDirectory() as work:
        prepared = prepare(recipe, base_model, rows, Path(work), max_steps=max_steps)
        record = _run(name, recipe, base_model, rows, prepared, console)
        _save(prepared, base_model, recipe, fresh)
        record.write(fresh)
        write_table(record.losses, fresh)
        draw(
            record.losses,
            record.validation_loss_before,
            record.validation_loss_after,
            f"{name}: loss by step",
            fresh,
        )
    return record


def _run(
    name: str, recipe: Recipe, base_model: str, rows: TrainingRows, prepared: Prepared, console: Console
) -> RunRecord:
    trainer = prepared.trainer
    bar = ProgressBar(name, console)
    trainer.add_callback(bar)
    with console.status("validation loss of the bare base model"):
        before = trainer.evaluate()["eval_loss"]
    try:
        trainer.train()
    finally:
        bar.close()
    with console.status("validation loss after training"):
        after = trainer.evaluate()["eval_loss"]
    return RunRecord(
        recipe_name=name,
        recipe=asdict(recipe),
        adapter_repo=in_namespace(recipe.repo_id),
        base_model=base_model,
        base_model_commit=prepared.base_model_commit,
        dataset_repo=in_namespace(recipe.dataset),
        dataset_content_hash=rows.content_hash,
        train_rows=len(rows.train),
        validation_rows=len(rows.validation),
        losses=bar.losses,
        validation_loss_before=float(before),
        validation_loss_after=float(after),
        seconds=bar.seconds,
        peak_memory_gib=peak_memory_gib(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        compute_dtype=str(compute_dtype()).removeprefix("torch."),
        trainable_parameters=sum(p.numel() for p in prepared.model.parameters() if p.requires_grad),
        versions=package_versions(),
        constraints_sha256=constraints_sha256(),
    )


def _save(prepared: Prepared, base_model: str, recipe: Recipe, folder: Path) -> None:
    model: Any = prepared.model
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model  # a Hub id: vLLM and llama.cpp look the base up by it
    config.revision = recipe.base_model_revision
    model.save_pretrained(folder)
    prepared.tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's stub; the card is rendered when the adapter is published
