"""Implement `bonsai train`, and print the command that trains on Hugging Face Jobs (`--on`).

That command is printed and not run: it spends the person's money. It is checked against the installed client first, so
that it fails here and not there.
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
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bonsai.builder.files import exclusive
from bonsai.cli.common import OUT, Out, console, quiet_libraries
from bonsai.cli.hub import ensure_base_models, local_hub_for
from bonsai.hub.target import DEFAULT_NAMESPACE, namespace, with_namespace
from bonsai.recipes.training.plan.gpus import JOB_PRICES, PRICES_FROM, PRICES_READ
from bonsai.recipes.training.recipe import DEFAULT_RECIPE, Recipe, RecipeError, is_main_process, load_recipe, world_size

if TYPE_CHECKING:
    from bonsai.recipes.training.checkpoints import ResumableCheckpoint

TRACKERS = ("tensorboard", "trackio")
SCRIPT = "jobs/train.py"
"""in the repository; its header names what it needs"""
TIMEOUT = "3h"
"""Jobs' own default would end it after thirty minutes"""


def train(
    recipes: Annotated[list[str] | None, typer.Argument(help="Recipe names; none: seedling. レシピ名。")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint. 続きから学習する。")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, discard an unfinished run. 途中の学習を破棄して最初から。")
    ] = False,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Fewer steps, for a smoke run. 試しに数ステップだけ。")
    ] = None,
    report_to: Annotated[
        list[str] | None, typer.Option(help="tensorboard or trackio, beside our own table. 記録先。")
    ] = None,
    engine: Annotated[
        bool, typer.Option(help="--no-engine: TRL, PEFT and bitsandbytes alone, slower. 高速化を使わない。")
    ] = True,
    on: Annotated[
        str | None, typer.Option(help="Print the command that trains on this Hugging Face Jobs flavor, e.g. t4-small.")
    ] = None,
    evaluate: Annotated[
        bool | None, typer.Option(help="Ask before and after; by default unless --max-steps. 学習後の評価。")
    ] = None,
    gguf: Annotated[
        bool | None, typer.Option(help="The adapter for llama.cpp too; by default unless --max-steps. GGUF版も作る。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Train recipes into out/adapters/ and ask what changed. レシピを学習し、何が変わったかを調べる。"""
    names, whole = recipes or [DEFAULT_RECIPE], max_steps is None
    # 1. On somebody else's GPU: print the command and what it costs.
    if on is not None:
        from bonsai.recipes.training.run_record import SOURCE

        for name in names:
            load_recipe(name)
        console.print(" ".join(map(shlex.quote, job_command(names, on, SOURCE))), soft_wrap=True)
        price = JOB_PRICES.get(on)
        costs = f"{price:.2f} USD an hour ({PRICES_READ})" if price else f"what {PRICES_FROM} says"
        console.print(
            f"It costs {costs} and ends after {TIMEOUT} at the latest; the same line goes on from the last checkpoint. "
            "It needs HF_TOKEN with write access in your environment; checkpoints and the adapter go to "
            f"{with_namespace('qeu/…')}. 実行すると料金がかかります。"
        )
        return
    # 2. Here, recipe by recipe.
    console.outlives_reader = True  # the adapter on the disk is what counts
    refuse_foreign_namespaces(names)
    with local_hub_for(names, out):
        for name in names:
            train_recipe(
                name,
                out=out,
                max_steps=max_steps,
                resume=resume,
                fresh=fresh,
                with_engine=engine,
                gguf=whole if gguf is None else gguf,
                report_to=tuple(report_to or ()),
            )
            if is_main_process() and (whole if evaluate is None else evaluate):
                from bonsai.cli.evaluate import run_evaluation

                run_evaluation(name, out=out)


def train_recipe(
    name: str,
    *,
    out: Path,
    max_steps: int | None,
    resume: bool,
    fresh: bool,
    with_engine: bool,
    gguf: bool,
    report_to: tuple[str, ...],
) -> None:
    """Train one recipe, inside `local_hub_for`, and write its adapter and card.

    Args:
        max_steps: None: as many as the recipe says.
        gguf: convert the adapter for llama.cpp too.

    Raises:
        RecipeError: unknown recipe or tracker, wrong machine, missing packages.
        FolderInUseError: another run trains, evaluates or publishes this adapter.
    """
    if resume and fresh:
        raise RecipeError("--resume goes on from the checkpoint that --fresh discards; give one of the two")
    recipe = load_recipe(name)
    folder = out / "adapters" / name
    with exclusive(folder) if is_main_process() else contextlib.nullcontext():
        console.quiet = not is_main_process()
        # 1. Refuse what can't work before anything heavy is imported.
        missing = [package for package in ("torch", "trl", "bitsandbytes") if importlib.util.find_spec(package) is None]
        if missing:
            raise RecipeError(
                f"{', '.join(missing)} not installed; use `nox -s train`, or pip install 'qeu-bonsai[train]'"
            )
        for tracker in report_to:
            if tracker not in TRACKERS:
                raise RecipeError(f"--report-to {tracker}: write one of {', '.join(TRACKERS)}")
            if importlib.util.find_spec(tracker) is None:
                raise RecipeError(f"--report-to {tracker}: not installed; run `pip install {tracker}`")
        if "tensorboard" in report_to:  # its default folder is among the checkpoints, which a finished run deletes
            events = os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out / "runs" / name))
            console.print(f"watch with: tensorboard --logdir {events}", soft_wrap=True)
        quiet_libraries()
        if recipe.needs_gpu:
            check_gpu(name, recipe, out)
        # 2. Fetch what the end of the run needs while a failure costs nothing yet.
        llama_cpp = out / "cache" / "llama.cpp" if gguf else None
        if llama_cpp is not None and is_main_process():
            from bonsai.recipes.training.gguf import fetch_ahead

            fetch_ahead(llama_cpp)
        from bonsai.recipes.training.checkpoints import InterruptHandler
        from bonsai.recipes.training.pinned_dataset import find_dataset
        from bonsai.recipes.training.release import edited_card, write_card
        from bonsai.recipes.training.train import train as train_adapter

        find_dataset(recipe, out / "dataset")  # before a base is fetched for nothing
        if (package := recipe.base_model_package) is not None:
            with console.status(f"dequantising the base model of {package}, about half a minute, once"):
                published = ensure_base_models([name])
            for base in published:
                console.print(f"base model {base.repo_id} {base.tag} is on the Hub of this machine")
        # 3. HF_TOKEN is the consent to keep checkpoints on the real Hub; a packaged base trains on this machine alone.
        api = None
        if "HF_TOKEN" in os.environ and recipe.base_model_package is None:
            from huggingface_hub import HfApi

            from bonsai.hub.http_client import set_idle_timeout

            set_idle_timeout()
            api = HfApi()
        # 4. Train. A card that a person edited is compared before it is written anew.
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
                goes_on=confirm_resume,
                with_engine=with_engine,
                stopping=stopping,
                report_to=report_to,
                api=api,
                llama_cpp=llama_cpp,
            )
        if is_main_process():
            write_card(recipe, folder)
            if edited:
                console.print(edited, soft_wrap=True)
        # 5. Say what came of it.
        last = record.losses[-1]
        console.print(
            f"{name}: validation loss {record.validation_loss_before:.3f} -> {record.validation_loss_after:.3f} in "
            f"{last.step} steps, {last.tokens:,} tokens, {record.seconds:.0f} s; peak {record.peak_memory_gib:.1f} GiB",
            soft_wrap=True,
        )
        files = f" (card: {folder}/README.md; loss: {folder}/training/loss.csv, loss.png)"
        console.print(Text.assemble("adapter -> ", (str(folder), "bold"), files), soft_wrap=True)


def check_gpu(name: str, recipe: Recipe, out: Path) -> None:
    """Refuse a recipe that this machine's GPU can't hold; where there is no GPU, show the plan first.

    Raises:
        RecipeError: no GPU, or too little memory.
    """
    import torch

    from bonsai.recipes.training.data import load_training_rows
    from bonsai.recipes.training.plan.plan import check_fits_gpu

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        check_fits_gpu(name, recipe, load_training_rows(recipe, out / "dataset"), memory)
        return
    from bonsai.cli.plan import plan

    plan(name, out=out)
    raise RecipeError(
        f"{name} needs a GPU and this machine has none; on a CPU run `nox -s train -- seedling`, on Colab open "
        "recipes/bonsai_t4.ipynb, or see `bonsai train --help` for --on"
    )


def refuse_foreign_namespaces(names: Sequence[str]) -> None:
    """Refuse, before hours of training, adapters that publishing could not put where their recipes say.

    A Hub that does not answer now is not waited for; publishing asks it again.

    Raises:
        RecipeError: the token may not write there, or no token is set and the Hub of this machine has no such user.
    """
    repos = {name: with_namespace(load_recipe(name).repo_id) for name in names}
    owners = {repo_id.partition("/")[0] for repo_id in repos.values()}
    if "HF_TOKEN" not in os.environ:
        writable = {namespace()}
        who = f"without HF_TOKEN it goes to the Hub of this machine, whose user {namespace()}"
        if owners == writable:
            return
    else:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        from bonsai.hub.http_client import httpx, set_idle_timeout

        set_idle_timeout()
        try:
            user = HfApi().whoami()
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                raise
            return
        except (httpx.HTTPError, OSError):
            return
        writable = {user["name"], *(organisation["name"] for organisation in user.get("orgs", ()))}
        who = f"HF_TOKEN is {user['name']}'s, who"
    for name, repo_id in repos.items():
        if repo_id.partition("/")[0] not in writable:
            raise RecipeError(
                f"{name}: its repo_id is {repo_id}, and {who} may not write there; begin repo_id with "
                f"{DEFAULT_NAMESPACE}/ and set BONSAI_NAMESPACE, which takes its place, to one of "
                f"{', '.join(sorted(writable))}, or set an HF_TOKEN that may write there"
            )


def confirm_resume(checkpoint: ResumableCheckpoint) -> bool:
    """Ask on a terminal whether to continue an unfinished run; where nobody can answer, don't."""
    if world_size() > 1 or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(checkpoint.path.stat().st_mtime))
    console.print(
        f"An earlier run was not finished; its checkpoint of step {checkpoint.step} ({saved}) is in {checkpoint.path}."
        f"\n途中で終わった学習があります（{checkpoint.step}ステップまで）。",
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


def job_command(recipes: Sequence[str], flavor: str, source: str) -> list[str]:
    """Build the words of ``hf jobs uv run``, checked against the signature and flavors of the installed client.

    The script is uploaded from this checkout; without one the job's client fetches it from ``source``, a git URL.

    Raises:
        RecipeError: the installed client knows no such flavor, or its run_uv_job takes other arguments.
    """
    from huggingface_hub import HfApi, JobHardware

    from bonsai.recipes.training.run_record import CHECKOUT

    flavors = [hardware.value for hardware in JobHardware]
    if flavor not in flavors:
        raise RecipeError(f"Hugging Face Jobs has no {flavor!r} in the installed client; choose from {flavors}")
    checked_out = CHECKOUT / SCRIPT
    script = os.path.relpath(checked_out) if checked_out.is_file() else f"{source}/raw/main/{SCRIPT}"
    arguments = {
        "script": script,
        "script_args": list(recipes),
        "flavor": flavor,
        "timeout": TIMEOUT,
        "env": {"BONSAI_NAMESPACE": namespace()},
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
        *("--env", f"BONSAI_NAMESPACE={namespace()}", script, *recipes),
    ]
