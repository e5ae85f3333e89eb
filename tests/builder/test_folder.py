from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bonsai.builder.errors import FolderInUseError
from bonsai.builder.files import (
    atomic_create_dir,
    atomic_open,
    atomic_replace_dir,
    atomic_write_text,
    exclusive,
    recover_dir,
)
from tests.conftest import Run


def test_atomic_open_replaces_a_file_only_on_success(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def interrupted() -> None:
        with atomic_open(path) as file:
            file.write(b"new")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    atomic_write_text(path, "盆栽\ud800")
    assert path.read_text(encoding="utf-8") == "盆栽?"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_create_dir_leaves_nothing_on_failure(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_create_dir(tmp_path / "new") as draft:
            (draft / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with atomic_create_dir(tmp_path / "new") as draft:
        (draft / "a").write_text("whole")
        assert not (tmp_path / "new").exists()
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["new", "new/a"]


def test_a_failure_leaves_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    old = tmp_path / "dataset"
    old.mkdir()
    (old / "a").write_text("old")

    def interrupted() -> None:
        with atomic_replace_dir(old) as fresh:
            (fresh / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]
    assert (old / "a").read_text() == "old"


def test_success_replaces_the_folder_as_a_whole(tmp_path: Path) -> None:
    old = tmp_path / "dataset"
    old.mkdir()
    (old / "gone").write_text("old")
    with atomic_replace_dir(old) as fresh:
        (fresh / "a").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]
    assert [p.name for p in old.iterdir()] == ["a"]


def test_a_process_killed_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "dataset.old").mkdir()
    (tmp_path / "dataset.old" / "a").write_text("old")
    dead = tmp_path / ".dataset.999999999.abcd"
    dead.mkdir()
    recover_dir(tmp_path / "dataset")
    assert (tmp_path / "dataset" / "a").read_text() == "old"
    assert not dead.exists()


def test_another_living_process_keeps_its_half_written_folder(tmp_path: Path) -> None:
    mine = tmp_path / f".dataset.{os.getpid()}.abcd"
    mine.mkdir()
    recover_dir(tmp_path / "dataset")
    assert mine.exists()


HOLDER = (
    "import sys\nfrom pathlib import Path\nfrom bonsai.builder.files import exclusive\n"
    "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


def _holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that writes into the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _replace(folder: Path) -> None:
    with atomic_replace_dir(folder) as fresh:
        (fresh / "a").write_text("new")


def test_a_second_process_is_told_who_writes_and_touches_nothing(tmp_path: Path) -> None:
    with _holder(tmp_path / "dataset") as holder:
        (tmp_path / "dataset").mkdir()
        (tmp_path / "dataset" / "a").write_text("old")
        with pytest.raises(FolderInUseError, match=rf"process {holder.pid} \(since \d{{4}}-.*--out FOLDER"):
            _replace(tmp_path / "dataset")
        _replace(tmp_path / "other")
        assert (tmp_path / "dataset" / "a").read_text() == "old"
        holder.communicate("")
    _replace(tmp_path / "dataset")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "other"]


def test_the_lock_of_a_killed_process_goes_with_it(tmp_path: Path) -> None:
    with _holder(tmp_path / "dataset") as holder:
        holder.kill()
    assert (tmp_path / ".dataset.lock").exists()
    _replace(tmp_path / "dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_one_process_may_hold_its_folder_twice_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with exclusive(Path("dataset")), exclusive(tmp_path / "dataset"):
        _replace(tmp_path / "dataset")
        assert (tmp_path / ".dataset.lock").exists()
    assert not (tmp_path / ".dataset.lock").exists()


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["build"], "out/dataset"),
        (["publish", "dataset"], "out/dataset"),
        (["publish", "seedling"], "out/adapters/seedling"),
        (["train", "seedling"], "out/adapters/seedling"),
        (["evaluate", "seedling"], "out/adapters/seedling"),
        (["evaluate", "seedling", "--base"], "out/base/seedling"),
        (["qtq", "Why is the sky blue?", "--model", "seedling"], "out/qtq"),
        (["compare", "seedling", "--questions", "post-en", "--folder", "out/compared"], "out/compared"),
    ],
)
def test_a_command_whose_folder_is_in_use_ends_at_once(
    arguments: list[str], folder: str, bonsai: Run, tmp_path: Path
) -> None:
    with exclusive(tmp_path / folder):
        done = bonsai(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{tmp_path / folder}: process {os.getpid()} (since " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / folder).exists()
