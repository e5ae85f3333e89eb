"""The record of a run as the facts of its card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bonsai.model_card.facts import AdapterFacts, LossRow, Price, Setting
from bonsai.recipes.training.arguments import ARGUMENTS
from bonsai.recipes.training.diagnosis.kept import read_facts
from bonsai.recipes.training.plan.gpus import GPUS, PRICES_FROM, PRICES_READ
from bonsai.recipes.training.prompt import example
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.record import RunRecord
from bonsai.recipes.training.surroundings import SOURCE

ELSEWHERE = frozenset(
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


def card_facts(recipe: Recipe, record: RunRecord, dataset_commit: str | None, adapter: Path) -> AdapterFacts:
    """All that the card of the adapter in this folder states, without an evaluation."""
    shown = example("What is the longest river in Japan?", "", "…", "…")
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
        diagnosis=read_facts(adapter),
    )


def settings(recipe: dict[str, Any]) -> Iterator[Setting]:
    """The recipe's fields by what they set, in the recipe's order."""
    for name, value in recipe.items():
        if name not in ELSEWHERE and value is not None:
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
