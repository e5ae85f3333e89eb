"""Time on a GPU nobody has run it on: the kernels measured on an H100, each class scaled by what limits it there.

Matrix products go by arithmetic, element-wise kernels and dequantisation by memory bandwidth, attention by the kernel's
own share of arithmetic; where starting the kernels takes longer than running them, the host decides. The measurements
lie in kernel_times.json with device and date. An estimate, never a measurement of the GPU it is about.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from bonsai.recipes.training.plan.activations import kept
from bonsai.recipes.training.plan.gpus import Gpu, Range
from bonsai.recipes.training.plan.packing import Rows
from bonsai.recipes.training.plan.shapes import PHI_2, PHI_3_MINI, Kind, Shape

METHOD = (
    "kernel classes measured on {on}, scaled: matrix products by sustained float16 arithmetic, element-wise "
    "and dequantisation by memory bandwidth, attention by its kernel's share, launches by the host"
)
Trainer = Literal["engine", "stock"]
_R = 16
_GRAPH_WORTH = 0.9
"""as the engine decides (`engine.step_graph`)"""

LLAMA_3B = Shape(
    kind="llama", hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
    num_key_value_heads=8, head_dim=128, vocab_size=128256, tie_word_embeddings=True,
)  # fmt: skip
"""the Llama shape that `benchmarks/engine.py` measures"""
_MEASURED_FOR: dict[Kind, tuple[str, Shape]] = {
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
    """what a step takes beyond its kernels where the layers are a CUDA graph; None: there is none"""


class Estimate(NamedTuple):
    """Of one micro-step."""

    milliseconds: Range
    """the fast end and the slow end"""
    graph: bool
    """whether a CUDA graph pays at both ends"""


def work(shape: Shape, rows: Rows, r: int, trainer: Trainer) -> dict[str, float]:
    """How much each class has to do in one mean micro-step: gemm in operations, the others in units that cancel out."""
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
        "element-wise": tokens * layers * kept(shape, r).numbers,
        "dequantisation": quantised,
        "attention": layers * heads * head_size * looked_at,
        "launches": layers,
    }


def kernels(shape: Shape, rows: Rows, r: int, trainer: Trainer) -> Kernels:
    """The measured step of the nearest shape, scaled to this one on the same GPU."""
    name, reference = _MEASURED_FOR[shape.kind]
    run = _run(name, "+ optimizer" if trainer == "engine" else "trl packed")
    spent: dict[str, float] = run["by_class_ms"]
    here, there = work(shape, rows, r, trainer), work(reference, measured_rows(), _R, trainer)
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


def on_gpu(step: Kernels, gpu: Gpu) -> Estimate:
    """One micro-step there."""
    slow, fast = (_step(step, gpu, end) for end in (0, 1))
    return Estimate(Range(fast.ms, slow.ms), fast.graph and slow.graph)


class _Step(NamedTuple):
    ms: float
    graph: bool


def _step(step: Kernels, gpu: Gpu, end: int) -> _Step:
    gemm = 1.0 if gpu.gemm_tflops is None else gpu.gemm_tflops[end] / step.gemm_tflops
    bandwidth = 1.0 if gpu.bandwidth_gb is None else gpu.bandwidth_gb[end] / _file()["copy_gb_per_s"]
    host = gpu.host_slowness[end]
    running = step.gemm_ms / gemm + step.bandwidth_ms / bandwidth + step.attention_ms / gpu.attention_share[end]
    alone = max(running, step.host_ms * host)
    if step.graph_extra_ms is None or running >= _GRAPH_WORTH * alone:
        return _Step(alone, graph=False)
    return _Step(running + step.graph_extra_ms * host, graph=True)


def measured_on() -> str:
    """Device and day of the measurements, to be put after "measured on"."""
    return f"an {_file()['device']} on {_file()['runs'][0]['date'][:10]}"


@cache
def measured_rows() -> Rows:
    """The rows that were measured."""
    return Rows(**_file()["rows"])


def measured_runs() -> list[dict[str, Any]]:
    """What was measured, as `benchmarks/engine.py` wrote it."""
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
