"""Bad input, Ctrl-C and a full disk: a sentence, an exit code, and what was there before still there."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bonsai.builder.build import content_hash
from bonsai.builder.records import default_records_dir
from tests.conftest import Run


def test_every_fault_is_listed_and_the_previous_build_stays(bonsai: Run, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    shutil.copytree(default_records_dir(), tmp_path / "records")
    path = tmp_path / "records" / "open_qa.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[0] = lines[0].replace('"category": "open_qa"', '"category": "open"')
    lines[2] = lines[1]
    lines[4] = lines[4][:-1]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = bonsai("build", "--records", "records", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert re.search(r"records/open_qa.jsonl:1: open_qa-0001: the category is 'open'; write one of", done.stderr)
    assert re.search(r"records/open_qa.jsonl:3: open_qa-0002: this id is taken by records/open_qa.jsonl:2", done.stderr)
    assert re.search(r"records/open_qa.jsonl:5: not JSON at column", done.stderr)
    assert "3 faults; nothing was built" in done.stderr
    assert content_hash(tmp_path / "out" / "dataset") == content_hash(dataset)


def test_a_full_disk_is_a_sentence_and_the_previous_build_stays(command: Path, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    done = subprocess.run(
        [command, "build", "--no-check"],
        cwd=tmp_path,
        # no file may grow beyond 64 KiB: the write fails in the middle of a table, as on a full disk
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "what was there before is untouched" in done.stderr
    assert content_hash(tmp_path / "out" / "dataset") == content_hash(dataset)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset"]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.4, 2.0, 4.0])
def test_ctrl_c_in_a_build_leaves_nothing_half_written(
    seconds: float, command: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    process = subprocess.Popen([command, "build"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said or process.returncode == -signal.SIGINT  # before Python has loaded anything of ours
    assert content_hash(tmp_path / "out" / "dataset") == content_hash(dataset)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset"]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 12.0])
def test_ctrl_c_in_training_leaves_no_half_adapter(
    seconds: float, command: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    process = subprocess.Popen(
        [command, "train", "seedling", "--max-steps", "500"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "records, base" in line:
            break
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    assert (process.returncode, "stopped; what was there" in said, "a checkpoint is kept" in said) in (
        (130, True, False),  # while the model was loading
        (1, False, True),  # in the training loop
    )
    assert not list((tmp_path / "out").glob("adapters/*"))
