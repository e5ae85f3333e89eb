"""Estimate the step time on a GPU from kernel times measured on an H100.

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

from bonsai.recipes.training.plan.gpus import Bounds, Gpu
from bonsai.recipes.training.plan.memory import Rows, saved_activations
from bonsai.recipes.training.plan.model_shapes import SHAPES, Kind, ModelShape

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

_MEASURED_FOR: dict[Kind, str] = {"phi": "phi2", "phi3": "phi3", "llama": "llama", "phi3small": "llama"}
"""the nearest of the shapes that were measured"""


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
    name = _MEASURED_FOR[shape.kind]
    run = _run(name, "+ optimizer" if trainer == "engine" else "trl packed")
    spent: dict[str, float] = run["by_class_ms"]
    here, there = total_work(shape, rows, r, trainer), total_work(SHAPES[name], measured_rows(), _R, trainer)
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
        running = step.gemm_ms / gemm + step.bandwidth_ms / bandwidth + step.attention_ms * gpu.attention_slowdown[end]
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
