"""Estimated times: at the measured point the measurement, elsewhere moved by what limits each class."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceHardware

from bonsai.recipes.training.plan.gpus import GPUS, H100, L4, T4
from bonsai.recipes.training.plan.model_shapes import SHAPES
from bonsai.recipes.training.plan.speed import estimate_on, kernels, measured_rows, measured_runs

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def run(shape: str, variant: str) -> dict[str, Any]:
    (found,) = [run for run in measured_runs() if (run["shape"], run["variant"]) == (shape, variant)]
    return found


def test_the_package_carries_what_the_benchmark_wrote() -> None:
    theirs = json.loads((RESULTS / "engine_h100.json").read_text())["results"]
    by_name = {(one["shape"], one["variant"]): one for one in theirs}
    for ours in measured_runs():
        benchmark = by_name[ours["shape"], ours["variant"]]
        assert ours == {"date": ours["date"], **{key: benchmark[key] for key in ours if key != "date"}}


@pytest.mark.parametrize(("shape", "name"), [(SHAPES["phi2"], "phi2"), (SHAPES["phi3"], "phi3")])
def test_on_the_measured_gpu_the_estimate_is_the_measurement(shape: Any, name: str) -> None:
    estimate = estimate_on(kernels(shape, measured_rows(), 16, "engine"), H100)
    tokens = measured_rows().most_tokens
    assert estimate.graph
    assert tokens / estimate.milliseconds.low * 1e3 == pytest.approx(run(name, "+ graph")["tokens_per_s"], rel=0.03)


def test_on_a_t4_phi_2_is_at_least_three_times_as_fast_as_stock_trl_by_the_same_estimate() -> None:
    ours, stock = (estimate_on(kernels(SHAPES["phi2"], measured_rows(), 16, who), T4) for who in ("engine", "stock"))
    assert not ours.graph  # its kernels take longer than their launches
    assert all(theirs / mine > 3 for theirs, mine in zip(stock.milliseconds, ours.milliseconds, strict=True))


def test_a_gpus_range_is_ordered_and_the_larger_gpu_is_faster() -> None:
    t4, l4, h100 = (
        estimate_on(kernels(SHAPES["phi2"], measured_rows(), 16, "engine"), gpu).milliseconds for gpu in (T4, L4, H100)
    )
    assert t4.low < t4.high
    assert t4.low > l4.low > h100.low
    assert h100.low == h100.high


def test_twice_the_tokens_take_nearly_twice_the_kernels_and_stock_attention_four_times() -> None:
    rows = measured_rows()
    long = replace(rows, most_tokens=2 * rows.most_tokens)
    for who, times in (("engine", 2.0), ("stock", 4.0)):
        one, two = (kernels(SHAPES["phi2"], some, 16, who) for some in (rows, long))
        assert two.gemm_ms / one.gemm_ms == pytest.approx(2.0)
        assert two.attention_ms / one.attention_ms == pytest.approx(times)
        assert two.launches == one.launches


def test_every_flavour_is_one_the_installed_client_can_ask_for() -> None:
    known = {hardware.value for hardware in SpaceHardware}
    assert {gpu.flavour for gpu in GPUS if gpu.flavour} <= known
