"""What more GPUs give: the engine on one, and on as many as `torchrun` starts, with random weights.

    python benchmarks/several_gpus.py --out FILE.json                                    # one GPU
    torchrun --nproc_per_node 2 benchmarks/several_gpus.py --out FILE.json               # adds two

The same global batch is also given to one GPU as micro-steps, so that the losses can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from engine import SHAPES, as_on_a_t4, base_model, commit, run, variants

VARIANT = "+ graph"


def measured(base: Any, work: Path, steps: int, processes: int, together: int) -> list[dict[str, Any]]:
    """Alone: rows one by one, and ``together`` of them a step. Of several processes: a row each."""
    pieces = variants()[VARIANT]
    rows = []
    for rows_a_step in (1, together) if processes == 1 else (processes,):
        micro = rows_a_step // processes
        row = run(base, VARIANT, pieces, steps, work, warmup_steps=4, gradient_accumulation_steps=micro)
        rows.append({"gpus": processes, "rows_a_step": rows_a_step, **row})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="phi2", choices=SHAPES)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--together", type=int, default=2, help="rows a step of one GPU, to compare losses with")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rank, processes = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.cuda.set_device(rank)
    as_on_a_t4()
    with tempfile.TemporaryDirectory() as work:
        base = base_model(arguments.shape, Path(work) / "base")
        for module in base.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        rows = measured(base, Path(work) / "out", arguments.steps, processes, arguments.together)
    if rank:
        return
    kept = json.loads(arguments.out.read_text())["results"] if arguments.out.exists() else []
    head = {
        "device": torch.cuda.get_device_name(), "cap_gib": 15, "shape": arguments.shape,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "torch": torch.__version__,
        "note": "random weights; a T4's limits imitated on another GPU, not a T4",
    }  # fmt: skip
    arguments.out.write_text(json.dumps({**head, "results": kept + rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
