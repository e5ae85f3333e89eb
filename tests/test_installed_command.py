"""The installed command wherever it may be typed: odd names, odd terminals, odd environments, and its own bugs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from bonsai.builder.records import default_records_dir
from tests.conftest import ROOT, Run

ODD = ("a[v2]", "[/b]", "x:100:", ":smile:", "[bold]")
"""as folder names: what Rich drops, fails on, and turns into pictures"""


def shell(line: str, command: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("bonsai ", f"'{command}' ")],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def odd_records(folder: Path) -> Path:
    """One good group and its translations, every text of which holds names that Rich reads as markup."""
    records = folder / "".join(f"{name}_" for name in ODD if "/" not in name) / "[" / "b]"
    records.mkdir(parents=True)
    line = json.loads((default_records_dir() / "open_qa.jsonl").read_text(encoding="utf-8").splitlines()[0])
    for language in ("ja", "en"):
        line[language]["output"] += " [/b] :smile: [v2] :100: <br>"
    (records / "open_qa.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    return records


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "--records", "{}"),
        ("check", "--records", "{}"),
        ("import", "{}", "--source", "s", "--license", "mit"),
        ("check-rows", "{}", "out.jsonl"),
        ("train", "{}"),
        ("train", "seedling", "--report-to", "{}"),
        ("train", "--on", "{}"),
        ("evaluate", "{}"),
        ("plan", "{}"),
        ("plan", "--base", "{}"),
        ("publish", "{}"),
        ("publish", "dataset", "--out", "{}"),
        ("releases", "list", "{}"),
        ("ask", "Why?", "--model", "./{}", "--out", "{}"),
        ("ask", "Why?", "--base-url", "{}"),
        ("ask", "--questions", "{}"),
        ("qtq", "--questions", "{}"),
        ("compare", "{}", "{}2"),
        ("compare", "--vote", "{}"),
        ("demo", "{}", "--records", "{}"),
        ("{}",),
        ("build", "--{}"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_an_odd_name_is_printed_as_it_is(arguments: tuple[str, ...], bonsai: Run, tmp_path: Path) -> None:
    name = "/".join(f"{number}{odd}" for number, odd in enumerate(ODD))
    done = bonsai(*(part.format(name) for part in arguments), cwd=tmp_path, check=False)
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2), said
    assert "Traceback" not in said
    assert "bug in BONSAI" not in said
    assert name in said


def test_text_of_records_and_long_places_come_through_a_pipe_unbroken(bonsai: Run, tmp_path: Path) -> None:
    records = odd_records(tmp_path / ("long" * 40))
    done = bonsai("check", "--records", str(records), "--notes", cwd=tmp_path, check=False, COLUMNS="40")
    found = [line for line in done.stdout.splitlines() if "open_qa.jsonl:1" in line]
    assert found, done.stdout + done.stderr
    assert all(
        line.split(" ", 1)[1].startswith(f"{records.relative_to(tmp_path)}/open_qa.jsonl:1: open_qa-0001")
        for line in found
    ), found


def test_built_imported_and_marked_files_are_named_as_they_are(bonsai: Run, tmp_path: Path) -> None:
    out = tmp_path / "[" / "b] a[v2] :100: :smile:"
    done = bonsai("build", "--no-check", "--out", str(out), cwd=tmp_path)
    assert f"-> {out}/dataset (card: {out}/dataset/README.md)" in done.stdout
    again = bonsai("build", "--no-check", "--out", str(out), cwd=tmp_path)
    assert f"-> {out}/dataset (card: {out}/dataset/README.md)" in again.stdout

    rows = out / ":100:.jsonl"
    row = {"instruction": "Name [/b] a river :smile:, [v2].", "input": "", "output": "The [/b] Rhine [v2] :100:."}
    rows.write_text(json.dumps(row) + "\n")
    done = bonsai("check-rows", str(rows), str(out / "marked[v2].jsonl"), cwd=tmp_path)
    assert f"-> {out}/marked[v2].jsonl" in done.stdout
    given = ("--source", "[/b]", "--license", "mit", "--to", str(out / "new[v2]"))
    done = bonsai("import", str(rows), *given, cwd=tmp_path)
    assert f"{out}/new[v2]" in done.stdout
    assert f"{rows}:1" in done.stdout or ":100:.jsonl:1" in done.stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp932"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "TERM": "dumb", "NO_COLOR": "1"},
        {"HOME": "/nonexistent", "TERM": ""},
        {"FORCE_COLOR": "1", "COLUMNS": "1"},
        {"COLUMNS": "nonsense"},
    ],
    ids=lambda environment: " ".join(f"{name}={value}" for name, value in environment.items()),
)
def test_no_terminal_makes_a_print_fail(environment: dict[str, str], bonsai: Run, tmp_path: Path) -> None:
    records = odd_records(tmp_path)
    path = records / "open_qa.jsonl"
    line = json.loads(path.read_text(encoding="utf-8"))
    line["en"]["output"] += " 开门 \U0001f600 \ud83d"
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    for arguments in (("--help",), ("check", "--records", records, "--notes"), ("build", "--no-check", "--again")):
        done = bonsai(*arguments, cwd=tmp_path, check=False, **environment)
        assert done.returncode == 0 if arguments[0] != "check" else done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert "bug in BONSAI" not in done.stderr


def test_a_closed_a_full_and_an_abandoned_output_end_quietly(command: Path, dataset: Path, tmp_path: Path) -> None:
    for line, codes in {
        # 0 where all was written before head went away
        "bonsai --help | head -1": ("1 0", "0 0"),
        "bonsai check --notes | head -1": ("1 0", "0 0"),
        "bonsai --help >&-": ("0",),
        "bonsai check >&- 2>&-": ("0",),
        "bonsai --help >/dev/full": ("1",),
    }.items():
        done = shell(line + '; echo "${PIPESTATUS[*]}" >&2' if "2>&-" not in line else line, command, tmp_path)
        assert "Traceback" not in done.stderr, line
        assert "Exception ignored" not in done.stderr, line
        if "2>&-" not in line:
            assert done.stderr.splitlines()[-1] in codes, (line, done.stderr)


@pytest.mark.parametrize("output", ["| head -1", "> /dev/full"])
def test_a_build_outlives_whoever_read_its_output(output: str, command: Path, tmp_path: Path) -> None:
    done = shell(f"bonsai build --no-check {output}; echo ${{PIPESTATUS[0]}} >&2", command, tmp_path)
    assert done.stderr == "0\n"
    assert (tmp_path / "out/dataset/README.md").is_file()
    assert shell("bonsai build --no-check", command, tmp_path).stdout.count("nothing has changed") == 1


def test_a_folder_that_cannot_be_written_and_one_that_is_gone_are_named(command: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = shell("bonsai build --no-check --out file/out", command, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "file/out" in done.stderr
    done = shell("mkdir gone && cd gone && rmdir ../gone && bonsai build --no-check", command, tmp_path)
    assert (done.returncode, done.stderr.count("\n"), "Traceback" in done.stderr) == (1, 1, False), done.stderr


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("import nosuchpackage", "the package nosuchpackage is not installed; run `pip install nosuchpackage`"),
        ("import gguf.nosuch", "run `pip install 'qeu-bonsai[train]'`"),
        ("from yaml import nosuch", "the installed yaml"),
        ("raise KeyboardInterrupt", "stopped; what was there before is untouched"),
        ("raise MemoryError", "the memory of this machine or its GPU is not enough"),
        (
            "raise RuntimeError('CUDA out of memory. Tried to allocate\\n2 GiB')",
            "(CUDA out of memory. Tried to allocate 2",
        ),
        ("raise PermissionError(13, 'Permission denied', 'x[v2]')", "x[v2]: Permission denied; what was there before"),
        ("import yaml; yaml.safe_load('[')", "yaml ended the command: while parsing"),
        ("raise ValueError('a[/b]\\nb')", "this is a bug in BONSAI (ValueError: a[/b] b); please report it"),
    ],
)
def test_an_error_at_import_is_a_sentence_and_a_bug_keeps_its_traceback(
    broken: str, sentence: str, command: Path, tmp_path: Path
) -> None:
    """A copy of the installed package in which the command's own module fails."""
    site = next((command.parents[1] / "lib").glob("python*/site-packages"))
    shutil.copytree(site / "bonsai", tmp_path / "bonsai", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bonsai/cli/dataset.py").write_text(f"{broken}\n")
    (tmp_path / "temporary").mkdir()
    token = "hf_planted_in_the_environment"
    environment = {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "temporary"), "HF_TOKEN": token}
    done = shell("bonsai build", command, tmp_path, **environment)
    assert done.stderr.count("\n") == 1, done.stderr
    assert sentence in done.stderr
    assert done.returncode == (130 if "stopped" in sentence else 1)
    kept = list((tmp_path / "temporary").glob("bonsai-traceback-*.txt"))
    assert len(kept) == ("ended the command" in sentence or "bug" in sentence)
    for path in kept:
        assert str(path) in done.stderr
        assert broken.partition(";")[0] in path.read_text(encoding="utf-8")


def test_where_no_traceback_can_be_kept_it_is_shown(command: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import tempfile\ndef no(*a, **k): raise OSError(28, 'full')\ntempfile.mkstemp = no\n"
        "import typer\ndef fail(*a, **k): raise LookupError('hf_planted_in_the_environment')\n"
        "typer.Typer.command = fail\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "HF_TOKEN": "hf_planted_in_the_environment"}
    done = shell("bonsai build", command, tmp_path, **environment)
    assert done.stderr.startswith("sitecustomize ended the command: (token) (LookupError); the traceback is in the")
    assert "Traceback (most recent call last)" in done.stderr
    assert "planted_in" not in done.stderr


def test_the_version_is_told_with_what_it_computes_with_though_that_is_broken(
    bonsai: Run, command: Path, tmp_path: Path
) -> None:
    for package in ("torch", "transformers", "datasets", "huggingface_hub"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('broken')")
    (tmp_path / "peft-0.0.7.dist-info").mkdir()
    (tmp_path / "peft-0.0.7.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.0.7\n")
    done = bonsai("--version", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    site = next((command.parents[1] / "lib").glob("python*/site-packages"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    first, *others = done.stdout.splitlines()
    assert first.startswith(f"qeu-bonsai {version} from {site.resolve()}")
    assert f"torch {importlib.metadata.version('torch')}" in others
    assert "peft 0.0.7" in others
    assert done.stderr == ""


def test_the_module_takes_the_same_way(command: Path, tmp_path: Path) -> None:
    python = command.with_name("python")
    done = shell(f"'{python}' -m bonsai.cli.main train nosuch", command, tmp_path)
    assert (done.returncode, done.stderr) == (1, shell("bonsai train nosuch", command, tmp_path).stderr)
