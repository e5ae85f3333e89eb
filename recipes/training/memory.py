"""Peak memory of a run: of the device where there is one, of the process elsewhere."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory_gib() -> float:
    """GiB at the highest point so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
