"""A disk that is full, at any place of a build, a training or a release: a sentence, nothing half, a rerun with room.

Each is tried with several amounts of room, so that the disk is full at the first write, at the last, and in between.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from bonsai.builder.build import build_dataset
from bonsai.builder.errors import DiskFullError
from bonsai.builder.records import default_records_dir
from bonsai.hub.retry import PushError
from bonsai.hub.server.serve import run_hub
from tests.conftest import ROOT
from tests.faults.cases import KINDS, End, assert_released, end_of, head_of, prepared, release
from tests.faults.small_disk import SmallDisk, small_disk
from tests.faults.stage import staged

WEIGHTS = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
BIG = replace(KINDS["adapter"], after=KINDS["adapter"].after | {"adapter_model.safetensors": save({"a": WEIGHTS})})
"""320 kB of weights that do not compress"""
UNTAGGED = "main holds the whole release at [0-9a-f]{12}, but it is not tagged v0.2.0; publish again, which only finis"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 32) as made:
        yield made


def records(folder: Path, number: int) -> Path:
    """So many groups of each category."""
    folder.mkdir()
    for path in default_records_dir().glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:number]), encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_build_without_room_leaves_the_one_before(disk: SmallDisk, tmp_path: Path) -> None:
    earlier, later = records(tmp_path / "earlier", 11), records(tmp_path / "later", 12)
    build_dataset(later, tmp_path / "wanted", "qeu/bonsai")
    wanted, out = contents(tmp_path / "wanted"), disk.path / "out" / "dataset"
    build_dataset(earlier, out, "qeu/bonsai")
    before, size = contents(out), sum(map(len, wanted.values()))
    for room in (0, 4096, size // 3, size // 2, size - 30_000):
        disk.leave(room)
        with pytest.raises(DiskFullError, match=r"no room is left on the disk of .*: make room and run the same comm"):
            build_dataset(later, out, "qeu/bonsai")
        assert contents(out) == before
        assert [path.name for path in out.parent.iterdir()] == ["dataset"]
    disk.leave(None)
    build_dataset(later, out, "qeu/bonsai")
    assert contents(out) == wanted


@pytest.mark.slow
def test_a_training_without_room_keeps_its_whole_checkpoints_and_goes_on_from_them(
    disk: SmallDisk, dataset: Path, tmp_path: Path
) -> None:
    rooms = (0, 4_096, 60_000, 130_000, 200_000, 400_000, 2_000_000)
    with run_hub(tmp_path / "hub", users={"qeu": "t"}) as hub:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.full_training", str(dataset), str(disk.path), *map(str, rooms)],
            cwd=ROOT,
            env={**os.environ, **hub.environment(), "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    attempts = [json.loads(line) for line in done.stdout.splitlines() if line]
    for seen in attempts[:-1]:
        assert not seen["ended"], seen
        assert not seen["adapter"], seen
        assert re.fullmatch(
            r"\S+/adapter: no room is left on the disk of .*; what was there before is untouched: make room, then "
            r"`nox -s train -- tiny --resume` continues from the last complete checkpoint",
            seen["told"],
        ), seen
    assert attempts[-1]["ended"]
    assert {seen["step"] for seen in attempts[:-1]} >= {0, 1}, "no room was such that one checkpoint was whole"
    assert all(seen["same"] for seen in attempts)


@pytest.mark.slow
def test_a_release_to_a_hub_without_room_leaves_main_as_it_was(disk: SmallDisk) -> None:
    with staged(disk.path / "hub") as stage:
        for room in (0, 8_192, 40_000, 200_000, 330_000):
            repo_id = prepared(stage, BIG)
            head = head_of(stage, BIG, repo_id)
            disk.leave(room)
            with pytest.raises(
                PushError, match=r"507 .*: the disk of this Hub is full; make room .* is as it was; pub"
            ):
                release(stage.straight, BIG, repo_id)
            assert end_of(stage, BIG, repo_id, head) is End.AS_BEFORE
            disk.leave(None)
            assert release(stage.straight, BIG, repo_id).changed
            assert_released(stage, BIG, repo_id)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Not enough free disk space:UserWarning")
def test_a_release_that_cannot_be_downloaded_for_want_of_room_is_finished_by_the_next(
    disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if disk.path.is_relative_to("/proc"):
        pytest.skip("huggingface_hub resolves a namespace's path to one outside it: only root can try this")
    with staged(tmp_path / "hub") as stage:
        for room in (0, 40_000, 200_000, 330_000):
            repo_id = prepared(stage, BIG)
            head = head_of(stage, BIG, repo_id)
            disk.leave(room)
            monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
            with pytest.raises(PushError, match=f"{disk.path}: no room is left on this disk; {repo_id}: {UNTAGGED}"):
                release(stage.straight, BIG, repo_id)
            monkeypatch.undo()
            assert end_of(stage, BIG, repo_id, head) is End.UNTAGGED
            assert [path.name for path in disk.path.iterdir()] == ["ballast"]
            disk.leave(None)
            assert not release(stage.straight, BIG, repo_id).changed
            assert_released(stage, BIG, repo_id)
