"""What more GPUs give, with random weights: one process alone, and as many as `torchrun` starts.

    python benchmarks/several_gpus.py --out FILE.json                                    # one GPU
    torchrun --nproc_per_node 2 benchmarks/several_gpus.py --out FILE.json               # adds two
    torchrun --nproc_per_node 2 benchmarks/several_gpus.py --shape llama_13b --way fsdp --out FILE.json

Ways: the engine, where each GPU has the whole base and gradients are averaged; TRL as it is, the same; and TRL under
FSDP, which cuts the base up among the GPUs. The same global batch is also given to one GPU as micro-steps, so that the
losses can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from engine import GPU, SHAPES, as_on_a_t4, commit, quantised, run, save_random, variants
from rich.console import Console

PIECES = variants()["+ graph"]
WAYS: dict[str, Any] = {
    "engine": PIECES,
    "engine, checkpointing": replace(PIECES, recompute=False, graph=False) if PIECES else None,
    "trl": None,
    "fsdp": None,
}
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "1",
    "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_BACKWARD_PREFETCH": "BACKWARD_PRE",
    "FSDP_USE_ORIG_PARAMS": "false",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_SYNC_MODULE_STATES": "false",
}
"""what `accelerate launch --use_fsdp` sets; version 2 knows no bitsandbytes (accelerate issue 3874)"""


def measured(arguments: argparse.Namespace, folder: Path, work: Path, processes: int) -> list[dict[str, Any]]:
    """Alone: rows one by one, and ``--together`` of them a step. Of several processes: a row each."""
    low = torch.float16 if GPU else torch.float32
    base = quantised(folder, low if arguments.way == "fsdp" else torch.uint8)
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ready = round(torch.cuda.max_memory_allocated() / 2**30, 2) if GPU else None
    rows = []
    turns = [processes] if processes > 1 else [1, arguments.together][: 1 + (arguments.together > 1)]
    for rows_a_step in turns:
        row = run(
            base,
            arguments.way,
            WAYS[arguments.way],
            arguments.steps,
            work,
            once=rows_a_step == turns[-1],
            warmup_steps=4,
            gradient_accumulation_steps=rows_a_step // processes,
            max_length=arguments.max_length,
        )
        told = {"shape": arguments.shape, "gpus": processes, "rows_a_step": rows_a_step}
        together = {"together": AcceleratorState().distributed_type.value, "max_length": arguments.max_length}
        rows.append({**told, **together, "peak_gib_when_loaded": ready, **row})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="phi2", choices=SHAPES)
    parser.add_argument("--way", default="engine", choices=WAYS)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--together", type=int, default=2, help="rows a step of one GPU, to compare losses with")
    parser.add_argument("--base", type=Path, help="where the base is kept from one run to the next")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if arguments.way == "fsdp":
        os.environ.update(FSDP)
    if GPU:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    state = PartialState(cpu=not GPU)
    folder = (arguments.base or Path(tempfile.gettempdir()) / "bonsai-random-bases") / arguments.shape
    with state.main_process_first():
        if not (folder / "config.json").exists():
            save_random(arguments.shape, folder)
    if GPU:
        as_on_a_t4()
    with tempfile.TemporaryDirectory() as work:
        rows = measured(arguments, folder, Path(work), processes)
    if not state.is_main_process:
        return
    kept = json.loads(arguments.out.read_text())["results"] if arguments.out.exists() else []
    head = {
        "device": torch.cuda.get_device_name() if GPU else "CPU", "cap_gib": 15,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "torch": torch.__version__,
        "note": "random weights; a T4's limits imitated on another GPU, not a T4",
    }  # fmt: skip
    arguments.out.write_text(json.dumps({**head, "results": kept + rows}, indent=1) + "\n")
    for row in rows:
        Console().print({key: value for key, value in row.items() if key not in ("losses", "top")})


if __name__ == "__main__":
    main()
