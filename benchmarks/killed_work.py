"""Builds and trainings killed (kill -9) at random moments, and whether a rerun ends in the same bytes.

OMP_NUM_THREADS=1 python -m benchmarks.killed_work [MOMENTS [--trainings]]
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

from rich.console import Console

from bonsai.hub.running import running_hub

NAMED = 12
"""records of each category: enough for every check, few enough for a build in seconds"""


def main() -> None:
    """Kill, look, and print the counts."""
    moments = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    console = Console()
    warnings.simplefilter("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as root, running_hub(Path(root) / "hub", users={"qeu": "t"}) as address:
        os.environ.update({**address.environment(), "HF_HOME": f"{root}/hf-home", "TQDM_DISABLE": "1"})
        if "--trainings" not in sys.argv:
            console.print(f"{moments} builds killed:", builds(Path(root), moments))
        console.print(f"{moments} trainings killed:", trainings(Path(root), moments))
    console.print("every one completed by the next run, to the same bytes")


def builds(root: Path, moments: int) -> dict[str, int]:
    """How the dataset stood after each kill."""
    from bonsai.builder.reader import default_records
    from tests.faults.killed_work import killed_builds

    few = root / "few"
    few.mkdir()
    for path in sorted(default_records().glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (few / path.name).write_text("".join(lines[:NAMED]), encoding="utf-8")
    return dict(killed_builds(few, root / "builds", moments, seed=42))


def trainings(root: Path, moments: int) -> dict[str, int]:
    """What each kill left of a training of the tests' tiny recipe."""
    import datasets
    import torch
    from huggingface_hub import HfApi

    from bonsai.builder.build import build
    from bonsai.builder.reader import default_records
    from bonsai.hub.client.push import folder_files, push
    from bonsai.recipes.training.checkpoint import Stopping
    from bonsai.recipes.training.run import train
    from tests.conftest import TINY_RECIPE
    from tests.faults.killed_work import killed_trainings
    from tests.recipes.tiny import write_tiny_llama

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    build(default_records(), root / "dataset", "qeu/bonsai")
    base = write_tiny_llama(root / "tiny")
    push(HfApi(), repo_id="qeu/tiny-llama", repo_type="model", files=folder_files(base), message="tiny", tag="v1.0")
    known: dict[str, object] = {}
    exec(TINY_RECIPE, known)

    def trained(place: Path) -> None:
        train(
            "tiny",
            known["RECIPE"],  # type: ignore[arg-type]
            dataset=root / "dataset",
            out=place / "adapter",
            checkpoints=place / "checkpoints",
            console=Console(quiet=True),
            resume=True,
            checkpoint_seconds=0.2,
            stopping=Stopping(),
        )

    return dict(killed_trainings(trained, root / "trainings", moments, seed=42))


if __name__ == "__main__":
    main()
