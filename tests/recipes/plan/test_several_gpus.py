"""Several GPUs in the plan, beside what two H200 measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bonsai.recipes.training.plan.gpus import H100, T4
from bonsai.recipes.training.plan.memory import Length, PlanSettings, Rows, estimate_peak, rows_of
from bonsai.recipes.training.plan.model_shapes import SHAPES, shape_of
from bonsai.recipes.training.plan.plan import allreduce_ms, fsdp_peak_memory
from bonsai.recipes.training.plan.speed import estimate_on, kernels, measured_rows

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
LLAMA_13B = shape_of(
    {
        "model_type": "llama", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
        "num_attention_heads": 40, "vocab_size": 32000,
    },
    "llama_13b",
)  # fmt: skip


def measured(shape: str, gpus: int, variant: str, max_length: int = 2048) -> dict[str, Any]:
    rows = json.loads((RESULTS / "several_gpus_h200.json").read_text())["results"]
    return next(
        row
        for row in rows
        if (row["shape"], row["gpus"], row["variant"], row["max_length"]) == (shape, gpus, variant, max_length)
    )


def rows_at(max_length: int) -> Rows:
    lengths = json.loads((RESULTS / "engine_record_lengths.json").read_text())["records"]
    every = [Length(*pair) for pair in lengths]
    return rows_of([one for one in every if one.whole <= max_length], max_length, packing=True, batch=1)


def test_two_gpus_are_predicted_as_fast_as_measured() -> None:
    alone = estimate_on(kernels(SHAPES["phi2"], measured_rows(), 16, "engine"), H100).milliseconds.low
    longer = allreduce_ms(SHAPES["phi2"].adapter_weights(16, "all-linear"), 2, H100)
    faster = measured("phi2", 2, "engine")["tokens_per_s"] / measured("phi2", 1, "engine")["tokens_per_s"]
    assert 2 * alone / (alone + longer.high) == pytest.approx(faster, rel=0.03)
    assert longer.low <= longer.high


def test_one_gpu_waits_for_nobody_and_a_slow_link_takes_longer() -> None:
    assert allreduce_ms(10**7, 1, T4) == (0.0, 0.0)
    assert allreduce_ms(10**7, 2, T4).low > allreduce_ms(10**7, 2, H100).high
    assert allreduce_ms(10**7, 4, T4).low > allreduce_ms(10**7, 2, T4).low


def test_a_base_of_13_billion_is_predicted_within_five_percent_on_one_gpu() -> None:
    shorter = estimate_peak(LLAMA_13B, PlanSettings(r=16), rows_at(896), workspace=H100.workspace)
    assert shorter.gib == pytest.approx(measured("llama_13b", 1, "engine", 896)["peak_gib"], rel=0.05)
    again = estimate_peak(
        LLAMA_13B, PlanSettings(r=16, gradient_checkpointing=True), rows_at(2048), workspace=H100.workspace
    )
    assert again.gib == pytest.approx(measured("llama_13b", 1, "engine, checkpointing")["peak_gib"], rel=0.05)


def test_a_base_cut_up_by_fsdp_is_predicted_within_ten_percent() -> None:
    predicted = fsdp_peak_memory(LLAMA_13B, PlanSettings(r=16), rows_at(2048), 2)
    assert predicted.gib == pytest.approx(measured("llama_13b", 2, "fsdp")["peak_gib"], rel=0.10)
    assert fsdp_peak_memory(LLAMA_13B, PlanSettings(r=16), rows_at(2048), 4).bytes < predicted.bytes
