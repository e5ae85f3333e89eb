"""One training run: rows and base in, an adapter with its record out, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from huggingface_hub import HfApi
from peft import set_peft_model_state_dict
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerState

from bonsai.builder.folder import replaced_folder
from bonsai.hub.client.destination import in_namespace
from bonsai.recipes.training.arguments import write_arguments
from bonsai.recipes.training.checkpoint import (
    Found,
    Progress,
    StoppedError,
    Stopping,
    TimedCheckpoint,
    newest_whole,
    run_identity,
)
from bonsai.recipes.training.data import TrainingRows, training_rows
from bonsai.recipes.training.diagnosis.run import diagnose_run, told
from bonsai.recipes.training.early_stopping import BestAdapter
from bonsai.recipes.training.engine.trainer import EngineTrainer
from bonsai.recipes.training.hub_checkpoint import (
    LEFT_AT_HOME,
    HubCheckpoints,
    checkpoints_repo,
    fetch_newest,
    refuse_code,
)
from bonsai.recipes.training.losses import draw, write_table
from bonsai.recipes.training.memory import peak_memory_gib, release_memory
from bonsai.recipes.training.process import is_main, world_size
from bonsai.recipes.training.progress import ProgressBar, loss_points, validation_points
from bonsai.recipes.training.recipe import Recipe, RecipeError
from bonsai.recipes.training.record import RunRecord
from bonsai.recipes.training.row_statistics import counted, lengths, samples
from bonsai.recipes.training.saving import add_gguf, save_adapter
from bonsai.recipes.training.surroundings import constraints_sha256, machine, package_versions, source_commit
from bonsai.recipes.training.trainer import Prepared, compute_dtype, prepare

CHECKPOINT_SECONDS = 600.0


def train(
    name: str,
    recipe: Recipe,
    *,
    dataset: Path,
    out: Path,
    checkpoints: Path,
    console: Console,
    max_steps: int | None = None,
    resume: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    stopping: Stopping,
    report_to: Sequence[str] = (),
    with_engine: bool = True,
    api: HfApi | None = None,
    llama_cpp: Path | None = None,
) -> RunRecord:
    """Train a recipe into the folder ``out``, which is replaced as a whole or not at all.

    Args:
        dataset: the build, `out/dataset`.
        checkpoints: where checkpoints lie until the run is done; emptied then.
        max_steps: fewer steps than the recipe's, for a smoke run.
        resume: go on from the newest whole checkpoint, if there is one.
        stopping: listens for Ctrl-C and SIGTERM.
        report_to: experiment trackers, by Transformers' names.
        with_engine: False trains with TRL, PEFT and bitsandbytes as they are.
        api: a Hub that keeps checkpoints in a private repo, for a runtime whose disk goes away; None: this disk only.
        llama_cpp: where llama.cpp's converter is kept, for a GGUF of the adapter beside it; None: no GGUF.

    Raises:
        RecipeError: the machine or the data do not fit the recipe, or the checkpoint is another run's.
        StoppedError: the run was asked to stop and has saved a checkpoint.
    """
    if recipe.needs_gpu and not torch.cuda.is_available():
        raise RecipeError(f"{name} needs a GPU and this machine has none; on a CPU run `nox -s train -- seedling`")
    rows = training_rows(recipe, dataset)
    base_model = in_namespace(recipe.base_model)
    console.print(f"[bold]{name}[/]: {len(rows.train)} records, base {base_model} in NF4")
    if recipe.gradient_accumulation_steps % world_size():
        console.print(
            f"gradient_accumulation_steps {recipe.gradient_accumulation_steps} does not divide by {world_size()} "
            "processes: a step learns from more records than on one GPU, and the result will differ"
        )
    checkpoints_on_hub = checkpoints_repo(in_namespace(recipe.repo_id))
    lost = resume and is_main() and newest_whole(checkpoints) is None
    if lost and api is not None and fetch_newest(api, checkpoints_on_hub, checkpoints, tell=console.print):
        console.print(f"the checkpoint comes from {checkpoints_on_hub}")
    found = _checkpoint_to_resume(checkpoints, console) if resume else None
    if found is None and is_main():
        shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    resumable = f"make room, then `nox -s train -- {name} --resume` goes on from the last whole checkpoint"
    with replaced_folder(out, when_full=resumable) if is_main() else _nowhere() as fresh:
        prepared = prepare(
            recipe,
            base_model,
            rows,
            checkpoints,
            max_steps=max_steps,
            report_to=report_to,
            with_engine=with_engine,
        )
        identity = run_identity(
            recipe, rows.content_hash, prepared.base_model_commit, max_steps, with_engine=with_engine
        )
        if found is not None and found.progress.identity != identity:
            raise RecipeError(
                f"{found.path}: the checkpoint of another run (other recipe, records, base or engine); "
                "train without --resume"
            )
        beside = [] if api is None or not is_main() else [HubCheckpoints(api, checkpoints_on_hub, console)]
        record = _run(
            name, recipe, base_model, rows, prepared, console, found, identity, checkpoint_seconds, stopping, beside
        )
        record = replace(record, max_steps=max_steps, with_engine=with_engine)
        save_adapter(prepared, base_model, recipe, fresh)
        record.write(fresh)
        write_arguments(prepared.trainer.args, fresh)
        if llama_cpp is not None and is_main():
            add_gguf(fresh, base_model, prepared.base_model_commit, llama_cpp, record, console)
        with console.status("the loss of each record"):
            diagnosis = diagnose_run(
                record, prepared.model, prepared.tokenizer, list(rows.train), dataset=dataset, adapter=fresh
            )
        for line in told(diagnosis):
            console.print(line, markup=False, soft_wrap=True)
        write_table(record.losses, fresh)
        draw(record.losses, record.validation_by_step(), f"{name}: loss by step", fresh)
        del prepared  # with the cycles in it: what comes next may load the base again
    release_memory()
    if is_main():
        shutil.rmtree(checkpoints, ignore_errors=True)
    return record


@contextmanager
def _nowhere() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _checkpoint_to_resume(checkpoints: Path, console: Console) -> Found | None:
    found = newest_whole(checkpoints)
    if found is None:
        console.print(f"{checkpoints}: no whole checkpoint to go on from; starting from the first step")
        return None
    for path in found.passed_over:
        console.print(f"{path} is damaged; going on from the one before")
        shutil.rmtree(path)
    refuse_code(found.path, unread=LEFT_AT_HOME)
    console.print(f"going on from step {found.step} ({found.path})")
    return found


def _run(
    name: str,
    recipe: Recipe,
    base_model: str,
    rows: TrainingRows,
    prepared: Prepared,
    console: Console,
    found: Found | None,
    identity: str,
    checkpoint_seconds: float,
    stopping: Stopping,
    beside: Sequence[TrainerCallback],
) -> RunRecord:
    trainer = prepared.trainer
    if found is None:
        with console.status("validation loss of the bare base model"):
            before = float(trainer.evaluate()["eval_loss"])
        progress = Progress(identity=identity, validation_loss_before=before, seconds=0.0)
    else:
        progress = found.progress
    bar = ProgressBar(name, console)
    best = BestAdapter(prepared.model, patience=recipe.early_stopping_patience)
    if found is not None:
        best.load(found.path)
    keeper = TimedCheckpoint(every_seconds=checkpoint_seconds, progress=progress, stopping=stopping)
    for callback in (bar, best, keeper, *beside):  # the keeper seals a checkpoint, the others send it off
        trainer.add_callback(callback)
    try:
        if found is None or not _at_its_end(trainer, found.path):
            trainer.train(resume_from_checkpoint=str(found.path) if found else None)
    finally:
        bar.close()
    for line in told_left_out(trainer):
        console.print(line, markup=False, soft_wrap=True)
    seconds = keeper.seconds()
    if stopping.asked and not best.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise StoppedError(
            f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}; a checkpoint is kept, "
            f"go on with `nox -s train -- {name} --resume`"
        )
    last_step = trainer.state.global_step
    kept_earlier = best.restore(last_step)
    if best.stopped:
        console.print(
            f"stopped early at step {trainer.state.global_step} of {trainer.state.max_steps}: the validation loss has "
            f"not fallen since step {best.best_step}"
        )
    evaluations = validation_points(trainer.state.log_history)
    after = {point.step: point.loss for point in evaluations}.get(best.best_step if kept_earlier else last_step)
    if after is None:
        with console.status("validation loss after training"):
            after = float(trainer.evaluate()["eval_loss"])
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
        losses=loss_points(trainer.state.log_history),
        validation_loss_before=progress.validation_loss_before,
        validation_loss_after=after,
        seconds=seconds,
        peak_memory_gib=peak_memory_gib(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        compute_dtype=str(compute_dtype()).removeprefix("torch."),
        trainable_parameters=sum(p.numel() for p in prepared.model.parameters() if p.requires_grad),
        versions=package_versions(),
        constraints_sha256=constraints_sha256(),
        evaluations=evaluations,
        best_step=best.best_step if kept_earlier else None,
        engine=(trainer.engine.told() or None) if trainer.engine else None,
        engine_left_out=dict(trainer.engine.left_out) if trainer.engine else {},
        packed=recipe.packing and not (trainer.engine and trainer.engine.records_apart),
        rows_by_category=counted(rows.train["id"]),
        lengths_by_category=lengths(list(rows.train), prepared.tokenizer),
        samples=samples(list(rows.train)),
        machine=machine(),
        source_commit=source_commit(),
    )


def told_left_out(trainer: EngineTrainer) -> list[str]:
    """What the engine did not take over in this run, a line each; nothing where it was switched off."""
    engine = trainer.engine
    return [] if engine is None else [f"engine: {name} is left out: {why}" for name, why in engine.left_out.items()]


def _at_its_end(trainer: EngineTrainer, checkpoint: Path) -> bool:
    """Whether no step is left after this checkpoint; its weights and losses are put back then.

    Transformers checks how many steps there are after each step, and so would take one too many.
    """
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return False
    set_peft_model_state_dict(trainer.model, load_file(checkpoint / "adapter_model.safetensors"))
    trainer.state = state
    return True
