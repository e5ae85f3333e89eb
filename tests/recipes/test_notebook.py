"""The Colab notebook, every cell, on the seedling."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1
