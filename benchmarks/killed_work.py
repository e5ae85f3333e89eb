"""Builds or trainings killed (kill -9) at random moments, and whether a rerun ends in the same bytes.

    python -m benchmarks.killed_work builds [--moments N]
    python -m benchmarks.killed_work trainings [--moments N] [--at-once N] [--dataset DIR] [--results DIR]

A training is one of the tests' tiny recipe by the real code, on the CPU with one thread; each of those at once has a
folder of its own, and its time is taken while the others run too. What trainings ended in is written down after each
kill, as killed_trainings.json and .txt.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from rich.console import Console

from bonsai.hub.server.serve import run_hub

if TYPE_CHECKING:  # the libraries of training read the environment when they are imported
    from tests.faults.killed_training import Killed, Trained

NAMED = 12
"""records of each category: enough for every check, few enough for a build in seconds"""
SEED = 42
STEPS, CHECKPOINT_SECONDS = 40, 0.2
"""enough steps for most moments to fall between them, and several checkpoints"""
_PROCESS: dict[str, Any] = {}
"""what a process at work keeps from one training to the next"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A kill, and what the process that did it measures itself by."""

    number: int
    killed: Killed
    seconds_in_peace: float
    peace: Trained


def main() -> None:
    """Kill, look, and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["builds", "trainings"])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=1, help="trainings, each in a process of its own")
    parser.add_argument("--dataset", type=Path, help="a finished build to train on; without one the records are built")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", metavar="DIR")
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as root:
        if arguments.what == "builds":
            Console().print(f"{arguments.moments} builds killed:", builds(Path(root), arguments.moments))
        else:
            raise SystemExit(trainings(Path(root), arguments))


def builds(root: Path, moments: int) -> dict[str, int]:
    """How the dataset stood after each kill; every rerun gave the same bytes, or this raises."""
    from bonsai.builder.records import default_records_dir
    from tests.faults.killed_work import killed_builds

    few = root / "few"
    few.mkdir()
    for path in sorted(default_records_dir().glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (few / path.name).write_text("".join(lines[:NAMED]), encoding="utf-8")
    return dict(killed_builds(few, root / "builds", moments, seed=SEED))


def trainings(root: Path, arguments: argparse.Namespace) -> int:
    """Kill and rerun, so many at once; 0: every rerun was as the run left in peace."""
    started, done = time.monotonic(), list[Done]()
    with run_hub(root / "hub", users={"qeu": "t"}) as hub:
        os.environ.update(hub.environment())
        dataset = arguments.dataset or _built(root)
        places = [(number, root, dataset) for number in range(arguments.moments)]
        with multiprocessing.get_context("spawn").Pool(arguments.at_once) as pool:
            for one in pool.imap_unordered(_kill, places):
                done.append(one)
                text = _write(arguments, done, time.monotonic() - started)
                sys.stderr.write(f"{len(done)} of {arguments.moments}: {one.killed}\n")
    Console().print(text)
    return int(any(one.killed.wrong for one in done) or len({one.peace for one in done}) > 1)


def _built(root: Path) -> Path:
    from bonsai.builder.build import build_dataset
    from bonsai.builder.records import default_records_dir

    build_dataset(default_records_dir(), root / "dataset", "qeu/bonsai")
    return root / "dataset"


def _begin(root: Path, dataset: Path) -> None:
    """Once in each process: a home and a folder of its own, everything imported, and one training left in peace."""
    folder = Path(tempfile.mkdtemp(dir=root))
    os.environ["HF_HOME"] = str(folder / "hf-home")
    from tests.faults.killed_training import trained
    from tests.faults.killed_work import forked
    from tests.faults.tiny_training import tiny_training

    with FileLock(root / "base.lock"):
        training = tiny_training(folder / "base", dataset, steps=STEPS, checkpoint_seconds=CHECKPOINT_SECONDS)
    for name in ("warm", "peace"):  # the first fills the caches, the second is as long as those that are killed
        started = time.monotonic()
        if not forked(lambda name=name: training(folder / name)):  # type: ignore[misc]
            raise RuntimeError("a training left in peace did not end; see above")
    _PROCESS.update(folder=folder, training=training, seconds=time.monotonic() - started, peace=trained(folder / name))


def _kill(told: tuple[int, Path, Path]) -> Done:
    from tests.faults.killed_training import kill_and_rerun

    number, root, dataset = told
    if not _PROCESS:
        _begin(root, dataset)
    moment = random.Random(SEED + number).uniform(0, _PROCESS["seconds"])
    place = _PROCESS["folder"] / str(number)
    killed = kill_and_rerun(_PROCESS["training"], place, _PROCESS["peace"], kill_after=moment)
    return Done(number=number, killed=killed, seconds_in_peace=_PROCESS["seconds"], peace=_PROCESS["peace"])


def _write(arguments: argparse.Namespace, done: list[Done], seconds: float) -> str:
    """All that is known so far, as JSON and as words; an interrupted run keeps it."""
    from bonsai.recipes.training.run_record import describe_machine, package_versions

    said = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "python": sys.version.split()[0],
        "versions": package_versions(),
        "at_once": arguments.at_once,
        "moments_asked": arguments.moments,
        "seconds": round(seconds, 1),
        "adapters_in_peace": sorted({one.peace.adapter for one in done}),
        "losses_in_peace": sorted({one.peace.losses for one in done}),
        "killed": [{"number": one.number, "in_peace": one.seconds_in_peace, **asdict(one.killed)} for one in done],
    }
    left = Counter(one.killed.left for one in done)
    wrong = [one for one in done if one.killed.wrong]
    text = (
        f"{len(done)} trainings killed (of {arguments.moments}), {arguments.at_once} at once, in {seconds:.0f} s: "
        f"{', '.join(f'{name} left {count}' for name, count in sorted(left.items()))}. "
        f"Other than a run left in peace: {len(wrong)}"
        + "".join(f"; {one.number}: {one.killed.wrong}" for one in wrong)
        + f". {len({one.peace for one in done})} outcome(s) in peace, by as many processes as were at work. "
        f"The next step's loss, all losses and the adapter's bytes are compared. "
        f"({said['date']}, {said['machine']}, benchmarks/killed_work.py)\n"
    )
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "killed_trainings.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "killed_trainings.txt").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    main()
