"""The seedling's loss step by step, TRL as it is against the engine under it: same weights, records and order.

    nox -s build train && python -m benchmarks.seedling_parity --steps 200

Unpacked, because on a CPU stock TRL lets packed records see one another.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bonsai.cli.hub import local_hub_for
from bonsai.hub.target import with_namespace
from bonsai.recipes.seedling import RECIPE

RESULT = Path(__file__).parent / "results" / "seedling_parity.json"


def losses(rows: Any, steps: int, *, engine: bool, progress: Progress) -> dict[str, Any]:
    """Train the seedling's recipe and return its losses in nats a token, and its speed.

    The Hub's clients are imported here: they read its address once, and only now is it known.
    """
    from transformers import TrainerCallback

    from bonsai.recipes.training.sft import build_trainer

    class Bar(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress.update(task, completed=state.global_step)

    recipe = replace(RECIPE, packing=False, gradient_accumulation_steps=1, eval_steps=0, max_steps=steps)
    name = "engine" if engine else "TRL"
    with tempfile.TemporaryDirectory() as work:
        prepared = build_trainer(
            recipe, with_namespace(RECIPE.base_model), rows, Path(work), max_steps=None, with_engine=engine
        )
        task = progress.add_task(name, total=steps)
        prepared.trainer.add_callback(Bar())
        done = prepared.trainer.train()
    history = [entry for entry in prepared.trainer.state.log_history if "loss" in entry]
    return {
        "name": name,
        "losses": [entry["loss"] for entry in history],
        "tokens_per_second": history[-1]["num_input_tokens_seen"] / done.metrics["train_runtime"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the project was built and trained")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--longest", type=int, default=900, help="characters of the longest record taken")
    parser.add_argument("--result", type=Path, default=RESULT)
    asked = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ["TQDM_DISABLE"] = "1"
    console = Console()
    with local_hub_for(["seedling"], asked.out):
        compare(asked, console)


def compare(asked: argparse.Namespace, console: Console) -> None:
    """Both runs, the file and the table."""
    from bonsai.recipes.training.data import load_training_rows

    rows = load_training_rows(RECIPE, asked.out / "dataset")
    short = rows.train.filter(lambda row: len(row["prompt"] + row["completion"]) <= asked.longest)
    rows = replace(rows, train=short)
    with Progress(console=console) as progress:
        stock, ours = (losses(rows, asked.steps, engine=e, progress=progress) for e in (False, True))
    differences = [abs(a - b) for a, b in zip(stock["losses"], ours["losses"], strict=True)]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "records": len(short),
        "largest_difference": max(differences),
        "mean_difference": statistics.mean(differences),
        "runs": [stock, ours],
    }
    asked.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("", "loss, first 10 steps", "loss, last 10 steps", "tokens/s")
    for run in (stock, ours):
        first, last = statistics.mean(run["losses"][:10]), statistics.mean(run["losses"][-10:])
        table.add_row(run["name"], f"{first:.4f}", f"{last:.4f}", f"{run['tokens_per_second']:.0f}")
    console.print(table)
    console.print(f"largest difference at a step {max(differences):.1e}, mean {statistics.mean(differences):.1e}")


if __name__ == "__main__":
    main()
