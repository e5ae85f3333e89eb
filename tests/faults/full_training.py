"""Trainings on a disk that fills: `python -m tests.faults.full_training DATASET DISK ROOM…`, one JSON line a room.

A process of its own, for the clients read the Hub's address when they are imported.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bonsai.builder.errors import DiskFullError
from bonsai.recipes.training.checkpoints import find_latest_valid_checkpoint
from tests.faults.killed_training import trained
from tests.faults.killed_work import forked
from tests.faults.small_disk import SmallDisk
from tests.faults.tiny_training import Training, tiny_training


def attempt(training: Training, place: Path, told: Path) -> None:
    """Train; what a full disk made it say goes to a file on another disk."""
    try:
        training(place)
    except DiskFullError as error:
        told.write_text(str(error), encoding="utf-8")
        os._exit(1)


def main() -> None:
    """One training in peace, then one a room and its rerun."""
    dataset, disk = Path(sys.argv[1]), SmallDisk(Path(sys.argv[2]))
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = Path(folder)
        training = tiny_training(elsewhere / "base", dataset, steps=3, checkpoint_seconds=0.0)
        assert forked(lambda: training(elsewhere / "peace"))
        for room in map(int, sys.argv[3:]):
            place, told = disk.path / "training", elsewhere / "told"
            told.write_text("", encoding="utf-8")
            disk.leave(room)
            ended = forked(lambda: attempt(training, place, told))  # noqa: B023  # the child is over before the next
            found = find_latest_valid_checkpoint(place / "checkpoints")
            seen = {"room": room, "ended": ended, "told": told.read_text(), "step": found.step if found else 0}
            seen["adapter"] = (place / "adapter").exists()
            disk.leave(None)
            assert forked(lambda: training(place))  # noqa: B023
            seen["same"] = trained(place) == trained(elsewhere / "peace")
            sys.stdout.write(json.dumps(seen) + "\n")
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
