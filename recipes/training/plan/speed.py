"""Estimate the step time on a GPU from kernel times measured on an H100.

Peaks are from NVIDIA's datasheets; how much of them is sustained is assumed where we have no run of our own, and given
as a range. The H100 is the GPU that was measured. T4: GEMM 25-40 of 65 TFLOP/s at 70 W, memory 236-262 of
320 GB/s (Jia et al., https://arxiv.org/abs/1903.07486, measured 220 GiB/s). L4: 72 W hold it below its 121 TFLOP/s.
Between GPUs: PCIe for T4 and L4, NVLink for A100 and H100.

Roofline (https://doi.org/10.1145/1498765.1498785): matrix products scale with arithmetic, element-wise kernels and
dequantisation with memory bandwidth, attention with its kernel's own share of arithmetic; where launching the kernels
takes longer than running them, the host decides. kernel_times.json holds the measurements with device and date. This
is an estimate, never a measurement of the GPU in question.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from bonsai.recipes.training.plan.memory import HOPPER_WORKSPACE, WORKSPACE, Rows, saved_activations
from bonsai.recipes.training.plan.model_shapes import PHI_2, PHI_3_MINI, Kind, ModelShape

PRICES_READ = "2026-11"
PRICES_FROM = "huggingface.co/docs/hub/jobs-pricing"


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
    gemm_tflops: Bounds | None
    """float16 matrix products, sustained; None: the GPU that was measured"""
    bandwidth_gb: Bounds | None
    """of its memory, sustained, GB/s; None: the GPU that was measured"""
    attention_share: Bounds
    """speed of the memory-efficient attention kernel relative to the measured GPU: by tensor cores, and by
    multiprocessors times clock; the kernel is between the two"""
    launch_overhead: Bounds
    """how many times as long its usual host takes to launch a kernel"""
    flavour: str | None
    """on Hugging Face Jobs; None: not offered there, and the price is assumed"""
    usd_per_hour: float
    link_gb: Bounds
    """what an all-reduce sustains between GPUs of one machine, GB/s each way; assumed"""
    hopper: bool = False

    @property
    def workspace(self) -> int:
        """Bytes of a cuBLAS workspace."""
        return HOPPER_WORKSPACE if self.hopper else WORKSPACE


T4 = Gpu(
    name="T4",
    memory_gib=15.0,
    gemm_tflops=Bounds(25, 40),
    bandwidth_gb=Bounds(236, 262),
    attention_share=Bounds(1 / 13, 1 / 5.3),
    launch_overhead=Bounds(2.0, 1.0),
    flavour="t4-small",
    usd_per_hour=0.40,
    link_gb=Bounds(3, 8),
)
L4 = Gpu(
    name="L4",
    memory_gib=22.5,
    gemm_tflops=Bounds(50, 75),
    bandwidth_gb=Bounds(240, 270),
    attention_share=Bounds(1 / 6.6, 1 / 2.7),
    launch_overhead=Bounds(1.5, 1.0),
    flavour="l4x1",
    usd_per_hour=0.80,
    link_gb=Bounds(5, 12),
)
A100 = Gpu(
    name="A100 80 GB",
    memory_gib=79.2,
    gemm_tflops=Bounds(200, 250),
    bandwidth_gb=Bounds(1700, 1850),
    attention_share=Bounds(1 / 1.9, 1 / 1.5),
    launch_overhead=Bounds(1.5, 1.0),
    flavour="a100-large",
    usd_per_hour=2.50,
    link_gb=Bounds(100, 230),
)
H100 = Gpu(
    name="H100",
    memory_gib=79.6,
    gemm_tflops=None,
    bandwidth_gb=None,
    attention_share=Bounds(1.0, 1.0),
    launch_overhead=Bounds(1.0, 1.0),
    flavour=None,
    usd_per_hour=4.50,
    link_gb=Bounds(150, 370),
    hopper=True,
)
GPUS = (T4, L4, A100, H100)
JOB_PRICES = {**{gpu.flavour: gpu.usd_per_hour for gpu in GPUS if gpu.flavour}, "t4-medium": 0.60}
"""US dollars an hour by flavor, of ``PRICES_READ``; the others are listed at ``PRICES_FROM``"""


def list_price(device_name: str) -> float | None:
    """Look up the US$ an hour of a GPU by the name its driver gives it ("Tesla T4"); None: unknown."""
    words = device_name.replace("-", " ").split()
    return next((gpu.usd_per_hour for gpu in GPUS if gpu.name.split()[0] in words), None)


CPU_TOKENS_PER_SECOND = {"qeu/SmolLM2-135M-Instruct-Q4_1-dequantized": 138.0}
"""measured on two cores on 2026-11-21 (60 steps, 23,853 tokens, 173 s with both evaluations)"""


METHOD = (
    "kernel classes measured on {on}, scaled: matrix products by sustained float16 arithmetic, element-wise "
    "and dequantisation by memory bandwidth, attention by its kernel's share, launches by the host"
)
Trainer = Literal["engine", "stock"]
_R = 16
"""LoRA rank of the measured runs"""
_GRAPH_WORTH = 0.9
"""as the engine decides (`engine.cuda_graph`)"""

LLAMA_3B = ModelShape(
    kind="llama", hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
    num_key_value_heads=8, head_dim=128, vocab_size=128256, tie_word_embeddings=True,
)  # fmt: skip
"""the Llama shape that `benchmarks/engine.py` measures"""
_MEASURED_FOR: dict[Kind, tuple[str, ModelShape]] = {
    "phi": ("phi2", PHI_2),
    "phi3": ("phi3", PHI_3_MINI),
    "llama": ("llama", LLAMA_3B),
    "phi3small": ("llama", LLAMA_3B),
}


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """One micro-step on the measured GPU."""

    gemm_ms: float
    gemm_tflops: float
    """reached in it"""
    bandwidth_ms: float
    """element-wise kernels, copies, dequantisation"""
    attention_ms: float
    launches: float
    host_ms: float
    """the host starting them one by one"""
    graph_extra_ms: float | None
    """what a step takes beyond its kernels if the layers are a CUDA graph; None: no graph"""


class StepTime(NamedTuple):
    """The time of one micro-step."""

    milliseconds: Bounds
    """the fast end and the slow end"""
    graph: bool
    """whether a CUDA graph pays at both ends"""


def total_work(shape: ModelShape, rows: Rows, r: int, trainer: Trainer) -> dict[str, float]:
    """Return the work of each kernel class in a mean micro-step: gemm in FLOP, the others in units that cancel out."""
    steps = rows.tokens / rows.most_tokens
    tokens, learnt = rows.most_tokens, rows.learnt / steps
    layers, heads = shape.num_hidden_layers, shape.num_attention_heads
    head_size = -(-shape.head_dim // 128) * 128
    quantised = layers * shape.layer_weights()
    passes = 2 if trainer == "engine" else 3  # stock's checkpointing repeats the forward pass
    adapter = 3 * shape.adapter_weights(r, "all-linear")
    looked_at = rows.attended / steps if trainer == "engine" else tokens * rows.most_tokens
    return {
        "gemm": 2 * (tokens * (passes * quantised + adapter) + 2 * learnt * shape.vocab_size * shape.hidden_size),
        "element-wise": tokens * layers * saved_activations(shape, r).numbers,
        "dequantisation": quantised,
        "attention": layers * heads * head_size * looked_at,
        "launches": layers,
    }


def kernels(shape: ModelShape, rows: Rows, r: int, trainer: Trainer) -> Kernels:
    """Scale the measured step of the nearest shape to this one, on the same GPU."""
    name, reference = _MEASURED_FOR[shape.kind]
    run = _run(name, "+ optimizer" if trainer == "engine" else "trl packed")
    spent: dict[str, float] = run["by_class_ms"]
    here, there = total_work(shape, rows, r, trainer), total_work(reference, measured_rows(), _R, trainer)
    ratio = {part: here[part] / there[part] for part in here}
    graph_extra = None
    if trainer == "engine":
        graph = _run(name, "+ graph")
        graph_extra = _wall_ms(graph) - graph["kernel_ms"]
    bandwidth = (spent["element-wise"] + spent["copies"]) * ratio["element-wise"]
    return Kernels(
        gemm_ms=spent["gemm"] * ratio["gemm"],
        gemm_tflops=there["gemm"] / spent["gemm"] / 1e9,
        bandwidth_ms=bandwidth + spent["dequantisation"] * ratio["dequantisation"],
        attention_ms=spent["attention"] * ratio["attention"],
        launches=run["launches"] * ratio["launches"],
        host_ms=_wall_ms(run) * ratio["launches"],
        graph_extra_ms=graph_extra,
    )


def estimate_on(step: Kernels, gpu: Gpu) -> StepTime:
    """Estimate one micro-step on a GPU, at both ends of its range."""
    milliseconds, graphs = [], []
    for end in (0, 1):  # the slow one first
        gemm = 1.0 if gpu.gemm_tflops is None else gpu.gemm_tflops[end] / step.gemm_tflops
        bandwidth = 1.0 if gpu.bandwidth_gb is None else gpu.bandwidth_gb[end] / _file()["copy_gb_per_s"]
        host = gpu.launch_overhead[end]
        # without a graph, kernels and their launches overlap: the longer of the two is the step
        running = step.gemm_ms / gemm + step.bandwidth_ms / bandwidth + step.attention_ms / gpu.attention_share[end]
        eager = max(running, step.host_ms * host)
        graph = step.graph_extra_ms is not None and running < _GRAPH_WORTH * eager
        milliseconds.append(running + (step.graph_extra_ms or 0.0) * host if graph else eager)
        graphs.append(graph)
    slow, fast = milliseconds
    return StepTime(Bounds(fast, slow), all(graphs))


def measured_on() -> str:
    """Return device and day of the measurements, to follow "measured on": "an NVIDIA H100 ... on 2026-11-21"."""
    return f"an {_file()['device']} on {_file()['runs'][0]['date'][:10]}"


@cache
def measured_rows() -> Rows:
    """Return the rows that were measured."""
    return Rows(**_file()["rows"])


def measured_runs() -> list[dict[str, Any]]:
    """Return the measurements, as `benchmarks/engine.py` wrote them."""
    return list(_file()["runs"])


@cache
def _file() -> dict[str, Any]:
    text = files(__package__).joinpath("kernel_times.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _run(shape: str, variant: str) -> dict[str, Any]:
    return next(run for run in _file()["runs"] if (run["shape"], run["variant"]) == (shape, variant))


def _wall_ms(run: dict[str, Any]) -> float:
    return float(1e3 * run["tokens_a_step"] / run["tokens_per_s"])
