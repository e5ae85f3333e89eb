"""64 clients at the local Hub for a minute: how long they wait, and whether anything is lost or torn.

    HF_HUB_DISABLE_XET=1 python -m benchmarks.hub_load [--clients N] [--seconds N] [--repos N]

Each client, the real one in a thread, uploads a file of 200 B to 800 kB in a commit of its own and downloads it and
another client's, on and on. Clients and Hub share this machine. At the end every file that the Hub acknowledged is
looked for in the history and, byte for byte, on main.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars
from rich.console import Console
from rich.table import Table

from bonsai.hub.server.serve import run_hub
from bonsai.recipes.training.run_record import describe_machine
from tests.hub.load import load

RESULT = Path(__file__).parent / "results" / "hub_load.json"


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    known = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(seconds)}
    return {name: round(value * 1000) for name, value in known.items()}


def main() -> None:
    """Load, look, print one table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--repos", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as root, run_hub(Path(root) / "hub", users={"qeu": "t"}) as hub:
        loaded = load(
            hub.endpoint,
            hub.token,
            clients=arguments.clients,
            repos=arguments.repos,
            seconds=arguments.seconds,
            seed=42,
        )
        complaints = (Path(root) / "hub" / "hub.log").read_text().splitlines()
    said = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        **vars(arguments),
        "took_seconds": round(loaded.seconds, 1),
        "uploads": len(loaded.uploads),
        "downloads": len(loaded.download_seconds),
        "megabytes_up": round(loaded.bytes_up / 1e6, 1),
        "megabytes_down": round(loaded.bytes_down / 1e6, 1),
        "upload_ms": percentiles(loaded.upload_seconds),
        "download_ms": percentiles(loaded.download_seconds),
        "lost": loaded.lost,
        "torn": loaded.torn,
        "refused": loaded.refused,
        "lines_in_the_hubs_log": len(complaints),
    }
    RESULT.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    table = Table("", "done", "MB", "p50 ms", "p90 ms", "p99 ms", "max ms", title=f"{arguments.clients} clients")
    for name, done, size in (("upload", "uploads", "up"), ("download", "downloads", "down")):
        table.add_row(name, *map(str, (said[done], said[f"megabytes_{size}"], *said[f"{name}_ms"].values())))
    console = Console()
    console.print(table)
    console.print(f"lost {len(loaded.lost)}, torn {len(loaded.torn)}, refused {len(loaded.refused)} -> {RESULT.name}")
    raise SystemExit(bool(loaded.lost or loaded.torn or loaded.refused))


if __name__ == "__main__":
    main()
