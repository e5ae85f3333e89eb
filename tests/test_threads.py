"""How OpenMP's threads wait, and how many there are, as a process started by the command sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bonsai.cli.entry_point import cpu_quotas

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
TOLD = f"""
import json, os, sys
from bonsai.cli.main import main
sys.argv = ["bonsai", "--help"]
try: main()
except SystemExit: pass
assert "torch" not in sys.modules
print(json.dumps({{name: os.environ.get(name) for name in {NAMES!r}}}))
"""


def told(code: str = TOLD, **env: str) -> dict[str, str | None]:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | env
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_threads_sleep_while_they_wait_in_every_command() -> None:
    found = told()
    assert found["OMP_WAIT_POLICY"] == "passive"
    assert found["GOMP_SPINCOUNT"] is None
    if hasattr(os, "sched_getaffinity"):
        assert 1 <= int(found["OMP_NUM_THREADS"] or 0) <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "chosen", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "9"}, {"KMP_BLOCKTIME": "1"}, {"OMP_NUM_THREADS": "7"}]
)
def test_what_a_person_set_stays(chosen: dict[str, str]) -> None:
    found = told(**chosen)
    assert {name: found[name] for name in chosen} == chosen
    if "OMP_NUM_THREADS" not in chosen:
        assert [found[name] for name in NAMES[:3]].count(None) == 2  # nothing beside it


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_torch_computes_on_the_cores_this_process_may_use() -> None:
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    threads = TOLD.replace(
        "print(", "import torch\nos.environ['OMP_NUM_THREADS'] += f' {torch.get_num_threads()}'\nprint("
    )
    assert told(one + threads)["OMP_NUM_THREADS"] == "1 1"


def test_a_containers_quota_counts_where_it_is_the_smallest(tmp_path: Path) -> None:
    inner = tmp_path / "cgroup" / "user" / "job"
    inner.mkdir(parents=True)
    (tmp_path / "membership").write_text("9:name=systemd:/\n0::/user/job\n")
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("250000 100000\n")
    assert cpu_quotas(tmp_path / "cgroup", tmp_path / "membership") == [2.5]
    old = tmp_path / "cgroup" / "cpu"
    old.mkdir()
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quotas(tmp_path / "cgroup", tmp_path / "none") == []
    (old / "cpu.cfs_quota_us").write_text("150000\n")
    assert cpu_quotas(tmp_path / "cgroup", tmp_path / "none") == [1.5]
