"""Unsloth and LitGPT on the shapes, record lengths and T4 limits that ``engine.py`` measures our engine on.

    python benchmarks/engine_peers.py --peer unsloth litgpt --shape llama phi2 --out FILE.json

Each peer runs its own code as it comes, in a process of its own; ``--site`` names folders that it is unpacked in where
it is not installed. A peer that fails is a row with its error. Needs a GPU: this imitates a T4's limits on another one
(float16, 15 GiB, no flash and no cuDNN attention), not a T4's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

SHAPES = ("llama", "phi3", "phi2")
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",  # else Unsloth asks its servers once a load
    "UNSLOTH_TORCH_VARLEN": "0",  # a kernel that a T4 has not
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


class Variant(NamedTuple):
    """One process: a peer and the arguments of its ``trained``."""

    peer: str
    arguments: dict[str, Any]


VARIANTS = {
    "unsloth packed, its checkpointing": Variant("unsloth", {"checkpointing": "unsloth"}),
    "unsloth packed, no checkpointing": Variant("unsloth", {"checkpointing": False}),
    "litgpt 4 x 512": Variant("litgpt", {"micro_batch": 4, "length": 512}),
    "litgpt 1 x 2048": Variant("litgpt", {"micro_batch": 1, "length": 2048}),
    "litgpt 16 x 2048": Variant("litgpt", {"micro_batch": 16, "length": 2048}),
}


def prepared(shape: str, folder: Path, *, weights: bool) -> None:
    """Records, and for Unsloth a model's folder, from ``engine.py`` itself.

    Phi-3 is saved as a Mistral of its dimensions: Unsloth publishes Phi-3 so, because its fast path has no fused qkv.
    """
    import engine
    from transformers import MistralConfig

    config = engine.SHAPES[shape]()
    rows = engine.records(config.vocab_size)
    (folder / "records.json").write_text(json.dumps([dict(row) for row in rows]))
    if not weights:
        return
    if shape == "phi3":
        kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "num_key_value_heads", "max_position_embeddings", "sliding_window", "pad_token_id")  # fmt: skip
        engine.SHAPES[shape] = lambda: MistralConfig(**{name: getattr(config, name) for name in kept})
    engine.base_model(shape, folder)
    engine.tokenizer(config.vocab_size).save_pretrained(folder)


def measured(name: str, shape: str, steps: int, folder: Path) -> dict[str, Any]:
    """One row, in a process that has imported nothing yet: Unsloth must come before transformers."""
    from engine_peers_trained import TRAINED

    variant = VARIANTS[name]
    row: dict[str, Any] = TRAINED[variant.peer](shape, folder, steps, **variant.arguments)
    return row


def in_a_process(arguments: list[str], sites: list[Path], work: Path, seconds: int) -> dict[str, Any]:
    """The row that this file leaves with ``arguments``; ``failed`` beside it where it dies or takes too long."""
    here = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in [*sites, *here])
    environment = {**os.environ, **QUIET, "PYTHONPATH": path, "UNSLOTH_COMPILE_LOCATION": str(work / "compiled")}
    row = work / "row.json"
    row.unlink(missing_ok=True)
    log = work / "log.txt"
    started = time.perf_counter()
    with log.open("w") as output:
        try:
            done = subprocess.run(
                [sys.executable, str(Path(__file__).resolve()), *arguments],
                cwd=work, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=seconds, check=False,
            )  # fmt: skip
            failure = f"exit status {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = f"not done after {seconds} s"
    spent = {"process_s": round(time.perf_counter() - started)}
    known = json.loads(row.read_text()) if row.exists() else {}
    if not failure:
        return {**known, **spent}
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    Console().print(*lines[-30:], sep="\n", markup=False)
    return {**known, "failed": f"{failure}: {''.join(lines[-1:])[:400]}", **spent}


def versions(sites: list[Path]) -> dict[str, str]:
    asked = ("torch", "triton", "transformers", "peft", "bitsandbytes", "lightning")
    vendored = ("unsloth", "unsloth_zoo", "trl", "datasets", "xformers", "litgpt")
    found = {}
    for name in (*asked, *vendored):
        here = [folder for site in sites for folder in site.glob(f"{name}-*.dist-info")]
        try:
            found[name] = here[0].name.split("-")[1].removesuffix(".dist") if here else version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def head(sites: list[Path]) -> dict[str, Any]:
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        device = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        device = "no GPU"
    return {
        "device": device,
        "cap_gib": 15,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "versions": versions(sites),
        "note": "random weights; a T4's limits imitated on another GPU, not a T4; peers as they come, float16",
    }


def child(arguments: argparse.Namespace) -> None:
    """In a process of its own: the base of one shape, or one variant on it."""
    shape = arguments.shape[0]
    if arguments.child == "prepare":
        prepared(shape, arguments.folder, weights="unsloth" in arguments.peer)
        row = {"prepared": shape}
    else:
        row = measured(arguments.child, shape, arguments.steps, arguments.folder)
    Path("row.json").write_text(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", nargs="+", default=["unsloth", "litgpt"], choices=["unsloth", "litgpt"])
    parser.add_argument("--shape", nargs="+", default=["llama", "phi2"], choices=SHAPES)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="default: all of the peers named")
    parser.add_argument("--steps", type=int, default=14, help="optimizer steps; the first five are not timed")
    parser.add_argument("--seconds", type=int, default=90, help="for each process")
    parser.add_argument("--site", type=Path, nargs="*", default=[], help="folders of the peers' packages, first wins")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    results: list[dict[str, Any]] = []
    above = head(arguments.site)
    console = Console(width=200)
    for shape in arguments.shape:
        with tempfile.TemporaryDirectory() as kept:
            work = Path(kept)
            base = ["--shape", shape, "--steps", str(arguments.steps), "--folder", kept]
            names = [name for name, variant in VARIANTS.items() if variant.peer in arguments.peer]
            # Without the peers' packages: the records and weights come from our own benchmark.
            made = in_a_process(["--child", "prepare", "--peer", *arguments.peer, *base], [], work, arguments.seconds)
            for name in names:
                if arguments.only and name not in arguments.only:
                    continue
                row = made
                if "failed" not in made:
                    row = in_a_process(["--child", name, *base], arguments.site, work, arguments.seconds)
                results.append({"shape": shape, "variant": name, **row})
                console.print(results[-1])
                if arguments.out:
                    arguments.out.write_text(json.dumps({**above, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
