"""Memory of a run: its peak, of the device where there is one and of the process elsewhere; and giving it back."""

from __future__ import annotations

import gc
import sys

import torch


def peak_memory_gib() -> float:
    """GiB at the highest point so far; 0 on a CPU whose system has no `resource` (Windows), where it is not known."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def release_memory() -> None:
    """Free what nobody refers to any more, cycles included, on the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
