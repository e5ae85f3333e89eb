"""Trackers beside our own table."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from bonsai.hub.server.serve import HubAddress
from tests.conftest import Run


@pytest.mark.slow
def test_tensorboard_gets_the_losses_of_the_run(
    dataset: Path, far_hub: HubAddress, tiny_base: str, bonsai: Run, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    bonsai("train", "tiny", "--max-steps", "3", "--report-to", "tensorboard", cwd=tmp_path, **far_hub.environment())
    seen = accumulator.EventAccumulator(str(tmp_path / "out" / "runs" / "tiny"))
    seen.Reload()
    run = json.loads((tmp_path / "out/adapters/tiny/training/run.json").read_text())
    told = [event.value for event in seen.Scalars("train/loss")]
    assert told == pytest.approx([point["loss"] for point in run["losses"]], rel=1e-4)


@pytest.mark.slow
def test_trackio_gets_the_losses_under_the_recipes_name(
    dataset: Path, far_hub: HubAddress, tiny_base: str, bonsai: Run, tmp_path: Path
) -> None:
    pytest.importorskip("trackio")
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    kept = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    bonsai("train", "tiny", "--max-steps", "3", "--report-to", "trackio", cwd=tmp_path, **far_hub.environment(), **kept)
    run = json.loads((tmp_path / "out/adapters/tiny/training/run.json").read_text())
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / "bonsai.db")) as database:
        rows = database.execute("select run_name, metrics from metrics order by step").fetchall()
    told = [json.loads(metrics) for _, metrics in rows]
    losses = [one["train/loss"] for one in told if "train/loss" in one]
    assert losses == pytest.approx([point["loss"] for point in run["losses"]], rel=1e-4)
    assert len({name for name, _ in rows}) == 1


def test_unknown_tracker_is_refused_with_the_known_ones(bonsai: Run, tmp_path: Path) -> None:
    done = bonsai("train", "tiny", "--report-to", "clouds", cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "--report-to clouds: write one of tensorboard, trackio" in done.stderr
