"""The number of threads follows what the machine is doing, unless a person has chosen it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells what its processors do")

LOOK_BESIDE_COMPETITORS = """
import subprocess, sys, time, torch
from bonsai.recipes.training.threads import FreeCores
competitors = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(int(sys.argv[1]))]
try:
    time.sleep(0.3)
    cores = FreeCores()
    time.sleep(1.3)
    cores.adjust()
    print(torch.get_num_threads())
finally:
    for one in competitors: one.kill()
"""


def threads(competitors: int, **env: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if name != "BONSAI_FOLLOWS_LOAD"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK_BESIDE_COMPETITORS, str(competitors)],
        env={**inherited, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_threads_give_way_to_busy_processes() -> None:
    cores = len(os.sched_getaffinity(0))
    assert threads(cores, OMP_NUM_THREADS=str(cores), BONSAI_FOLLOWS_LOAD="1") == 1


def test_threads_a_person_chose_stay() -> None:
    cores = len(os.sched_getaffinity(0))
    assert threads(cores, OMP_NUM_THREADS="2") == 2


def test_one_thread_is_the_least() -> None:
    assert threads(0, OMP_NUM_THREADS="1", BONSAI_FOLLOWS_LOAD="1") == 1
