"""What training and asking lose to other processes, by how OpenMP's threads wait for one another.

    python -m benchmarks.busy_machine [--what train,ask] [--settings before,passive] [--competitors 0,1,2] [--rounds 1]

Needs what `nox -s build train` leaves in ``out/``. A competitor is a process that does nothing but turn. Training is
two steps of the seedling, told in tokens a second and the hash of the adapter's weights; asking is the whole command
`bonsai ask` for one answer, in seconds, with the answer's hash. Settings are measured in turn within a round,
so that they meet the same machine; what is measured is added to ``benchmarks/results/busy_machine.json``. Leave
OMP_NUM_THREADS unset, or it holds for all settings.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

RESULT = Path(__file__).parent / "results" / "busy_machine.json"
OUT = Path("out")
SETTINGS = {
    "before": {"GOMP_SPINCOUNT": "300000"},  # libgomp's own number, under which its threads spinned unasked
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin1000": {"GOMP_SPINCOUNT": "1000"},
    "spin10000": {"GOMP_SPINCOUNT": "10000"},
    "one_thread": {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
    "follows": {  # what the command does: threads as many as the others leave free, here of two cores
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",
        "BONSAI_FOLLOWS_LOAD": "1",
    },
}
STEPS = 2
QUESTION = "Why do leaves turn red in autumn?"
TOKENS = 32


@contextlib.contextmanager
def competing(count: int) -> Iterator[None]:
    """So many processes beside us that are always busy."""
    turning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in turning:
            process.kill()
            process.wait()


def train_two_steps() -> dict[str, Any]:
    """In a process of its own, whose environment says how its threads wait."""
    from bonsai.cli.common import quiet_libraries
    from bonsai.cli.hub import local_hub_for

    quiet_libraries()
    with local_hub_for(["seedling"], OUT), tempfile.TemporaryDirectory() as work:
        from bonsai.recipes.training.callbacks import FreeCoresCallback
        from bonsai.recipes.training.data import load_training_rows
        from bonsai.recipes.training.recipe import load_recipe
        from bonsai.recipes.training.sft import build_trainer

        recipe = load_recipe("seedling")
        rows = load_training_rows(recipe, OUT / "dataset")
        prepared = build_trainer(recipe, recipe.base_model, rows, Path(work), max_steps=STEPS)
        prepared.trainer.add_callback(FreeCoresCallback())
        started = time.perf_counter()
        prepared.trainer.train()
        seconds = time.perf_counter() - started
        digest = hashlib.sha256(prepared.trainer.engine.store.flat.detach().numpy().tobytes())  # type: ignore[union-attr]
        tokens = int(prepared.trainer.state.num_input_tokens_seen)
    return {"tokens_per_second": round(tokens / seconds, 1), "sha256": digest.hexdigest()[:16]}


def measure(what: str, setting: str, competitors: int) -> dict[str, Any]:
    """One measurement as it is kept."""
    environment = {**os.environ, **SETTINGS[setting]}
    module = ["benchmarks.busy_machine", "--train"] if what == "train" else ["bonsai.cli.main", "ask", QUESTION]
    limit = [] if what == "train" else ["--max-new-tokens", str(TOKENS), "--json"]
    with competing(competitors):
        started = time.perf_counter()
        command = [sys.executable, "-m", *module, *limit]
        said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - started
    kept = {"what": what, "setting": setting, "competitors": competitors}
    if what == "train":
        return {**kept, **json.loads(said.splitlines()[-1])}
    answer = json.loads(said)["answer"]
    del answer["seconds"]
    digest = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()
    return {**kept, "seconds": round(seconds, 1), "sha256": digest[:16]}


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, and each busy one's share of the speed of the same setting when it is quiet."""
    speeds: dict[tuple[str, str, int], list[float]] = {}
    for one in measured:
        speed = one["tokens_per_second"] if one["what"] == "train" else 1 / one["seconds"]
        speeds.setdefault((one["what"], one["setting"], one["competitors"]), []).append(speed)
    told: dict[str, Any] = {}
    for (what, setting, competitors), found in sorted(speeds.items()):
        middle = median(found)
        quiet, before = speeds.get((what, setting, 0)), speeds.get((what, "before", competitors))
        told[f"{what}, {setting}, {competitors} competing"] = {
            "tokens_per_second" if what == "train" else "seconds": round(middle if what == "train" else 1 / middle, 1),
            "share_of_quiet": round(middle / median(quiet), 2) if quiet else None,
            "times_before": round(middle / median(before), 2) if before else None,
            "runs": len(found),
        }
    return told


def main() -> None:
    """Measure, keep, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default="train,ask")
    parser.add_argument("--settings", default="before,passive")
    parser.add_argument("--competitors", default="0,1,2")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="the child's part")
    options = parser.parse_args()
    if options.train:
        sys.stdout.write(json.dumps(train_two_steps()) + "\n")
        return
    kept = json.loads(RESULT.read_text()) if RESULT.is_file() else {"measured": []}
    for _ in range(options.rounds):
        for what in options.what.split(","):
            for competitors in map(int, options.competitors.split(",")):
                for setting in options.settings.split(","):
                    one = measure(what, setting, competitors)
                    kept["measured"].append(one)
                    sys.stderr.write(json.dumps(one) + "\n")
                    kept |= {"machine": platform.machine(), "cores": os.cpu_count(), "steps": STEPS, "tokens": TOKENS}
                    kept["summary"] = summary(kept["measured"])
                    RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
