"""A run that is cut off and goes on gives the same adapter, to the last bit, as one that is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.training.checkpoints import MANIFEST, RunProgress, find_latest_valid_checkpoint, write_manifest
from tests.conftest import COMMAND, Run
from tests.recipes.stopping import stopped_by_sigterm

ADAPTER = "out/adapters/tiny/adapter_model.safetensors"


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_goes_on_to_the_same_bytes(
    dataset: Path, far_hub: HubAddress, tiny_base: str, bonsai: Run, recipes_folder: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for place in (whole, cut):
        shutil.copytree(dataset, place / "out" / "dataset")
    arguments = ["train", "tiny", "--max-steps", "60"]
    bonsai(*arguments, cwd=whole, **far_hub.environment())

    stopped = stopped_by_sigterm(arguments, at="6/60", cwd=cut, recipes=recipes_folder, hub=far_hub)
    assert stopped.returncode == 1, stopped.stderr
    assert "a checkpoint is kept, continue with `nox -s train -- tiny --resume`" in stopped.stderr
    assert not (cut / ADAPTER).exists()

    told = bonsai(*arguments, "--resume", cwd=cut, **far_hub.environment()).stdout
    assert "resuming from step" in told
    assert (cut / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()
    losses = [
        json.loads((place / "out/adapters/tiny/training/run.json").read_text())["losses"] for place in (whole, cut)
    ]
    assert losses[0] == losses[1]
    assert not (cut / "out" / "checkpoints" / "tiny").exists()


@pytest.mark.slow
def test_a_run_killed_after_its_last_step_takes_no_further_one(
    dataset: Path, far_hub: HubAddress, tiny_base: str, recipes_folder: Path, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    arguments = ["train", "tiny", "--max-steps", "3"]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(recipes_folder), *arguments],
        cwd=tmp_path,
        env={**os.environ, **far_hub.environment(), "HF_HOME": str(tmp_path / "hf-home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sealed = tmp_path / "out/checkpoints/tiny/checkpoint-3" / MANIFEST
    while not sealed.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / ADAPTER).exists()

    told = bonsai(*arguments, "--resume", cwd=tmp_path, **far_hub.environment()).stdout
    assert "resuming from step 3" in told
    record = json.loads((tmp_path / "out/adapters/tiny/training/run.json").read_text())
    assert [point["step"] for point in record["losses"]] == [1, 2, 3]


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"weights of step %d" % step)
    write_manifest(path, RunProgress(identity="run", validation_loss_before=3.0, seconds=float(step)))
    return path


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    for step in (9, 10):
        checkpoint(tmp_path, step)
    found = find_latest_valid_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.progress.seconds, found.damaged) == (10, 10.0, ())


@pytest.mark.parametrize("damage", ["changed", "missing file", "no manifest", "torn manifest"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damage: str, tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    match damage:
        case "changed":
            (newest / "adapter_model.safetensors").write_bytes(b"other")
        case "missing file":
            (newest / "adapter_model.safetensors").unlink()
        case "no manifest":
            (newest / "bonsai.json").unlink()
        case "torn manifest":
            (newest / "bonsai.json").write_text('{"progress": {')
    found = find_latest_valid_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.damaged) == (9, (newest,))


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert find_latest_valid_checkpoint(tmp_path / "nothing") is None
