"""The GPUs that a plan knows, with their prices; ``gpus.toml`` has the figures and their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from bonsai.builder.assets import load_table


class Bounds(NamedTuple):
    """A range: of a GPU's figures the unfavourable end first; of times the shorter."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU."""

    name: str
    memory_gib: float
    """total memory, as nvidia-smi shows it"""
    gemm_tflops: Bounds | None = None
    """float16 matrix products, sustained; None: the GPU that was measured"""
    bandwidth_gb: Bounds | None = None
    """of its memory, sustained, GB/s; None: the GPU that was measured"""
    attention_slowdown: Bounds
    """how many times as long the memory-efficient attention kernel takes as on the measured GPU: by tensor cores, and
    by multiprocessors times clock; the kernel is between the two"""
    launch_overhead: Bounds
    """how many times as long its usual host takes to launch a kernel"""
    flavour: str | None = None
    """on Hugging Face Jobs; None: not offered there, and the price is assumed"""
    usd_per_hour: float
    link_gb: Bounds
    """what an all-reduce sustains between GPUs of one machine, GB/s each way; assumed"""
    workspace: int = 8519680
    """bytes PyTorch gives cuBLAS for each thread and stream (CUBLAS_WORKSPACE_CONFIG's default)"""


_TABLE = load_table(__package__, "gpus.toml")
PRICES_READ: str = _TABLE["prices_read"]
PRICES_FROM: str = _TABLE["prices_from"]


def _gpu(figures: dict[str, Any]) -> Gpu:
    fields: dict[str, Any] = {name: Bounds(*x) if isinstance(x, list) else x for name, x in figures.items()}
    return Gpu(**fields)


T4, L4, A100, H100 = GPUS = tuple(_gpu(figures) for figures in _TABLE["gpus"])
JOB_PRICES: dict[str, float] = {
    **{gpu.flavour: gpu.usd_per_hour for gpu in GPUS if gpu.flavour},
    **_TABLE["more_prices"],
}
"""US dollars an hour by flavor, of ``PRICES_READ``; the others are listed at ``PRICES_FROM``"""


def list_price(device_name: str) -> float | None:
    """Look up the US$ an hour of a GPU by the name its driver gives it ("Tesla T4"); None: unknown."""
    words = device_name.replace("-", " ").split()
    return next((gpu.usd_per_hour for gpu in GPUS if gpu.name.split()[0] in words), None)
