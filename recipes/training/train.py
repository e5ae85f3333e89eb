"""Train one recipe: dataset rows and a base model in; an adapter folder with its run record out, or nothing.

Everything is written into a temporary folder that takes the place of the old adapter as a whole. What may fail without
costing the adapter (loss plot, diagnosis, GGUF) is added afterwards.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, hf_hub_download
from peft import set_peft_model_state_dict
from rich.console import Console
from rich.text import Text
from safetensors.torch import load_file
from transformers import GenerationConfig, TrainerState

from bonsai.builder.errors import BonsaiError
from bonsai.builder.files import atomic_replace_dir, exclusive
from bonsai.builder.prompt import PromptEncoder
from bonsai.hub.target import with_namespace
from bonsai.model_card.card import generation
from bonsai.recipes.training.callbacks import (
    EarlyStoppingCallback,
    FreeCoresCallback,
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
    load_training_rows,
    sample_records,
    token_lengths_by_category,
)
from bonsai.recipes.training.diagnosis import diagnose_run, format_diagnosis
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
        checkpoints: the folder for checkpoints; it is emptied once the run is done.
        max_steps: fewer steps than the recipe's, for a smoke run.
        resume: continue from the newest complete checkpoint, if there is one.
        fresh: start again and discard the checkpoints of an unfinished run; without it they are kept aside.
        goes_on: asks the user whether to continue from this run's checkpoint; called if neither ``resume`` nor
            ``fresh`` is set.
        checkpoint_seconds: time between two checkpoints.
        stopping: handles Ctrl-C and other signals.
        report_to: experiment trackers, by Transformers' names.
        with_engine: False trains with TRL, PEFT and bitsandbytes as they are.
        api: a Hub that stores checkpoints in a private repo, for a runtime that loses its disk; None: disk only.
        llama_cpp: folder in which llama.cpp's converter is cached, to export a GGUF of the adapter; None: no GGUF.

    Raises:
        RecipeError: the machine or the data do not fit the recipe, or the checkpoint belongs to another run.
        TrainingInterruptedError: the run was interrupted and has saved a checkpoint, or everything but the extras.
        FolderInUseError: another process trains into ``out``.
    """
    with exclusive(out) if is_main_process() else contextlib.nullcontext():
        # 1. Check the machine, select the rows, identify the base.
        if recipe.needs_gpu and not torch.cuda.is_available():
            raise RecipeError(f"{name} needs a GPU and this machine has none; on a CPU run `nox -s train -- seedling`")
        rows = load_training_rows(recipe, dataset)
        base_model = base_place(recipe)
        console.print(Text.assemble((name, "bold"), f": {len(rows.train)} records, base {base_model} in NF4"))
        if recipe.gradient_accumulation_steps % world_size():
            console.print(
                f"gradient_accumulation_steps {recipe.gradient_accumulation_steps} is not divisible by {world_size()} "
                "processes: a step will see more records than on one GPU, and the result will differ"
            )
        commit = base_commit(base_model, recipe.base_model_revision)
        identity = run_fingerprint(recipe, rows.content_hash, commit, max_steps, with_engine=with_engine)
        hub_repo = checkpoints_repo(with_namespace(recipe.repo_id))

        # 2. Decide where to start: at step 0, or at a checkpoint of this very run.
        start = find_start(
            name, checkpoints, identity, console, resume=resume, fresh=fresh, goes_on=goes_on, api=api, repo_id=hub_repo
        )
        if start is None and is_main_process():
            shutil.rmtree(checkpoints, ignore_errors=True)
        checkpoints.mkdir(parents=True, exist_ok=True)

        notes: list[str] = []  # printed when nothing can be lost any more
        when_full = f"make room, then `nox -s train -- {name} --resume` continues from the last complete checkpoint"
        workspace: contextlib.AbstractContextManager[str | Path] = (
            atomic_replace_dir(out, when_full=when_full) if is_main_process() else tempfile.TemporaryDirectory()
        )
        with workspace as folder:
            # 3. Load the base in NF4 and attach a new adapter. Transformers reports an unknown architecture, a missing
            #    attention implementation or tokenizer package by any of these exceptions.
            try:
                setup = build_trainer(
                    recipe,
                    base_model,
                    rows,
                    checkpoints,
                    max_steps=max_steps,
                    report_to=report_to,
                    with_engine=with_engine,
                )
            except BonsaiError:
                raise
            except (ValueError, ImportError, KeyError, NotImplementedError) as error:
                reason = f"{type(error).__name__}: {error}".splitlines()[0].partition(". ")[0]
                message = f"cannot be trained here, in NF4 and without custom code ({reason}); choose another base"
                raise RecipeError(f"{base_model}: {message}") from error
            trainer = setup.trainer

            # 4. Measure the base, unless the checkpoint carries that figure.
            if start is None:
                with console.status("validation loss of the bare base model"):
                    before = float(trainer.evaluate()["eval_loss"])
                progress = RunProgress(identity=identity, validation_loss_before=before, seconds=0.0)
            else:
                progress = start.progress

            # 5. Train. The order of the callbacks matters: early stopping adds the best adapter to a checkpoint, the
            #    timer seals it, and only then may it be uploaded.
            bar = ProgressCallback(name, console)
            best = EarlyStoppingCallback(setup.model, patience=recipe.early_stopping_patience)
            timer = TimedCheckpointCallback(every_seconds=checkpoint_seconds, progress=progress, stopping=stopping)
            for callback in (FreeCoresCallback(), bar, best, timer):
                trainer.add_callback(callback)
            if api is not None and is_main_process():
                trainer.add_callback(HubCheckpointCallback(api, hub_repo, console, keep_aside=not (start or fresh)))
            finished = False
            if start is not None:
                best.load(start.path)
                # Transformers compares with max_steps only after a step, so it would take one more than the recipe's
                # after a checkpoint of the last step: restore weights and losses by hand.
                state = TrainerState.load_from_json(str(start.path / "trainer_state.json"))
                finished = state.global_step >= state.max_steps
                if finished:
                    set_peft_model_state_dict(trainer.model, load_file(start.path / "adapter_model.safetensors"))
                    trainer.state = state
            try:
                if not finished:
                    trainer.train(resume_from_checkpoint=str(start.path) if start else None)
            finally:
                bar.close()
            seconds = timer.seconds()
            last_step, max_step = trainer.state.global_step, trainer.state.max_steps
            engine = trainer.engine
            if engine is not None:
                notes += [f"engine: {part} is left out: {reason}" for part, reason in engine.left_out.items()]
            if stopping.stop_requested and not best.stopped and last_step < max_step:
                raise TrainingInterruptedError(
                    f"stopped after step {last_step} of {max_step}; a checkpoint is kept, "
                    f"continue with `nox -s train -- {name} --resume`"
                )

            # 6. Keep the adapter with the lowest validation loss, and measure it if no evaluation on the way did.
            restored = best.restore(last_step)
            if best.stopped:
                notes.append(
                    f"stopped early at step {last_step} of {max_step}: the validation loss has not fallen since step "
                    f"{best.best_step}"
                )
            evaluations = validation_points(trainer.state.log_history)
            after = {point.step: point.loss for point in evaluations}.get(best.best_step if restored else last_step)
            if after is None:
                with console.status("validation loss after training"):
                    after = float(trainer.evaluate()["eval_loss"])

            # 7. Save adapter, record and arguments. They take their place at the end of this block, before anything
            #    that may fail.
            record = RunRecord(
                recipe_name=name,
                recipe=asdict(recipe),
                adapter_repo=with_namespace(recipe.repo_id),
                base_model=base_model,
                base_model_commit=setup.base_model_commit,
                dataset_repo=rows.repo_id,
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
                trainable_parameters=sum(p.numel() for p in setup.model.parameters() if p.requires_grad),
                versions=package_versions(),
                constraints_sha256=constraints_sha256(),
                evaluations=evaluations,
                best_step=best.best_step if restored else None,
                engine=(engine.summary() or None) if engine else None,
                with_engine=with_engine,
                engine_left_out=dict(engine.left_out) if engine else {},
                packed=recipe.packing and not (engine and engine.records_apart),
                rows_by_category=rows.rows_by_category,
                lengths_by_category=token_lengths_by_category(list(rows.train), setup.tokenizer),
                samples=sample_records(list(rows.train)),
                generators=rows.generators or None,
                prompt_beginning=PromptEncoder(setup.tokenizer).beginning,
                machine=describe_machine(),
                source_commit=git_commit(),
                max_steps=max_steps,
            )
            save_adapter(setup, base_model, recipe, Path(folder))
            record.write(Path(folder))
            save_training_arguments(trainer.args, Path(folder))

        # 8. Add the extras, then drop the checkpoints and the model: the caller may load the base again.
        for note in notes:
            console.print(note)
        if is_main_process():
            _write_extras(name, setup, record, rows, rows.folder, out, console, stopping, llama_cpp)
        del trainer, engine, best, bar, timer, setup
        release_memory()
        if is_main_process():
            shutil.rmtree(checkpoints, ignore_errors=True)
        return record


def find_start(
    name: str,
    checkpoints: Path,
    identity: str,
    console: Console,
    *,
    resume: bool,
    fresh: bool = False,
    goes_on: Callable[[ResumableCheckpoint], bool] = lambda _: False,
    api: HfApi | None = None,
    repo_id: str = "",
) -> ResumableCheckpoint | None:
    """Find the checkpoint to train on from: on this disk, kept aside, or on the Hub; None: start at step 0.

    Args:
        identity: `run_fingerprint` of the run that is about to start.
        repo_id: the checkpoints' repo on ``api``.

    Raises:
        RecipeError: the checkpoint belongs to another run, or could run code when loaded.
    """
    # 1. Without --resume, a checkpoint left by an unfinished run is discarded, continued or kept aside.
    left = find_latest_valid_checkpoint(checkpoints) if is_main_process() and not resume else None
    if left is not None:
        same = left.progress.identity == identity
        if fresh:
            message = f"{checkpoints}: the checkpoint of step {left.step} is discarded"
            console.print(message, markup=False, soft_wrap=True)
        elif same and goes_on(left):
            resume = True
        else:
            aside = set_aside(checkpoints, left)
            command = f"`nox -s train -- {name} --resume`"
            console.print(
                f"{checkpoints} held the checkpoint of {'an' if same else 'another'} unfinished run "
                f"(step {left.step}); it is kept aside in {aside}: "
                f"{command if same else f'undo the change and {command}'} continues from it; to get rid of it, delete "
                "the folder (or use --fresh next time). "
                f"途中の学習（{left.step}ステップ）を {aside} に残しました。"
                "--resume で続きから、--fresh なら破棄します。",
                markup=False,
                soft_wrap=True,
            )
            for old in drop_oldest(checkpoints):
                message = f"{old}, the oldest run kept aside, is removed: only {KEPT_ASIDE} are kept"
                console.print(message, markup=False, soft_wrap=True)
    if not resume:
        return None

    # 2. This run may have got further before it was kept aside. (Several processes would race for the folder.)
    if world_size() == 1 and (back := take_back(checkpoints, identity)):
        message = f"{back[0]}, which was kept aside, got to step {back[1].step}; it is back in {checkpoints}"
        console.print(message, markup=False, soft_wrap=True)

    # 3. A runtime that has lost its disk fetches the checkpoint from the Hub.
    lost = is_main_process() and find_latest_valid_checkpoint(checkpoints) is None
    if lost and api is not None and download_latest_checkpoint(api, repo_id, checkpoints, tell=console.print):
        console.print(f"the checkpoint comes from {repo_id}")

    # 4. Take the newest complete checkpoint, provided that it is safe to load and of this run.
    found = find_latest_valid_checkpoint(checkpoints)
    if found is None:
        console.print(Text(f"{checkpoints}: no complete checkpoint to resume from; starting from the first step"))
        return None
    for path in found.damaged:
        console.print(Text(f"{path} is damaged; resuming from the one before"))
        shutil.rmtree(path)
    check_no_pickled_code(found.path, unread=NOT_UPLOADED)
    console.print(Text(f"resuming from step {found.step} ({found.path})"))
    if found.progress.identity != identity:
        raise RecipeError(
            f"{found.path}: this checkpoint belongs to another run (other recipe, records, base or engine); "
            "train without --resume"
        )
    return found


def save_adapter(setup: TrainingSetup, base_model: str, recipe: Recipe, folder: Path) -> None:
    """Save adapter and tokenizer as PEFT does, and the generation settings under which the adapter keeps its format."""
    model: Any = setup.model
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model  # a Hub id, by which vLLM and llama.cpp look it up, or a folder
    config.revision = recipe.base_model_revision or None
    model.save_pretrained(folder)
    tokenizer = setup.tokenizer
    # Padded on the right, all but the longest prompt of a batch would be continued after the padding. The attribute
    # alone is lost: save_pretrained writes init_kwargs.
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
    tokenizer.save_pretrained(folder)
    ends = model.generation_config.eos_token_id
    ends = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
    GenerationConfig(  # type: ignore[no-untyped-call]
        **generation(recipe.languages),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in ends if end is not None)),
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's stub; `write_card` writes ours when the folder is complete


def export_gguf(
    adapter: Path, base_model: str, commit: str, llama_cpp: Path, record: RunRecord, console: Console
) -> None:
    """Export a GGUF of the adapter; failing to do so is reported but not fatal."""
    folder = base_folder(base_model)
    config = folder / "config.json" if folder else Path(hf_hub_download(base_model, "config.json", revision=commit))
    try:
        with console.status("the adapter as GGUF; llama.cpp's converter is fetched once, 77 MB"):
            convert_lora_to_gguf(adapter, config, llama_cpp, name=record.adapter_repo.rpartition("/")[2])
    except GgufError as error:
        console.print(Text(f"no GGUF adapter: {error}"))


def _write_extras(
    name: str,
    setup: TrainingSetup,
    record: RunRecord,
    rows: TrainingRows,
    dataset: Path,
    out: Path,
    console: Console,
    stopping: InterruptHandler,
    llama_cpp: Path | None,
) -> None:
    """Write plots, tables and diagnosis beside a trained adapter; one that fails is reported, the others still run.

    Raises:
        TrainingInterruptedError: the run was interrupted; the adapter is complete.
    """

    def write_diagnosis() -> None:
        with console.status("the loss of each record"):
            found = diagnose_run(record, setup.model, setup.tokenizer, list(rows.train), dataset=dataset, adapter=out)
        for line in format_diagnosis(found):
            console.print(line, markup=False, soft_wrap=True)

    # 1. Cheap ones first: the GGUF may need a download.
    extras: dict[str, Callable[[], object]] = {
        "the table of losses": partial(write_loss_csv, record.losses, out),
        "the loss plot": partial(plot_losses, record.losses, record.validation_by_step(), f"{name}: loss by step", out),
        "the diagnosis": write_diagnosis,
    }
    if llama_cpp is not None:
        extras["the GGUF adapter"] = partial(
            export_gguf, out, record.base_model, setup.base_model_commit, llama_cpp, record, console
        )

    # 2. From here on Ctrl-C ends the run at once: there is nothing left to save.
    again = f"`nox -s train -- {name} --resume` makes the rest"
    if stopping.stop_requested:
        raise TrainingInterruptedError(f"stopped after the last step; the adapter is complete in {out}, and {again}")
    stopping.in_loop = False

    # 3. Run each; hours of training must not be lost to whatever exception one of them runs into.
    for extra, write in extras.items():
        try:
            write()
        except KeyboardInterrupt:
            message = f"stopped at {extra}; the adapter is complete in {out}, and {again}"
            raise TrainingInterruptedError(message) from None
        except Exception as error:  # noqa: BLE001
            console.begin_capture()  # drops what the terminal refused: it would still be in the buffer and fail again
            console.end_capture()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            message = f"{extra} is missing ({reason}); the adapter in {out} is complete without it"
            with contextlib.suppress(OSError, UnicodeError):  # the terminal itself may be what failed
                console.print(message, markup=False, soft_wrap=True)
