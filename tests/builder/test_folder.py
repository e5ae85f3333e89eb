from __future__ import annotations

import os
from pathlib import Path

import pytest

from bonsai.builder.folder import replaced_folder, restore


def test_a_failure_leaves_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    old = tmp_path / "dataset"
    old.mkdir()
    (old / "a").write_text("old")

    def interrupted() -> None:
        with replaced_folder(old) as fresh:
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
    with replaced_folder(old) as fresh:
        (fresh / "a").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]
    assert [p.name for p in old.iterdir()] == ["a"]


def test_a_process_killed_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "dataset.old").mkdir()
    (tmp_path / "dataset.old" / "a").write_text("old")
    dead = tmp_path / ".dataset.999999999.abcd"
    dead.mkdir()
    restore(tmp_path / "dataset")
    assert (tmp_path / "dataset" / "a").read_text() == "old"
    assert not dead.exists()


def test_another_living_process_keeps_its_half_written_folder(tmp_path: Path) -> None:
    mine = tmp_path / f".dataset.{os.getpid()}.abcd"
    mine.mkdir()
    restore(tmp_path / "dataset")
    assert mine.exists()
