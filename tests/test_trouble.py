"""Bad input, Ctrl-C and a full disk: a sentence, an exit code, and what was there before still there."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import signal
import socket
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


WRONG: list[tuple[tuple[str, ...], str]] = [
    # a choice that there is not
    (("ask", "Why?", "--language", "klingon"), "'--language': 'klingon' is not one of 'ja', 'en', 'zh'"),
    (("qtq", "Why?", "--language", "JP"), "'--language': 'JP' is not one of"),
    (("ask", "Why?", "--dtype", "int8"), "'--dtype': 'int8' is not one of 'float32', 'float16', 'bfloat16'"),
    (("import", "rows.csv", "--source", "s", "--license", "mit", "--expect", "de"), "'de' is not one of 'ja', 'zh'"),
    (("hub", "--port", "70000"), "port 70000 does not exist"),
    # a link that leads to itself, in place of a folder or a file
    (("build", "--records", "loop"), "loop"),
    (("build", "--no-check", "--out", "loop"), "loop"),
    (("check", "--records", "loop"), "loop"),
    (("ask", "--questions", "loop"), "loop: Too many levels of symbolic links"),
    (("import", "rows.csv", "--source", "s", "--license", "mit", "--to", "loop/x"), "Too many levels of symbolic"),
    # something is there, and is something else
    (("ask", "Why?", "--model", "folder"), "folder is a folder with neither adapter_config.json nor config.json"),
    (("ask", "Why?", "--model", "./folder"), "./folder is a folder with neither"),
    (("ask", "Why?", "--model", "{}/folder"), "/folder is a folder with neither"),
    (("ask", "Why?", "--model", "rows.csv"), "rows.csv is a file, but not a .gguf file"),
    (("compare", "folder", "rows.csv"), "folder is a folder with neither"),
    (("ask", "--questions", "folder"), "folder: Is a directory"),
    (("build", "--records", "records"), "records/a.jsonl: Is a directory"),
    (
        ("import", "folder", "--source", "s", "--license", "mit"),
        "folder: a folder without Parquet, Arrow or JSONL files",
    ),
    (("train", "--out", "rows.csv"), "rows.csv/"),
    # nothing is made yet: told before the base model is made ready, which takes half a minute
    (("train",), "out/dataset: no dataset is built here"),
    (("evaluate", "seedling"), "out/adapters/seedling: there is no adapter in this folder"),
    (("evaluate", "seedling", "--base"), "out/dataset: no dataset is built here"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=lambda value: " ".join(value)[:60])
def test_a_wrong_input_is_a_sentence_that_names_it(
    arguments: tuple[str, ...], sentence: str, bonsai: Run, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "records" / "a.jsonl").mkdir(parents=True)
    (tmp_path / "rows.csv").write_text("instruction,input,output\nName a river.,,The Rhine.\n")
    (tmp_path / "loop").symlink_to("loop")
    done = bonsai(
        *(part.format(tmp_path) for part in arguments),
        cwd=tmp_path,
        check=False,
        HF_ENDPOINT="http://127.0.0.1:9",  # the names of models are not looked up
    )
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug in BONSAI" not in done.stderr
    assert "ended the command" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3  # a fault of records is counted below it
    assert not list((tmp_path / "out").rglob("*SmolLM2*"))  # no base was made ready for it


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")
def test_a_taken_port_is_told_before_a_model_is_opened(bonsai: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = bonsai("demo", "no-such-model", "--port", str(port), cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used (Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1
    done = bonsai("demo", "no-such-model", "--port", "70000", cwd=tmp_path, check=False)
    assert "port 70000 of 127.0.0.1 cannot be used" in done.stderr


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
