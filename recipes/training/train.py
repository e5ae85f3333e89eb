"""Run one training: rows and base model in, an adapter with its run record out, or nothing."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, hf_hub_download
from peft import set_peft_model_state_dict
from rich.console import Console
from rich.text import Text
from safetensors.torch import load_file
from transformers import GenerationConfig, TrainerCallback, TrainerState

from bonsai.builder.errors import BonsaiError
from bonsai.builder.files import atomic_replace_dir, exclusive
from bonsai.builder.prompt import PromptEncoder
from bonsai.hub.target import with_namespace
from bonsai.model_card.card import generation
from bonsai.recipes.training.callbacks import (
    EarlyStoppingCallback,
    ProgressCallback,
    loss_points,
    peak_memory_gib,
    release_memory,
    validation_points,
)
from bonsai.recipes.training.checkpoints import (
    KEPT_ASIDE,
    InterruptHandler,
    ResumableCheckpoint,
    RunProgress,
    TimedCheckpointCallback,
    TrainingInterruptedError,
    drop_oldest,
    find_latest_valid_checkpoint,
    run_fingerprint,
    set_aside,
    take_back,
)
from bonsai.recipes.training.data import (
    TrainingRows,
    count_by_category,
    load_training_rows,
    sample_records,
    token_lengths_by_category,
)
from bonsai.recipes.training.diagnosis import diagnose_run, format_diagnosis
from bonsai.recipes.training.engine.trainer import EngineTrainer
from bonsai.recipes.training.gguf import GgufError, base_commit, base_place, convert_lora_to_gguf
from bonsai.recipes.training.hub_checkpoints import (
    NOT_UPLOADED,
    HubCheckpointCallback,
    check_no_pickled_code,
    checkpoints_repo,
    download_latest_checkpoint,
)
from bonsai.recipes.training.loss_curves import plot_losses, write_loss_csv
from bonsai.recipes.training.recipe import Recipe, RecipeError, base_folder, is_main_process, world_size
from bonsai.recipes.training.run_record import (
    RunRecord,
    constraints_sha256,
    describe_machine,
    git_commit,
    package_versions,
    save_training_arguments,
)
from bonsai.recipes.training.sft import TrainingSetup, build_trainer, compute_dtype


def save_adapter(prepared: TrainingSetup, base_model: str, recipe: Recipe, folder: Path) -> None:
    """Save adapter and tokenizer as PEFT does, and the settings under which the adapter answers in its form.

    The tokenizer pads on the left: padded on the right, all but the longest prompt of a batch are continued behind
    padding.
    """
    model: Any = prepared.model
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model  # a Hub id, by which vLLM and llama.cpp look it up, or a folder
    config.revision = recipe.base_model_revision or None
    model.save_pretrained(folder)
    prepared.tokenizer.padding_side = "left"
    prepared.tokenizer.init_kwargs["padding_side"] = "left"  # what save_pretrained writes: the attribute alone is lost
    prepared.tokenizer.save_pretrained(folder)
    ends = model.generation_config.eos_token_id
    ends = [*(ends if isinstance(ends, list) else [ends]), prepared.tokenizer.eos_token_id]
    GenerationConfig(  # type: ignore[no-untyped-call]
        **generation(recipe.languages),
        bos_token_id=prepared.tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in ends if end is not None)),
        pad_token_id=prepared.tokenizer.pad_token_id,
    ).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's stub; `write_card` writes ours when the folder is whole


def export_gguf(
    adapter: Path, base_model: str, commit: str, llama_cpp: Path, record: RunRecord, console: Console
) -> None:
    """A GGUF is a courtesy: without one the adapter is whole, and the person is told why."""
    folder = base_folder(base_model)
    config = folder / "config.json" if folder else Path(hf_hub_download(base_model, "config.json", revision=commit))
    try:
        with console.status("the adapter as GGUF; llama.cpp's converter is fetched once, 77 MB"):
            convert_lora_to_gguf(adapter, config, llama_cpp, name=record.adapter_repo.rpartition("/")[2])
    except GgufError as error:
        console.print(Text(f"no GGUF adapter: {error}"))


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
    fresh: bool = False,
    goes_on: Callable[[ResumableCheckpoint], bool] = lambda _: False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    stopping: InterruptHandler,
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
        fresh: begin anew and discard the checkpoints of an unfinished run; without it they are kept aside.
        goes_on: asked whether to go on from this run's checkpoint where neither ``resume`` nor ``fresh`` says it.
        stopping: listens for Ctrl-C and the like.
        report_to: experiment trackers, by Transformers' names.
        with_engine: False trains with TRL, PEFT and bitsandbytes as they are.
        api: a Hub that keeps checkpoints in a private repo, for a runtime whose disk goes away; None: this disk only.
        llama_cpp: where llama.cpp's converter is kept, for a GGUF of the adapter beside it; None: no GGUF.

    Raises:
        RecipeError: the machine or the data do not fit the recipe, or the checkpoint is another run's.
        StoppedError: the run was asked to stop and has saved a checkpoint, or all but what comes beside the adapter.
        FolderInUseError: another process trains into ``out``.
    """
    with exclusive(out) if is_main_process() else contextlib.nullcontext():
        return _train(
            name, recipe, dataset, out, checkpoints, console, max_steps, resume, fresh, goes_on, checkpoint_seconds,
            stopping, report_to, with_engine, api, llama_cpp,
        )  # fmt: skip


def _train(
    name: str,
    recipe: Recipe,
    dataset: Path,
    out: Path,
    checkpoints: Path,
    console: Console,
    max_steps: int | None,
    resume: bool,
    fresh: bool,
    goes_on: Callable[[ResumableCheckpoint], bool],
    checkpoint_seconds: float,
    stopping: InterruptHandler,
    report_to: Sequence[str],
    with_engine: bool,
    api: HfApi | None,
    llama_cpp: Path | None,
) -> RunRecord:
    # 1. what is trained on what, and where it begins
    if recipe.needs_gpu and not torch.cuda.is_available():
        raise RecipeError(f"{name} needs a GPU and this machine has none; on a CPU run `nox -s train -- seedling`")
    rows = load_training_rows(recipe, dataset)
    base_model = base_place(recipe)
    console.print(Text.assemble((name, "bold"), f": {len(rows.train)} records, base {base_model} in NF4"))
    if recipe.gradient_accumulation_steps % world_size():
        console.print(
            f"gradient_accumulation_steps {recipe.gradient_accumulation_steps} does not divide by {world_size()} "
            "processes: a step learns from more records than on one GPU, and the result will differ"
        )
    commit = base_commit(base_model, recipe.base_model_revision)
    identity = run_fingerprint(recipe, rows.content_hash, commit, max_steps, with_engine=with_engine)
    resume = resume or (is_main_process() and _unfinished(name, checkpoints, identity, fresh, goes_on, console))
    if resume and world_size() == 1 and (back := take_back(checkpoints, identity)):
        message = f"{back[0]}, which was kept aside, got to step {back[1].step}; it is back in {checkpoints}"
        console.print(message, markup=False, soft_wrap=True)
    checkpoints_on_hub = checkpoints_repo(with_namespace(recipe.repo_id))
    lost = resume and is_main_process() and find_latest_valid_checkpoint(checkpoints) is None
    if (
        lost
        and api is not None
        and download_latest_checkpoint(api, checkpoints_on_hub, checkpoints, tell=console.print)
    ):
        console.print(f"the checkpoint comes from {checkpoints_on_hub}")
    found = _checkpoint_to_resume(checkpoints, console) if resume else None
    if found is None and is_main_process():
        shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    if found is not None and found.progress.identity != identity:
        raise RecipeError(
            f"{found.path}: the checkpoint of another run (other recipe, records, base or engine); "
            "train without --resume"
        )
    notes: list[str] = []  # told once nothing can be lost any more
    # 2. train; weights and record take their place at once, so that nothing that comes after can lose them
    resumable = f"make room, then `nox -s train -- {name} --resume` goes on from the last whole checkpoint"
    with atomic_replace_dir(out, when_full=resumable) if is_main_process() else _temporary_dir() as folder:
        with _told(base_model):
            prepared = build_trainer(
                recipe,
                base_model,
                rows,
                checkpoints,
                max_steps=max_steps,
                report_to=report_to,
                with_engine=with_engine,
            )
        beside = (
            []
            if api is None or not is_main_process()
            else [HubCheckpointCallback(api, checkpoints_on_hub, console, keep_aside=found is None and not fresh)]
        )
        record = _train_and_record(
            name,
            recipe,
            base_model,
            rows,
            prepared,
            console,
            found,
            identity,
            checkpoint_seconds,
            stopping,
            beside,
            notes,
        )
        record = replace(record, max_steps=max_steps, with_engine=with_engine)
        save_adapter(prepared, base_model, recipe, folder)
        record.write(folder)
        save_training_arguments(prepared.trainer.args, folder)
    # 3. what comes beside them
    for note in notes:
        console.print(note)
    if is_main_process():
        _add_extras(name, prepared, record, rows, dataset, out, console, stopping, llama_cpp)
    del prepared  # with the cycles in it: what comes next may load the base again
    release_memory()
    if is_main_process():
        shutil.rmtree(checkpoints, ignore_errors=True)
    return record


def _add_extras(
    name: str,
    prepared: TrainingSetup,
    record: RunRecord,
    rows: TrainingRows,
    dataset: Path,
    out: Path,
    console: Console,
    stopping: InterruptHandler,
    llama_cpp: Path | None,
) -> None:
    """Write pictures, tables and diagnosis beside a trained adapter; one that fails is told, and the others go on.

    Raises:
        StoppedError: the run was asked to stop; the adapter is whole.
    """

    def diagnosis() -> None:
        with console.status("the loss of each record"):
            found = diagnose_run(
                record, prepared.model, prepared.tokenizer, list(rows.train), dataset=dataset, adapter=out
            )
        for line in format_diagnosis(found):
            console.print(line, markup=False, soft_wrap=True)

    extras: dict[str, Callable[[], object]] = {
        "the table of losses": partial(write_loss_csv, record.losses, out),
        "the picture of the loss": partial(
            plot_losses, record.losses, record.validation_by_step(), f"{name}: loss by step", out
        ),
        "the diagnosis": diagnosis,
    }
    if llama_cpp is not None:
        extras["the GGUF adapter"] = partial(
            export_gguf, out, record.base_model, prepared.base_model_commit, llama_cpp, record, console
        )
    again = f"`nox -s train -- {name} --resume` makes the rest"
    if stopping.asked:
        raise TrainingInterruptedError(f"stopped after the last step; the adapter is whole in {out}, and {again}")
    stopping.in_loop = False  # nothing is left to save
    for what, make in extras.items():
        try:
            make()
        except KeyboardInterrupt:
            raise TrainingInterruptedError(f"stopped at {what}; the adapter is whole in {out}, and {again}") from None
        except Exception as error:  # noqa: BLE001 - whatever an extra runs into, hours of training stand beside it
            console.begin_capture()  # what a terminal would not take waits in the console, and would fail again
            console.end_capture()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            message = f"{what} is missing ({reason}); the adapter in {out} is whole without it"
            with contextlib.suppress(OSError, UnicodeError):  # a terminal that fails is what may have failed
                console.print(message, markup=False, soft_wrap=True)


def _unfinished(
    name: str,
    checkpoints: Path,
    identity: str,
    fresh: bool,
    goes_on: Callable[[ResumableCheckpoint], bool],
    console: Console,
) -> bool:
    """Whether to go on from the checkpoint of an unfinished run; if not, keep it aside and say so."""
    found = find_latest_valid_checkpoint(checkpoints)
    if found is None:
        return False
    if fresh:
        console.print(f"{checkpoints}: the checkpoint of step {found.step} is discarded", markup=False, soft_wrap=True)
        return False
    same = found.progress.identity == identity
    if same and goes_on(found):
        return True
    place = set_aside(checkpoints, found)
    train = f"nox -s train -- {name}"
    console.print(
        f"{checkpoints} held the checkpoint of {'an unfinished run' if same else 'another run that did not finish'} "
        f"(step {found.step}); it is kept aside in {place}: "
        + (f"`{train} --resume` goes on from it" if same else f"undo the change and `{train} --resume` goes on from it")
        + ", delete the folder (or give --fresh another time) to be rid of it. "
        f"途中の学習（{found.step}ステップ）を {place} に残しました。--resume で続きから、--fresh なら破棄します。",
        markup=False,
        soft_wrap=True,
    )
    for old in drop_oldest(checkpoints):
        console.print(f"{old}, kept aside longest, is removed: {KEPT_ASIDE} are kept", markup=False, soft_wrap=True)
    return False


@contextlib.contextmanager
def _told(base_model: str) -> Iterator[None]:
    """An architecture that Transformers has no class or no attention for, or a tokenizer that needs another package."""
    try:
        yield
    except BonsaiError:
        raise
    except (ValueError, ImportError, KeyError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0].partition(". ")[0]
        raise RecipeError(
            f"{base_model}: cannot be trained here, in NF4 and without custom code ({reason}); choose another base"
        ) from error


@contextlib.contextmanager
def _temporary_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _checkpoint_to_resume(checkpoints: Path, console: Console) -> ResumableCheckpoint | None:
    found = find_latest_valid_checkpoint(checkpoints)
    if found is None:
        console.print(Text(f"{checkpoints}: no whole checkpoint to go on from; starting from the first step"))
        return None
    for path in found.damaged:
        console.print(Text(f"{path} is damaged; going on from the one before"))
        shutil.rmtree(path)
    check_no_pickled_code(found.path, unread=NOT_UPLOADED)
    console.print(Text(f"going on from step {found.step} ({found.path})"))
    return found


def _train_and_record(
    name: str,
    recipe: Recipe,
    base_model: str,
    rows: TrainingRows,
    prepared: TrainingSetup,
    console: Console,
    found: ResumableCheckpoint | None,
    identity: str,
    checkpoint_seconds: float,
    stopping: InterruptHandler,
    beside: Sequence[TrainerCallback],
    notes: list[str],
) -> RunRecord:
    trainer = prepared.trainer
    if found is None:
        with console.status("validation loss of the bare base model"):
            before = float(trainer.evaluate()["eval_loss"])
        progress = RunProgress(identity=identity, validation_loss_before=before, seconds=0.0)
    else:
        progress = found.progress
    bar = ProgressCallback(name, console)
    best = EarlyStoppingCallback(prepared.model, patience=recipe.early_stopping_patience)
    if found is not None:
        best.load(found.path)
    keeper = TimedCheckpointCallback(every_seconds=checkpoint_seconds, progress=progress, stopping=stopping)
    for callback in (bar, best, keeper, *beside):  # the keeper seals a checkpoint, the others send it off
        trainer.add_callback(callback)
    try:
        if found is None or not _already_finished(trainer, found.path):
            trainer.train(resume_from_checkpoint=str(found.path) if found else None)
    finally:
        bar.close()
    notes += told_left_out(trainer)
    seconds = keeper.seconds()
    if stopping.asked and not best.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise TrainingInterruptedError(
            f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}; a checkpoint is kept, "
            f"go on with `nox -s train -- {name} --resume`"
        )
    last_step = trainer.state.global_step
    kept_earlier = best.restore(last_step)
    if best.stopped:
        notes.append(
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
        adapter_repo=with_namespace(recipe.repo_id),
        base_model=base_model,
        base_model_commit=prepared.base_model_commit,
        dataset_repo=with_namespace(recipe.dataset),
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
        engine=(trainer.engine.summary() or None) if trainer.engine else None,
        engine_left_out=dict(trainer.engine.left_out) if trainer.engine else {},
        packed=recipe.packing and not (trainer.engine and trainer.engine.records_apart),
        rows_by_category=count_by_category(rows.train["id"]),
        lengths_by_category=token_lengths_by_category(list(rows.train), prepared.tokenizer),
        samples=sample_records(list(rows.train)),
        generators=rows.generators or None,
        prompt_beginning=PromptEncoder(prepared.tokenizer).beginning,
        machine=describe_machine(),
        source_commit=git_commit(),
    )


def told_left_out(trainer: EngineTrainer) -> list[str]:
    """What the engine did not take over in this run, a line each; nothing where it was switched off."""
    engine = trainer.engine
    return [] if engine is None else [f"engine: {name} is left out: {why}" for name, why in engine.left_out.items()]


def _already_finished(trainer: EngineTrainer, checkpoint: Path) -> bool:
    """Whether no step is left after this checkpoint; its weights and losses are put back then.

    Transformers checks how many steps there are after each step, and so would take one too many.
    """
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return False
    set_peft_model_state_dict(trainer.model, load_file(checkpoint / "adapter_model.safetensors"))
    trainer.state = state
    return True
