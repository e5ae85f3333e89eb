"""The one-liner for Hugging Face Jobs, held against the installed client."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bonsai.cli.jobs import job_command
from bonsai.recipes.training.recipe import RecipeError
from tests.conftest import Run

SOURCE = "https://github.com/qeu/bonsai"


def test_the_client_takes_the_very_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = job_command(["phi2_category"], "t4-small", SOURCE)
    at = command.index("run") + 1
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hf")), *command[1:at], "--dry-run", "--namespace", "qeu", *command[at:]],
        env={"HF_TOKEN": "hf_none", "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "t4-small" in done.stdout
    assert "nox -s train -- phi2_category" in done.stdout
    assert "hf_none" not in done.stdout


def test_a_flavor_that_is_not_rented_out_is_refused_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"no 't5' in the installed client; choose from .*'t4-small'"):
        job_command(["phi2_category"], "t5", SOURCE)


def test_it_is_printed_as_one_line_that_a_shell_takes(bonsai: Run, tmp_path: Path) -> None:
    said = bonsai("train", "phi2_qtq", "--on", "t4-small", cwd=tmp_path, COLUMNS="40").stdout
    assert re.match(r"hf jobs run --flavor t4-small .* -- phi2_qtq && nox -s publish'\n", said)
    wrong = bonsai("train", "phi2_qtqq", "--on", "t4-small", cwd=tmp_path, check=False)
    assert wrong.returncode == 1
    assert "did you mean phi2_qtq" in wrong.stderr
