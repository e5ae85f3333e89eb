"""A coverage-guided fuzzer on all that reads what strangers send: how many inputs, and whether any broke something.

    pip install atheris==3.0.0 && python -m benchmarks.fuzz [--seconds N] [TARGET…]

Each target of tests/fuzz/targets.py runs in a process of its own, from the good inputs in tests/fuzz/seeds.py. An input
that ends in a traceback, takes longer than 10 s, or makes the process larger than 2 GB ends its target; it is kept as
fuzz-TARGET-… in the working directory.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bonsai.recipes.training.run_record import describe_machine
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

RESULT = Path(__file__).parent / "results" / "fuzz.json"
_LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-max_len=20000")


def fuzzed(target: str, seconds: int) -> dict[str, str | int]:
    """Run one target for so long."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(target)):
            (Path(corpus) / str(number)).write_bytes(seed)
        limits = (f"-max_total_time={seconds}", f"-artifact_prefix=fuzz-{target}-", *_LIMITS)
        command = [sys.executable, "-m", "tests.fuzz.run", target, *limits, corpus]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    told = done.stdout + done.stderr
    numbers = {name: int(number) for name, number in re.findall(r"stat::(\w+):\s+(\d+)", told)}
    covered = re.findall(r"cov: (\d+)", told)
    errors = re.findall(r"=== Uncaught Python exception: ===\n(.*)|(ERROR: libFuzzer: .*)", told)
    return {
        "inputs": numbers.get("number_of_executed_units", 0),
        "edges covered": int(covered[-1]) if covered else 0,
        "peak MB": numbers.get("peak_rss_mb", 0),
        "ended": "".join(errors[0]) if errors else ("in peace" if done.returncode == 0 else told[-300:]),
    }


def main() -> None:
    """Fuzz, print one table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    arguments = parser.parse_args()
    found = {}
    for target in arguments.targets or TARGETS:
        found[target] = fuzzed(target, arguments.seconds)
        sys.stderr.write(f"{target}: {found[target]}\n")
    said = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "atheris": importlib.metadata.version("atheris"),
        "seconds_each": arguments.seconds,
        "inputs": sum(int(one["inputs"]) for one in found.values()),
        "targets": found,
    }
    RESULT.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    table = Table("target", *next(iter(found.values())), title=f"{said['inputs']:,} inputs")
    for target, one in found.items():
        table.add_row(target, *map(str, one.values()))
    Console(width=120).print(table)
    raise SystemExit(any(one["ended"] != "in peace" for one in found.values()))


if __name__ == "__main__":
    main()
