"""`bonsai train`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bonsai.cli.quieting import quiet_libraries
from bonsai.cli.serving import ensure_bases
from bonsai.recipes.training.process import is_main
from bonsai.recipes.training.recipe import Recipe, RecipeError
from bonsai.recipes.training.registry import load_recipe

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TRACKERS = ("tensorboard", "trackio")


def train(
    name: str,
    *,
    out: Path,
    max_steps: int | None,
    resume: bool,
    gguf: bool,
    report_to: tuple[str, ...],
    console: Console,
) -> None:
    """Train one recipe, inside `hub_for`.

    Raises:
        RecipeError: unknown recipe, wrong machine, missing packages.
    """
    recipe = load_recipe(name)
    console.quiet = not is_main()
    missing = [package for package in ("torch", "trl", "bitsandbytes") if importlib.util.find_spec(package) is None]
    if missing:
        raise RecipeError(f"{', '.join(missing)} not installed; use `nox -s train`, or pip install 'qeu-bonsai[train]'")
    _refuse_unknown_trackers(report_to)
    if "tensorboard" in report_to:  # its own place would be among the checkpoints, which go when the run is done
        events = os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out / "runs" / name))
        console.print(f"watch with: tensorboard --logdir {events}", soft_wrap=True)
    quiet_libraries()
    _refuse_without_gpu(name, recipe, out, console)
    llama_cpp = out / "cache" / "llama.cpp" if gguf else None
    if llama_cpp is not None and is_main():
        from bonsai.recipes.training.gguf_adapter import fetch_ahead

        fetch_ahead(llama_cpp)
    from bonsai.recipes.training.checkpoint import Stopping
    from bonsai.recipes.training.run import train as train_adapter

    if recipe.base_model_package is not None:
        with console.status(f"dequantising the base model of {recipe.base_model_package}, about half a minute, once"):
            new = ensure_bases([name])
        for pushed in new:
            console.print(f"base model {pushed.repo_id} {pushed.tag} is on the Hub of this machine")
    folder = out / "adapters" / name
    stopping = Stopping()
    with stopping.listens():
        record = train_adapter(
            name,
            recipe,
            dataset=out / "dataset",
            out=folder,
            checkpoints=out / "checkpoints" / name,
            console=console,
            max_steps=max_steps,
            resume=resume,
            stopping=stopping,
            report_to=report_to,
            api=_hub_of_checkpoints(recipe),
            llama_cpp=llama_cpp,
        )
    last = record.losses[-1]
    console.print(
        f"{name}: validation loss {record.validation_loss_before:.3f} -> {record.validation_loss_after:.3f} in "
        f"{last.step} steps, {last.tokens:,} tokens, {record.seconds:.0f} s; peak {record.peak_memory_gib:.1f} GiB",
        soft_wrap=True,
    )
    console.print(f"adapter -> [bold]{folder}[/] (loss: {folder}/training/loss.csv, loss.png)", soft_wrap=True)


def _hub_of_checkpoints(recipe: Recipe) -> HfApi | None:
    """HF_TOKEN is the consent to go to the real Hub; a base that comes in a package trains on this machine alone."""
    if "HF_TOKEN" not in os.environ or recipe.base_model_package is not None:
        return None
    from huggingface_hub import HfApi

    from bonsai.hub.client.session import limit_silence

    limit_silence()
    return HfApi()


def _refuse_unknown_trackers(report_to: tuple[str, ...]) -> None:
    for tracker in report_to:
        if tracker not in TRACKERS:
            raise RecipeError(f"--report-to {tracker}: write one of {', '.join(TRACKERS)}")
        if importlib.util.find_spec(tracker) is None:
            raise RecipeError(f"--report-to {tracker}: not installed; run `pip install {tracker}`")


def _refuse_without_gpu(name: str, recipe: Recipe, out: Path, console: Console) -> None:
    import torch

    if not recipe.needs_gpu:
        return
    from bonsai.recipes.training.data import training_rows
    from bonsai.recipes.training.plan.verdict import refuse_if_too_big

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        refuse_if_too_big(name, recipe, training_rows(recipe, out / "dataset"), memory)
        return
    from bonsai.cli.planning import plan

    plan(name, out=out, console=console)
    raise RecipeError(
        f"{name} needs a GPU and this machine has none; on a CPU run `nox -s train -- seedling`, on Colab open "
        "recipes/bonsai_t4.ipynb, or see `bonsai train --help` for --on"
    )
