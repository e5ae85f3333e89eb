"""The console, options and helpers that several commands share."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from bonsai.cli.entry_point import abandon_stdout
from bonsai.hub.target import check_cache, local_hub
from bonsai.recipes.training.recipe import RecipeError, load_recipe, recipe_names

if TYPE_CHECKING:
    from bonsai.hub.publish import PublishResult
    from bonsai.recipes.inference.generation import Engine

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""environment variables by which a person decides how OpenMP's threads wait"""

UNUSED = ("torchao", "torchaudio", "torchcodec", "torchvision")
"""What transformers, peft, trl and datasets import where it is installed, though no text model needs it."""


def hide_unused_packages() -> None:
    """Let the libraries take packages that are not used here for missing.

    Colab and Kaggle ship a torchao that peft refuses, and where torch was replaced the torchvision of the old one fails
    on import, and with it transformers, peft and trl. To be called before any of them is imported.
    """
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as the import system defines it


def quiet_libraries() -> None:
    """To be called before the libraries are imported: that is when they read most of this.

    Nothing is imported here, for a model behind an address needs none of them.
    """
    os.environ |= {
        "TQDM_DISABLE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it asks for a package that helps inference only
    # trl's 1.16 and peft's 0.21 to mend, on transformers 5.23
    warnings.filterwarnings("ignore", ".*gradient_checkpointing. is deprecated", FutureWarning)


def rest_waiting_threads() -> None:
    """Let OpenMP's threads sleep while they wait, and start no more of them than there are cores to run on.

    By default they spin: beside one other busy process each burns its turn waiting for a thread that has none
    (benchmarks/busy_machine.py has the figures). OpenMP reads this when torch is imported; processes started from here
    inherit it. MKL in torch's wheels computes on the same threads. What a person has set stays.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    cores = available_cores()
    if cores is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def available_cores() -> int | None:
    """Count the physical cores this process may use, by affinity and by its container's quota; None: not known here."""
    if not hasattr(os, "sched_getaffinity"):  # Linux only; elsewhere OpenMP's own count stands
        return None
    # 1. Two hardware threads of one core share its arithmetic units: a second one brings nothing.
    cores = {_core_of(cpu) for cpu in os.sched_getaffinity(0)}
    # 2. A container may have all CPUs and a share of their time; OpenMP does not know of it.
    quota = min(_quotas(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")), default=math.inf)
    return max(1, min(len(cores), math.ceil(quota))) if math.isfinite(quota) else len(cores)


def _core_of(cpu: int) -> str:
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text()
    except OSError:
        return str(cpu)


def _quotas(root: Path, membership: Path) -> list[float]:
    """Find the CPUs' worth of time that this process's control groups (version 2, then 1) allow, outermost last."""
    found: list[tuple[Path, Path | None]] = []
    try:
        own = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")).strip("/")
    except (OSError, StopIteration):
        own = ""
    for folder in (root / own, *(root / own).parents):
        if not folder.is_relative_to(root):
            break
        found.append((folder / "cpu.max", None))
    found.append((root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us"))
    quotas = []
    for quota, period in found:
        try:
            allowed = [*quota.read_text().split(), *(period.read_text().split() if period else ())]
            quotas.append(int(allowed[0]) / int(allowed[1]))
        except (OSError, ValueError, IndexError):  # no such file, or "max"
            continue
    return [one for one in quotas if one > 0]  # version 1 writes -1 for none


@contextlib.contextmanager
def local_hub_for(recipes: Sequence[str], out: Path) -> Iterator[None]:
    """Serve the Hub on this machine for as long as the block lasts if the recipes' bases come in packages.

    One Hub for all that happens inside: the clients read its address once, when they are imported.

    Raises:
        RecipeError: some bases come in packages and some from the real Hub, and one process can't ask two Hubs.
    """
    packaged = {load_recipe(name).base_model_package is not None for name in recipes}
    if len(packaged) > 1:
        raise RecipeError(f"{', '.join(recipes)}: their base models lie on two Hubs; give each recipe its own command")
    if packaged != {True}:
        if recipes:
            check_cache()
        yield
        return
    with local_hub(out / "hub") as home:
        home.settle(out / "cache")
        yield


def ensure_base_models(recipes: Sequence[str]) -> list[PublishResult]:
    """Put the recipes' bases that come in packages on the Hub of this machine, inside `hub_for`.

    Returns:
        Those that were not there yet.

    Raises:
        RecipeError: a package that carries a base is not installed.
    """
    packaged = [recipe for recipe in map(load_recipe, recipes) if recipe.base_model_package is not None]
    if not packaged:
        return []
    from huggingface_hub import HfApi

    from bonsai.recipes.training.gguf import publish_packaged_base

    return [pushed for recipe in packaged if (pushed := publish_packaged_base(recipe, HfApi()))]


@contextlib.contextmanager
def open_engine(
    model: str, base_url: str | None, provider: str | None, out: Path, dtype: str | None = None
) -> Iterator[Engine]:
    """The model, inside the Hub that its recipe's base comes from, without the libraries' own bars and warnings."""
    quiet_libraries()
    recipes = [model] if base_url is None and provider is None and model in recipe_names() else []
    with local_hub_for(recipes, out):
        ensure_base_models(recipes)
        from bonsai.recipes.inference.models import open_model

        with open_model(model, out=out, base_url=base_url, provider=provider, dtype=dtype) as engine:
            yield engine


LOG_WIDTH = 120
"""columns of a log; Rich would take 80, too few for the tables"""


class Terminal(Console):
    """A console that prints text as it is: no markup, no emoji, and in a pipe no line broken.

    Rich reads ``[v2]`` in a path as a style and drops it, ``[/b]`` as the end of one and fails, and ``:100:`` as an
    emoji. Style is given beside the text instead: ``Text.assemble("-> ", (path, "bold"))``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        self.outlives_reader = False
        """whether the work goes on, in silence, when nobody reads or no room is left for what is printed"""
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = LOG_WIDTH

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, as `rich.console.Console.print` does.

        In a pipe, a line of text stays one line, so that other programs find the places in it, and a table is not cut.
        """
        if not self.is_terminal:
            # trees and panels are laid out to the width, and would lose what does not fit if nothing may wrap
            options.setdefault("soft_wrap", all(isinstance(one, str | Text) for one in objects))
            if any(isinstance(one, Table) for one in objects):
                options.setdefault("crop", False)
        super().print(*objects, **options)

    def __exit__(self, *raised: Any) -> None:
        """Write what was collected; print, spinners and bars all come through here."""
        try:
            super().__exit__(*raised)
        except OSError:
            if not self.outlives_reader:
                raise
            self.quiet = True
            abandon_stdout()

    def on_broken_pipe(self) -> None:
        """Whoever read the output is gone (``| head -1``): Rich would end the command, whatever it is in the middle of.

        Raises:
            BrokenPipeError: which ends it here too, unless the work outlives its reader.
        """
        self.quiet = True
        raise BrokenPipeError

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A spinner with a text, which Rich's own would take for markup whatever the console says."""
        return _PlainStatus(Text(status) if isinstance(status, str) else status, console=self, **options)


class _PlainStatus(Status):
    def update(self, status: RenderableType | None = None, **options: Any) -> None:
        super().update(Text(status) if isinstance(status, str) else status, **options)


console = Terminal()

Out = Annotated[Path, typer.Option("--out", help="Where everything is made. 出力先。")]
OUT = Path("out")

STAGES = "BONSAI_STAGES"
"""environment variable: the file in which nox looks for what parts of a command took"""


def note_stage(name: str, seconds: float) -> None:
    """Tell nox, if it asks, how long a part of this command took."""
    if path := os.environ.get(STAGES):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, seconds]) + "\n")


class AnswerProgress(contextlib.AbstractContextManager["AnswerProgress"]):
    """A bar for each of them on a terminal; in a log file a line every quarter of the way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> AnswerProgress:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def tell(self, name: str, done: int, total: int) -> None:
        """So many of its answers are there; told for the first time, they are from an earlier run."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
            if done:
                self._console.print(f"{name}: {done} of {total} answers are kept from an earlier run")
        elif not self._console.is_terminal and (done % max(1, total // 4) == 0 or done == total):
            self._console.print(f"{name} {done}/{total}")
        self._progress.update(self._tasks[name], completed=done)
