"""Settings that libraries read when they are imported: their bars and warnings, and how their threads wait."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""environment variables by which a person decides how OpenMP's threads wait"""

UNUSED = ("torchao", "torchaudio", "torchcodec", "torchvision")
"""What transformers, peft, trl and datasets import where it is installed, though no text model needs it."""


def hide_unused_packages() -> None:
    """Let the libraries take packages that are not used here for missing.

    Colab and Kaggle ship a torchao that peft refuses, and where torch was replaced the torchvision of the old one fails
    on import, and with it transformers, peft and trl. To be called before any of them is imported.
    """
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as the import system defines it


def quiet_libraries() -> None:
    """To be called before the libraries are imported: that is when they read most of this.

    Nothing is imported here, for a model behind an address needs none of them.
    """
    os.environ |= {
        "TQDM_DISABLE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it asks for a package that helps inference only
    # trl's 1.16 and peft's 0.21 to mend, on transformers 5.23
    warnings.filterwarnings("ignore", ".*gradient_checkpointing. is deprecated", FutureWarning)


def rest_waiting_threads() -> None:
    """Let OpenMP's threads sleep while they wait, and start no more of them than there are cores to run on.

    By default they spin: beside one other busy process each burns its turn waiting for a thread that has none
    (benchmarks/busy_machine.py has the figures). OpenMP reads this when torch is imported; processes started from here
    inherit it. MKL in torch's wheels computes on the same threads. What a person has set stays.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    cores = available_cores()
    if cores is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def available_cores() -> int | None:
    """Count the physical cores this process may use, by affinity and by its container's quota; None: not known here."""
    if not hasattr(os, "sched_getaffinity"):  # Linux only; elsewhere OpenMP's own count stands
        return None
    # 1. Two hardware threads of one core share its arithmetic units: a second one brings nothing.
    cores = {_core_of(cpu) for cpu in os.sched_getaffinity(0)}
    # 2. A container may have all CPUs and a share of their time; OpenMP does not know of it.
    quota = min(_quotas(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")), default=math.inf)
    return max(1, min(len(cores), math.ceil(quota))) if math.isfinite(quota) else len(cores)


def _core_of(cpu: int) -> str:
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text()
    except OSError:
        return str(cpu)


def _quotas(root: Path, membership: Path) -> list[float]:
    """Find the CPUs' worth of time that this process's control groups (version 2, then 1) allow, outermost last."""
    found: list[tuple[Path, Path | None]] = []
    try:
        own = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")).strip("/")
    except (OSError, StopIteration):
        own = ""
    for folder in (root / own, *(root / own).parents):
        if not folder.is_relative_to(root):
            break
        found.append((folder / "cpu.max", None))
    found.append((root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us"))
    quotas = []
    for quota, period in found:
        try:
            allowed = [*quota.read_text().split(), *(period.read_text().split() if period else ())]
            quotas.append(int(allowed[0]) / int(allowed[1]))
        except (OSError, ValueError, IndexError):  # no such file, or "max"
            continue
    return [one for one in quotas if one > 0]  # version 1 writes -1 for none
