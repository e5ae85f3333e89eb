"""`bonsai train RECIPE --on FLAVOR`: the one line that trains on rented hardware of Hugging Face Jobs.

It is printed and not run: it spends the person's money. Before it is shown it is bound to the installed client's own
signature and flavors, so that it fails here and not there.
"""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Sequence

from rich.console import Console

from bonsai.hub.client.destination import in_namespace
from bonsai.recipes.training.plan.gpus import JOB_PRICES, PRICES_FROM, PRICES_READ
from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.registry import load_recipe
from bonsai.recipes.training.surroundings import CHECKOUT

SCRIPT = "jobs/train.py"
"""in the repository; its header names what it needs"""
TIMEOUT = "3h"
"""after thirty minutes Jobs would end it unasked"""


def show_job(recipes: Sequence[str], flavor: str, source: str, console: Console) -> None:
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
        f"{in_namespace('qeu/…')}. 実行すると料金がかかります。"
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
    checked_out = CHECKOUT / SCRIPT
    script = os.path.relpath(checked_out) if checked_out.is_file() else f"{source}/raw/main/{SCRIPT}"
    namespace = in_namespace("qeu/x").split("/")[0]
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
