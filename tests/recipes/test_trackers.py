"""Trackers beside our own table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bonsai.hub.running import HubAddress
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


def test_a_tracker_that_nobody_knows_is_refused_with_those_that_are_known(bonsai: Run, tmp_path: Path) -> None:
    done = bonsai("train", "tiny", "--report-to", "clouds", cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "--report-to clouds: write one of tensorboard, trackio" in done.stderr
