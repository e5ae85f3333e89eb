"""Does `bonsai plan` tell the truth about memory: the predicted peak of a few settings beside the measured one.

    python benchmarks/plan_memory.py --shape phi2 phi3 --out benchmarks/results/plan_memory_h100.json     # on a GPU
    python benchmarks/plan_memory.py --shape tiny                                                         # logic only

Random weights in NF4 are made once a shape, as in `engine.py`; each setting trains three steps through the engine. On a
CPU nothing of memory is measured.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from engine import GPU, LENGTHS, as_on_a_t4, base_model, commit, freed, records, restored, tokenizer
from peft import LoraConfig
from rich.console import Console
from rich.table import Table
from trl import SFTConfig

from bonsai.recipes.training.engine.install import EngineOptions
from bonsai.recipes.training.engine.trainer import EngineTrainer
from bonsai.recipes.training.plan.gpus import H100, T4
from bonsai.recipes.training.plan.memory import GIB, Length, Peak, PlanSettings, Rows, estimate_peak, rows_of
from bonsai.recipes.training.plan.model_shapes import ModelShape, shape_of

RECORDS = 320
STEPS = 3


class Tried(NamedTuple):
    """What differs between two runs."""

    max_length: int
    r: int
    graph: bool
    checkpointing: bool = False


def settings() -> Iterator[Tried]:
    """Four of rows and rank as on a T4, which uses no graph; one with a graph, and one that makes layers again."""
    for max_length, r in ((512, 16), (1024, 16), (2048, 8), (4096, 16)):
        yield Tried(max_length, r, graph=False)
    yield Tried(2048, 8, graph=True)
    yield Tried(4096, 16, graph=False, checkpointing=True)


def some_lengths(max_length: int) -> dict[int, Length]:
    """The first records that fit into a row, by their place in the benchmark's data."""
    every = [Length(*pair) for pair in json.loads(LENGTHS.read_text())["records"]]
    fitting = {place: length for place, length in enumerate(every) if length.whole <= max_length}
    return dict(list(fitting.items())[:RECORDS])


def predicted(shape: ModelShape, tried: Tried, rows: Rows, *, graph_made: bool) -> Peak:
    """Of making the graph where one was made and used; a graph that was tried in vain leaves the greater of both."""
    workspace = H100.workspace if GPU and torch.cuda.get_device_capability()[0] == 9 else T4.workspace
    setting = PlanSettings(r=tried.r, gradient_checkpointing=tried.checkpointing)
    moments = {True} if graph_made else {False, tried.graph}
    peaks = [estimate_peak(shape, setting, rows, graph=graph, workspace=workspace) for graph in moments]
    return max(peaks, key=lambda one: one.bytes)


def measured(base: Any, tried: Tried, data: Any, work: Path) -> dict[str, Any]:
    """Three steps; the base is given back as it was."""
    trainer = EngineTrainer(
        base,
        SFTConfig(
            output_dir=str(work), use_cpu=not GPU, fp16=GPU, bf16=False, max_steps=STEPS, learning_rate=1e-4,
            per_device_train_batch_size=1, packing=True, max_length=tried.max_length, completion_only_loss=True,
            logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, dataloader_pin_memory=GPU,
            gradient_checkpointing=tried.checkpointing,
        ),
        train_dataset=data,
        processing_class=tokenizer(base.config.vocab_size),
        peft_config=LoraConfig(
            r=tried.r, lora_alpha=2 * tried.r, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )  # fmt: skip
    model: Any = trainer.model
    installed = trainer.use_engine(
        EngineOptions(graph=tried.graph, recompute=not tried.checkpointing, spare_memory=False)
    )
    freed()
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer.train()
        made = installed.graph is not None
    finally:
        installed.uninstall()
        trainer.optimizer = trainer.lr_scheduler = None
        restored(base, model)
    return {
        "graph_made": made,
        "measured_gib": round(torch.cuda.max_memory_allocated() / GIB, 3) if GPU else None,
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3) if GPU else None,
    }


def compared(base: Any, shape: str, work: Path) -> Iterator[dict[str, Any]]:
    """One row for each setting."""
    sizes = shape_of(base.config.to_dict(), shape)
    data = records(base.config.vocab_size)
    for tried in settings():
        lengths = some_lengths(tried.max_length)
        rows = rows_of(list(lengths.values()), tried.max_length, packing=True, batch=1)
        try:
            found = measured(base, tried, data.select(list(lengths)), work)
        except torch.OutOfMemoryError as error:
            found = {"failed": str(error)[:200]}
        expected = predicted(sizes, tried, rows, graph_made=found.get("graph_made", False))
        gib = found.get("measured_gib")
        yield {
            "shape": shape,
            **tried._asdict(),
            "tokens_in_a_row": rows.most_tokens,
            **found,
            "predicted_gib": round(expected.gib, 3),
            "error": round(expected.gib / gib - 1, 4) if gib else None,
            "moment": expected.moment,
            "by_part_gib": {part.name: round(part.bytes / GIB, 3) for part in expected.parts},
        }


def shown(results: list[dict[str, Any]], console: Console) -> None:
    table = Table("shape", "max_length", "r", "graph", "checkpointing", "measured GiB", "predicted GiB", "error")
    for row in results:
        error = "-" if row["error"] is None else f"{row['error']:+.1%}"
        measured_gib = str(row.get("failed", row.get("measured_gib")))
        cells = (row["max_length"], row["r"], row["graph"], row["checkpointing"])
        table.add_row(row["shape"], *map(str, cells), measured_gib, f"{row['predicted_gib']:.3f}", error)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["phi2", "phi3"], choices=("phi2", "phi3", "llama", "tiny"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    console = Console(width=140)
    logging.basicConfig(level=logging.WARNING)
    if GPU:
        as_on_a_t4()
    head = {
        "device": torch.cuda.get_device_name() if GPU else "CPU", "cap_gib": 15,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "torch": torch.__version__,
        "note": "random weights; a T4's limits imitated on another GPU, not a T4; peaks are max_memory_allocated",
    }  # fmt: skip
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for shape in arguments.shape:
            base = base_model(shape, Path(work) / shape)
            for row in compared(base, shape, Path(work) / "out"):
                results.append(row)
                if arguments.out:
                    arguments.out.write_text(json.dumps({**head, "results": results}, indent=1) + "\n")
            del base
            freed()
    shown(results, console)


if __name__ == "__main__":
    main()
