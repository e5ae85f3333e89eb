"""Compute on the CPU cores that other processes leave free.

OpenMP splits each product evenly among its threads, and all wait for the last: on two cores beside one busy process a
thread that has to share its core makes the other wait, and two threads are slower than one. So the number of threads
follows what the machine is doing (benchmarks/busy_machine.py has the figures). The result does not depend on it: torch
splits a product by rows and columns of the result, never within a sum.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

FOLLOWS_LOAD = "BONSAI_FOLLOWS_LOAD"
"""environment variable: the command chose OMP_NUM_THREADS, not a person, so it may be lowered"""
LOOK_SECONDS = 1.0
"""the kernel counts processor time in hundredths of a second, so a shorter look says little"""


class FreeCores:
    """Keep torch's threads at the number of cores that nobody else uses; whoever sets OMP_NUM_THREADS is obeyed."""

    def __init__(self) -> None:
        follows = FOLLOWS_LOAD in os.environ and not torch.cuda.is_available()
        self._cores = int(os.environ["OMP_NUM_THREADS"]) if follows else None
        self._since = self._read()

    def adjust(self) -> None:
        """Look at the machine again, if a second has passed, and set the number of threads for what comes."""
        if self._cores is None or self._since is None or time.monotonic() - self._since[0] < LOOK_SECONDS:
            return
        before, self._since = self._since, self._read()
        if self._since is None:
            return
        seconds, busy, own = (now - then for now, then in zip(self._since, before, strict=True))
        free = len(os.sched_getaffinity(0)) - max(0.0, busy - own) / seconds
        threads = max(1, min(self._cores, round(free)))
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        """Return the time, and the seconds that all and this process have used of its processors; None off Linux."""
        busy = 0
        try:
            ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
            for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines():
                name, *ticks = line.split()
                if name in ours:
                    user, nice, system, _, _, irq, softirq = map(int, ticks[:7])  # between: idle, waiting for a disk
                    busy += user + nice + system + irq + softirq
        except (AttributeError, OSError):
            return None
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), own
