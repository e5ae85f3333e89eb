"""Releases killed (kill -9) at random moments: how main stands, and that the next release completes each.

python -m benchmarks.killed_releases [MOMENTS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.faults.killed import run_killed
from tests.faults.stage import staged


def main() -> None:
    """Kill, look, and print the counts."""
    moments = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as root, staged(Path(root)) as stage:
        ends = run_killed(stage, moments, seed=42)
    Console().print(
        f"{moments} releases killed, every one completed by the next:", {str(end): count for end, count in ends.items()}
    )


if __name__ == "__main__":
    main()
