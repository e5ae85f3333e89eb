"""Implement `bonsai train`, and print the command that trains on Hugging Face Jobs.

It is printed and not run: it spends the person's money. Before it is shown it is bound to the installed client's own
signature and flavors, so that it fails here and not there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bonsai.builder.files import exclusive
from bonsai.cli.common import ensure_base_models, quiet_libraries
from bonsai.hub.target import DEFAULT_NAMESPACE, namespace, with_namespace
from bonsai.recipes.training.plan.speed import JOB_PRICES, PRICES_FROM, PRICES_READ
from bonsai.recipes.training.recipe import Recipe, RecipeError, is_main_process, load_recipe, world_size

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bonsai.recipes.training.checkpoints import ResumableCheckpoint

TRACKERS = ("tensorboard", "trackio")


def train(
    name: str,
    *,
    out: Path,
    max_steps: int | None,
    resume: bool,
    fresh: bool = False,
    with_engine: bool,
    gguf: bool,
    report_to: tuple[str, ...],
    console: Console,
) -> None:
    """Train one recipe, inside `hub_for`.

    Raises:
        RecipeError: unknown recipe, wrong machine, missing packages.
        FolderInUseError: another run trains, evaluates or publishes this adapter.
    """
    if resume and fresh:
        raise RecipeError("--resume goes on from the checkpoint that --fresh discards; give one of the two")
    recipe = load_recipe(name)
    folder = out / "adapters" / name
    with exclusive(folder) if is_main_process() else contextlib.nullcontext():
        _train(name, recipe, folder, out, max_steps, resume, fresh, with_engine, gguf, report_to, console)


def _train(
    name: str,
    recipe: Recipe,
    folder: Path,
    out: Path,
    max_steps: int | None,
    resume: bool,
    fresh: bool,
    with_engine: bool,
    gguf: bool,
    report_to: tuple[str, ...],
    console: Console,
) -> None:
    console.quiet = not is_main_process()
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
    if llama_cpp is not None and is_main_process():
        from bonsai.recipes.training.gguf import fetch_ahead

        fetch_ahead(llama_cpp)
    from bonsai.recipes.training.checkpoints import InterruptHandler
    from bonsai.recipes.training.train import train as train_adapter

    if recipe.base_model_package is not None:
        with console.status(f"dequantising the base model of {recipe.base_model_package}, about half a minute, once"):
            new = ensure_base_models([name])
        for pushed in new:
            console.print(f"base model {pushed.repo_id} {pushed.tag} is on the Hub of this machine")
    from bonsai.recipes.training.release import edited_card, write_card

    edited = edited_card(folder)
    stopping = InterruptHandler()
    with stopping.install():
        record = train_adapter(
            name,
            recipe,
            dataset=out / "dataset",
            out=folder,
            checkpoints=out / "checkpoints" / name,
            console=console,
            max_steps=max_steps,
            resume=resume,
            fresh=fresh,
            goes_on=lambda found: _goes_on(found, console),
            with_engine=with_engine,
            stopping=stopping,
            report_to=report_to,
            api=_hub_of_checkpoints(recipe),
            llama_cpp=llama_cpp,
        )
    if is_main_process():
        write_card(recipe, folder)
        if edited:
            console.print(edited, markup=False, soft_wrap=True)
    last = record.losses[-1]
    console.print(
        f"{name}: validation loss {record.validation_loss_before:.3f} -> {record.validation_loss_after:.3f} in "
        f"{last.step} steps, {last.tokens:,} tokens, {record.seconds:.0f} s; peak {record.peak_memory_gib:.1f} GiB",
        soft_wrap=True,
    )
    made = f" (card: {folder}/README.md; loss: {folder}/training/loss.csv, loss.png)"
    console.print(Text.assemble("adapter -> ", (str(folder), "bold"), made), soft_wrap=True)


def refuse_foreign_namespaces(names: Sequence[str]) -> None:
    """Before hours of training, refuse adapters that publishing could not put where their recipes say.

    A Hub that does not answer now is not waited for; publishing asks it again.

    Raises:
        RecipeError: the token may not write there, or no token is set and the Hub of this machine has no such user.
    """
    repos = {name: with_namespace(load_recipe(name).repo_id) for name in names}
    owners = {repo_id.partition("/")[0] for repo_id in repos.values()}
    if owners == {namespace()} and "HF_TOKEN" not in os.environ:
        return
    known, who = _namespaces()
    for name, repo_id in repos.items():
        if known is not None and repo_id.partition("/")[0] not in known:
            raise RecipeError(
                f"{name}: its repo_id is {repo_id}, and {who} may not write there; begin repo_id with "
                f"{DEFAULT_NAMESPACE}/ and set BONSAI_NAMESPACE, which takes its place, to one of "
                f"{', '.join(sorted(known))}, or set an HF_TOKEN that may write there"
            )


def _namespaces() -> tuple[set[str] | None, str]:
    """Where the release of what is trained now may go, None where the Hub does not tell; and who asks."""
    if "HF_TOKEN" not in os.environ:
        return {namespace()}, f"without HF_TOKEN it goes to the Hub of this machine, whose user {namespace()}"
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from bonsai.hub.http_client import httpx, set_idle_timeout

    set_idle_timeout()
    try:
        told = HfApi().whoami()
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise
        return None, ""
    except (httpx.HTTPError, OSError):
        return None, ""
    return {told["name"], *(one["name"] for one in told.get("orgs", ()))}, f"HF_TOKEN is {told['name']}'s, who"


def _goes_on(found: ResumableCheckpoint, console: Console) -> bool:
    """Ask on a terminal whether to go on; where nobody can answer, an unfinished run is not gone on from."""
    if world_size() > 1 or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.path.stat().st_mtime))
    console.print(
        f"An earlier run was not finished; its checkpoint of step {found.step} ({saved}) is in {found.path}.\n"
        f"途中で終わった学習があります（{found.step}ステップまで）。",
        markup=False,
        soft_wrap=True,
    )
    while True:
        try:
            answer = console.input(
                "Go on from it? 続きから学習しますか？ (y: yes, n: no, and keep it aside) [y] ", markup=False
            )
        except EOFError:
            raise KeyboardInterrupt from None
        match answer.strip().lower():
            case "" | "y" | "yes" | "はい":
                return True
            case "n" | "no" | "いいえ":
                return False


def _hub_of_checkpoints(recipe: Recipe) -> HfApi | None:
    """HF_TOKEN is the consent to go to the real Hub; a base that comes in a package trains on this machine alone."""
    if "HF_TOKEN" not in os.environ or recipe.base_model_package is not None:
        return None
    from huggingface_hub import HfApi

    from bonsai.hub.http_client import set_idle_timeout

    set_idle_timeout()
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
    from bonsai.recipes.training.data import load_training_rows
    from bonsai.recipes.training.plan.plan import check_fits_gpu

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        check_fits_gpu(name, recipe, load_training_rows(recipe, out / "dataset"), memory)
        return
    from bonsai.cli.plan import plan

    plan(name, out=out, console=console)
    raise RecipeError(
        f"{name} needs a GPU and this machine has none; on a CPU run `nox -s train -- seedling`, on Colab open "
        "recipes/bonsai_t4.ipynb, or see `bonsai train --help` for --on"
    )


SCRIPT = "jobs/train.py"
"""in the repository; its header names what it needs"""
TIMEOUT = "3h"
"""after thirty minutes Jobs would end it unasked"""


def print_job_command(recipes: Sequence[str], flavor: str, source: str, console: Console) -> None:
    """Print the command.

    Args:
        source: where this project lies for everybody; a git URL.

    Raises:
        RecipeError: no such recipe or flavor, or the installed client runs no such job.
    """
    for name in recipes:
        load_recipe(name)
    command = job_command(recipes, flavor, source)
    console.print(" ".join(map(shlex.quote, command)), soft_wrap=True)
    price = JOB_PRICES.get(flavor)
    costs = f"{price:.2f} USD an hour ({PRICES_READ})" if price else f"what {PRICES_FROM} says"
    console.print(
        f"It costs {costs} and ends after {TIMEOUT} at the latest; the same line goes on from the last checkpoint. "
        "It needs HF_TOKEN with write access in your environment; checkpoints and the adapter go to "
        f"{with_namespace('qeu/…')}. 実行すると料金がかかります。"
    )


def job_command(recipes: Sequence[str], flavor: str, source: str) -> list[str]:
    """Make the words of ``hf jobs uv run``.

    The script goes there from this checkout; without one the job's client fetches it from where the source lies.

    Raises:
        RecipeError: the installed client knows no such flavor, or its run_uv_job takes other arguments.
    """
    from huggingface_hub import HfApi, JobHardware

    flavors = [hardware.value for hardware in JobHardware]
    if flavor not in flavors:
        raise RecipeError(f"Hugging Face Jobs has no {flavor!r} in the installed client; choose from {flavors}")
    from bonsai.recipes.training.run_record import CHECKOUT

    checked_out = CHECKOUT / SCRIPT
    script = os.path.relpath(checked_out) if checked_out.is_file() else f"{source}/raw/main/{SCRIPT}"
    namespace = with_namespace("qeu/x").split("/")[0]
    arguments = {
        "script": script,
        "script_args": list(recipes),
        "flavor": flavor,
        "timeout": TIMEOUT,
        "env": {"BONSAI_NAMESPACE": namespace},
        "secrets": {"HF_TOKEN": "…"},
    }
    try:
        inspect.signature(HfApi.run_uv_job).bind(HfApi(), **arguments)
    except TypeError as error:
        raise RecipeError(
            f"the installed huggingface_hub runs jobs in another way ({error}); update this project"
        ) from error
    return [
        *("hf", "jobs", "uv", "run", "--flavor", flavor, "--timeout", TIMEOUT, "--secrets", "HF_TOKEN"),
        *("--env", f"BONSAI_NAMESPACE={namespace}", script, *recipes),
    ]
