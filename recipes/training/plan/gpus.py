"""The GPUs a plan is made for: memory, what their kernels sustain, and list prices.

Peaks are NVIDIA's datasheets'; what of them is sustained is assumed where no run of ours says it, and given as a range.
The H100 is the GPU that was measured. T4: GEMM 25-40 of 65 TFLOP/s at 70 W, memory 236-262 of
320 GB/s (Jia et al., https://arxiv.org/abs/1903.07486, measured 220 GiB/s). L4: 72 W hold it below its 121 TFLOP/s.
Between GPUs: PCIe for T4 and L4, NVLink for A100 and H100.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bonsai.recipes.training.plan.memory import HOPPER_WORKSPACE, WORKSPACE

PRICES_READ = "2026-11"
PRICES_FROM = "huggingface.co/docs/hub/jobs-pricing"


class Range(NamedTuple):
    """Two ends: of a GPU's figures the unfavourable one first; of times the shorter."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU."""

    name: str
    memory_gib: float
    """what nvidia-smi calls its whole memory"""
    gemm_tflops: Range | None
    """float16 matrix products, sustained; None: the GPU that was measured"""
    bandwidth_gb: Range | None
    """of its memory, sustained, GB a second"""
    attention_share: Range
    """speed of the memory-efficient attention kernel, in parts of the measured GPU's: by tensor cores, and by
    multiprocessors times clock; the kernel is between the two"""
    host_slowness: Range
    """how much longer its usual machine takes to start a kernel"""
    flavour: str | None
    """on Hugging Face Jobs; None: not rented out there, and the price is assumed"""
    usd_per_hour: float
    link_gb: Range
    """what gradients' summing sustains between GPUs of one machine, GB a second each way; assumed"""
    hopper: bool = False

    @property
    def workspace(self) -> int:
        """Bytes of a cuBLAS workspace."""
        return HOPPER_WORKSPACE if self.hopper else WORKSPACE


T4 = Gpu(
    name="T4",
    memory_gib=15.0,
    gemm_tflops=Range(25, 40),
    bandwidth_gb=Range(236, 262),
    attention_share=Range(1 / 13, 1 / 5.3),
    host_slowness=Range(2.0, 1.0),
    flavour="t4-small",
    usd_per_hour=0.40,
    link_gb=Range(3, 8),
)
L4 = Gpu(
    name="L4",
    memory_gib=22.5,
    gemm_tflops=Range(50, 75),
    bandwidth_gb=Range(240, 270),
    attention_share=Range(1 / 6.6, 1 / 2.7),
    host_slowness=Range(1.5, 1.0),
    flavour="l4x1",
    usd_per_hour=0.80,
    link_gb=Range(5, 12),
)
A100 = Gpu(
    name="A100 80 GB",
    memory_gib=79.2,
    gemm_tflops=Range(200, 250),
    bandwidth_gb=Range(1700, 1850),
    attention_share=Range(1 / 1.9, 1 / 1.5),
    host_slowness=Range(1.5, 1.0),
    flavour="a100-large",
    usd_per_hour=2.50,
    link_gb=Range(100, 230),
)
H100 = Gpu(
    name="H100",
    memory_gib=79.6,
    gemm_tflops=None,
    bandwidth_gb=None,
    attention_share=Range(1.0, 1.0),
    host_slowness=Range(1.0, 1.0),
    flavour=None,
    usd_per_hour=4.50,
    link_gb=Range(150, 370),
    hopper=True,
)
GPUS = (T4, L4, A100, H100)
JOB_PRICES = {**{gpu.flavour: gpu.usd_per_hour for gpu in GPUS if gpu.flavour}, "t4-medium": 0.60}
"""US dollars an hour by flavor, of ``PRICES_READ``; of the others the list at ``PRICES_FROM`` tells"""


def usd_per_hour(device_name: str) -> float | None:
    """The list price of a GPU by the name its driver gives it ("Tesla T4"); None: none is known."""
    words = device_name.replace("-", " ").split()
    return next((gpu.usd_per_hour for gpu in GPUS if gpu.name.split()[0] in words), None)


CPU_TOKENS_PER_SECOND = {"qeu/SmolLM2-135M-Instruct-Q4_1-dequantized": 138.0}
"""measured on two cores on 2026-11-21 (60 steps, 23,853 tokens, 173 s with both evaluations)"""
