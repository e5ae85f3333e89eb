"""A second build of unchanged records is not made again, and any change is seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bonsai.builder.records import default_records_dir
from tests.conftest import Run

STANDS = "nothing has changed since that build"


def a_record_is_edited(folder: Path) -> None:
    path = folder / "records" / "open_qa.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("。", "。 ", 1), encoding="utf-8")


def a_made_file_is_edited(folder: Path) -> None:
    (folder / "out" / "dataset" / "README.md").write_text("mine")


def a_made_file_is_lost(folder: Path) -> None:
    (folder / "out" / "dataset" / "croissant.json").unlink()


def the_note_is_damaged(folder: Path) -> None:
    (folder / "out" / "dataset.built.json").write_text("{")


CHANGES: list[Callable[[Path], None]] = [
    a_record_is_edited,
    a_made_file_is_edited,
    a_made_file_is_lost,
    the_note_is_damaged,
]


@pytest.mark.slow
def test_a_build_stands_until_something_changes(bonsai: Run, tmp_path: Path) -> None:
    shutil.copytree(default_records_dir(), tmp_path / "records")
    command = ("build", "--no-check", "--records", "records")
    first = bonsai(*command, cwd=tmp_path).stdout
    second = bonsai(*command, cwd=tmp_path).stdout
    assert STANDS not in first
    assert STANDS in second
    assert first.splitlines()[-1] == second.splitlines()[0]  # what was made, and where
    for change in CHANGES:
        change(tmp_path)
        assert STANDS not in bonsai(*command, cwd=tmp_path).stdout, change.__name__
    assert STANDS not in bonsai(*command, cwd=tmp_path, BONSAI_NAMESPACE="somebody").stdout
    assert STANDS not in bonsai(*command, "--again", cwd=tmp_path, BONSAI_NAMESPACE="somebody").stdout
