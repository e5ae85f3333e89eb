"""Two processes, as `accelerate launch` starts them for two GPUs, learn what one learns; here over gloo on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bonsai.hub.server.serve import HubAddress
from tests.conftest import TINY_RECIPE, Run


def trained(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    adapter = folder / "out" / "adapters" / "shared"
    return json.loads((adapter / "training" / "run.json").read_text()), load_file(adapter / "adapter_model.safetensors")


@pytest.mark.slow
def test_two_processes_give_the_losses_and_the_adapter_of_one(
    dataset: Path, far_hub: HubAddress, tiny_base: str, bonsai: Run, tmp_path: Path
) -> None:
    recipe = TINY_RECIPE.replace("learning_rate=1e-2", "learning_rate=1e-3, gradient_accumulation_steps=2")
    one, two = tmp_path / "one", tmp_path / "two"
    for place in (one, two):
        shutil.copytree(dataset, place / "out" / "dataset")
        (place / "recipes").mkdir()
        (place / "recipes" / "shared.py").write_text(recipe)
    bonsai("train", "shared", "--max-steps", "4", cwd=one, **far_hub.environment())
    command = two / "command.py"
    command.write_text("from bonsai.cli.main import main\nmain()\n")
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    done = subprocess.run(
        [
            *launch,
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            str(command),
            "train",
            "shared",
            "--max-steps",
            "4",
        ],
        cwd=two,
        env={**os.environ, **far_hub.environment(), "HF_HOME": str(two / "hf-home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("adapter ->") == 1  # one process speaks
    (record, weights), (expected, reference) = trained(two), trained(one)
    losses = [[point["loss"] for point in run["losses"]] for run in (record, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert weights.keys() == reference.keys()
    for name, tensor in reference.items():
        assert (weights[name] - tensor).norm() <= 1e-2 * tensor.norm(), name
    assert not (two / "out" / "checkpoints" / "shared").exists()
