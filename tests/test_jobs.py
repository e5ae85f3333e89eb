"""The line and the script for Hugging Face Jobs, held against the installed client."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import huggingface_hub
import pytest

from bonsai.cli.train import SCRIPT, TIMEOUT, job_command
from bonsai.recipes.training.recipe import RecipeError, recipe_names
from bonsai.recipes.training.run_record import CHECKOUT, PACKAGES
from tests.conftest import HF, Run

SOURCE = "https://github.com/qeu/bonsai"


def dry_run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What the installed client makes of the line, short of renting anything."""
    at = command.index("run") + 1
    return subprocess.run(
        [*HF, *command[1:at], "--dry-run", "--namespace", "qeu", *command[at:]],
        env={"HF_TOKEN": "hf_none", "HF_HOME": str(folder), "HF_ENDPOINT": "http://127.0.0.1:9", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(huggingface_hub.__version__ < "2", reason="the client of huggingface_hub 1 has no --dry-run")
@pytest.mark.parametrize("flavor", ["t4-small", "t4-medium", "l4x1"])
def test_the_client_takes_the_very_words(flavor: str, tmp_path: Path) -> None:
    done = dry_run(job_command(["phi2_category", "phi2_qtq"], flavor, SOURCE), tmp_path)
    assert done.returncode == 0, done.stderr
    assert flavor in done.stdout
    assert "jobs/train.py" in done.stdout
    assert "phi2_category phi2_qtq" in done.stdout
    assert re.search(r"timeout\W+(3h|10800)", done.stdout)
    assert "hf_none" not in done.stdout


def test_without_a_checkout_the_script_comes_from_where_the_source_lies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bonsai.recipes.training.run_record.CHECKOUT", tmp_path)
    assert job_command(["seedling"], "t4-small", SOURCE)[-2:] == [f"{SOURCE}/raw/main/jobs/train.py", "seedling"]


def test_the_script_asks_for_this_project_and_pins_what_decides_a_run() -> None:
    header = re.search(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", (CHECKOUT / SCRIPT).read_text(encoding="utf-8"))
    assert header
    told = tomllib.loads(re.sub(r"(?m)^# ?", "", header[1]))
    project, *pinned = told["dependencies"]
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project == f"{settings['name']}[train] @ git+{SOURCE}"
    assert told["requires-python"] == settings["requires-python"]
    constraints = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert set(pinned) <= set(constraints)
    assert {line.split("==")[0] for line in pinned} == set(PACKAGES)
    assert told["tool"]["hf-jobs"] == {"flavor": "t4-small", "timeout": TIMEOUT, "secrets": ["HF_TOKEN"]}


def test_the_script_is_no_recipe() -> None:
    assert "train" not in recipe_names()


@pytest.mark.slow
def test_the_script_builds_trains_and_publishes(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BONSAI_"))}
    (tmp_path / "uv").write_text("#!/bin/sh\nexit 0\n")  # the weights' package is installed beside the tests
    (tmp_path / "uv").chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / SCRIPT), "seedling", "--max-steps", "2"],
        cwd=tmp_path,
        env={**kept, "UV": str(tmp_path / "uv")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the card's snippet loaded qeu/bonsai-seedling" in done.stdout


def test_a_flavor_that_is_not_rented_out_is_refused_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"no 't5' in the installed client; choose from .*'t4-small'"):
        job_command(["phi2_category"], "t5", SOURCE)


def test_it_is_printed_as_one_line_that_a_shell_takes(bonsai: Run, tmp_path: Path) -> None:
    said = bonsai("train", "phi2_qtq", "--on", "t4-small", cwd=tmp_path, COLUMNS="40").stdout
    line, rest = said.split("\n", 1)
    assert re.fullmatch(r"hf jobs uv run --flavor t4-small --timeout 3h .*jobs/train\.py phi2_qtq", line)
    assert shlex.split(line)[-2] == f"{SOURCE}/raw/main/{SCRIPT}"  # the installed command has no checkout beside it
    assert "0.40 USD an hour (2026-11)" in " ".join(rest.split())
    wrong = bonsai("train", "phi2_qtqq", "--on", "t4-small", cwd=tmp_path, check=False)
    assert wrong.returncode == 1
    assert "did you mean phi2_qtq" in wrong.stderr
