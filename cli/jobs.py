"""`bonsai train RECIPE --on FLAVOR`: the one line that trains on rented hardware of Hugging Face Jobs.

It is printed and not run: it spends the person's money. Before it is shown it is bound to the installed client's own
signature and flavors, so that it fails here and not there.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence

from rich.console import Console

from bonsai.hub.client.destination import in_namespace
from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.registry import load_recipe

IMAGE = "python:3.11"
"""has git; torch brings its own CUDA libraries"""
TIMEOUT = "3h"


def show_job(recipes: Sequence[str], flavor: str, source: str, console: Console) -> None:
    """Print the command.

    Args:
        source: where the job clones this project from; a git URL.

    Raises:
        RecipeError: no such recipe or flavor, or the installed client runs no such job.
    """
    for name in recipes:
        load_recipe(name)
    command = job_command(recipes, flavor, source)
    console.print(" ".join(map(shlex.quote, command)), soft_wrap=True)
    console.print(
        "It needs HF_TOKEN with write access in your environment; checkpoints and the adapter go to "
        f"{in_namespace('qeu/…')}. 実行すると料金がかかります。"
    )


def job_command(recipes: Sequence[str], flavor: str, source: str) -> list[str]:
    """The words of ``hf jobs run``.

    Raises:
        RecipeError: the installed client knows no such flavor, or its run_job takes other arguments.
    """
    from huggingface_hub import HfApi, JobHardware

    flavors = [hardware.value for hardware in JobHardware]
    if flavor not in flavors:
        raise RecipeError(f"Hugging Face Jobs has no {flavor!r} in the installed client; choose from {flavors}")
    names = " ".join(map(shlex.quote, recipes))
    namespace = in_namespace("qeu/x").split("/")[0]
    inside = (
        f"git clone -q --depth 1 {shlex.quote(source)} bonsai && cd bonsai && pip install -q nox && "
        f"nox -s build && nox -s train -- {names} && nox -s publish"
    )
    arguments = {
        "image": IMAGE,
        "command": ["bash", "-c", inside],
        "flavor": flavor,
        "timeout": TIMEOUT,
        "env": {"BONSAI_NAMESPACE": namespace},
        "secrets": {"HF_TOKEN": "…"},
    }
    try:
        inspect.signature(HfApi.run_job).bind(HfApi(), **arguments)
    except TypeError as error:
        raise RecipeError(
            f"the installed huggingface_hub runs jobs in another way ({error}); update this project"
        ) from error
    return [
        *("hf", "jobs", "run", "--flavor", flavor, "--timeout", TIMEOUT, "--secrets", "HF_TOKEN"),
        *("--env", f"BONSAI_NAMESPACE={namespace}", IMAGE, "bash", "-c", inside),
    ]
