"""Start the `bonsai` command: prepare the process, run what was typed, and exit with a code.

Before `main` runs nothing but the standard library is imported (`bonsai.cli.errors` keeps to it too), so that
Ctrl-C or a broken package during the imports ends in a sentence too. `python -m bonsai.cli.main` comes through here
as well.
"""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bonsai.cli.errors import INTERRUPTED, report

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""environment variables by which a person decides how OpenMP's threads wait"""

UNUSED = ("torchao", "torchaudio", "torchcodec", "torchvision")
"""What transformers, peft, trl and datasets import where it is installed, though no text model needs it."""


def hide_unused_packages() -> None:
    """Make the libraries believe that packages which are not used here are missing.

    Colab and Kaggle ship a torchao that peft refuses, and where torch was replaced the torchvision of the old one fails
    on import, and with it transformers, peft and trl. Call this before any of them is imported.
    """
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as the import system defines it


def main() -> None:
    """Run the command that was typed.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    try:
        # 1. Let no print fail: escape a letter that the terminal's encoding lacks, and send a closed stream nowhere.
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # closed by the caller; the first file opened would take its place
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - lasts as long as we do
            elif isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(
                    errors="backslashreplace"
                )  # not "?": most escapes are still JSON, and tell paths apart
        # 2. Set the Hub's address and proxies before the Hub's clients are imported: that is when they read them.
        from bonsai.hub.server.serve import direct_loopback, is_loopback, on_this_machine

        is_local = is_loopback(urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname)
        os.environ.update(on_this_machine(os.environ) if is_local else direct_loopback(os.environ))
        # 3. Run the command.
        from bonsai.cli.main import app

        code = app(standalone_mode=False, prog_name="bonsai") or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the one place where all of them end
        code = report(error)
    sys.exit(code)


def rest_waiting_threads() -> None:
    """Let OpenMP's threads sleep while they wait, and start no more of them than there are cores to run on.

    By default they spin: beside one other busy process each burns its turn waiting for a thread that has none
    (benchmarks/busy_machine.py has the figures). OpenMP reads this when torch is imported; processes started from here
    inherit it. MKL in torch's wheels computes on the same threads. What a person has set stays.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    cores = available_cores()
    if cores is not None and "OMP_NUM_THREADS" not in os.environ:
        # chosen here, so it may be lowered while others compute (recipes/training/threads.py)
        os.environ |= {"OMP_NUM_THREADS": str(cores), "BONSAI_FOLLOWS_LOAD": "1"}


def available_cores() -> int | None:
    """Count the physical cores this process may use, by affinity and by its container's quota; `None` if unknown."""
    if not hasattr(os, "sched_getaffinity"):  # Linux only; elsewhere OpenMP counts for itself
        return None
    # 1. Two hardware threads of one core share its arithmetic units: a second one brings nothing.
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    # 2. A container may have all CPUs and a share of their time; OpenMP does not know of it.
    quota = min(cpu_quotas(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")), default=math.inf)
    return max(1, min(len(cores), math.ceil(quota))) if math.isfinite(quota) else len(cores)


def cpu_quotas(root: Path, membership: Path) -> list[float]:
    """Find the CPUs' worth of time that this process's control groups (version 2, then 1) allow, outermost last."""
    # 1. Version 2: a line for this process names its group; every group above it may allow less.
    files: list[tuple[Path, Path | None]] = []
    try:
        own = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")).strip("/")
    except (OSError, StopIteration):
        own = ""
    for folder in (root / own, *(root / own).parents):
        if not folder.is_relative_to(root):
            break
        files.append((folder / "cpu.max", None))
    # 2. Version 1: the quota and the period it is counted in are two files.
    files.append((root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us"))
    # 3. Quota divided by period is a number of CPUs.
    quotas = []
    for quota, period in files:
        try:
            allowed = [*quota.read_text().split(), *(period.read_text().split() if period else ())]
            quotas.append(int(allowed[0]) / int(allowed[1]))
        except (OSError, ValueError, IndexError):  # no such file, or "max"
            continue
    return [one for one in quotas if one > 0]  # version 1 writes -1 for none
