"""The counted memory against what autograd keeps and what a GPU measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bonsai.recipes.training.engine.install import EngineOptions, install
from bonsai.recipes.training.engine.loss import CHUNK as ENGINE_CHUNK
from bonsai.recipes.training.plan.gpus import H100
from bonsai.recipes.training.plan.memory import (
    CHUNK,
    Length,
    PlanSettings,
    estimate_peak,
    rows_of,
    saved_activations,
    weights,
)
from bonsai.recipes.training.plan.model_shapes import SHAPES, shape_of
from bonsai.recipes.training.plan.speed import measured_rows, measured_runs
from tests.recipes.engine.models import adapted, packed_batch, quantised

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
MEASURED = [run for run in measured_runs() if run["variant"] != "trl packed"]
LENGTHS = (30, 70, 20, 8)
TOKENS = sum(LENGTHS)


@pytest.mark.parametrize("run", MEASURED, ids=lambda run: f"{run['shape']} {run['variant']}")
def test_the_predicted_peak_is_within_five_percent_of_the_gpus(run: dict[str, Any]) -> None:
    graph = run["variant"] == "+ graph"
    predicted = estimate_peak(
        SHAPES[run["shape"]], PlanSettings(r=16), measured_rows(), graph=graph, workspace=H100.workspace
    ).gib
    assert predicted == pytest.approx(run["peak_gib"] - run.get("before_gib", 0), rel=0.05)


def test_recomputing_layers_is_predicted_within_five_percent() -> None:
    results = json.loads((RESULTS / "engine_h100.json").read_text())["results"]
    (run,) = [one for one in results if (one["shape"], one["variant"]) == ("phi2", "+ elementwise")]
    setting = PlanSettings(r=16, gradient_checkpointing=True)
    assert estimate_peak(SHAPES["phi2"], setting, measured_rows(), workspace=H100.workspace).gib == pytest.approx(
        run["peak_gib"], rel=0.05
    )


@pytest.mark.parametrize("kind", ["phi", "phi3", "llama"])
def test_what_is_counted_as_kept_is_what_autograd_keeps(kind: str) -> None:
    model = adapted(kind)
    installed = install(model, EngineOptions(graph=False), torch.float32)
    mine = [*model.parameters(), *model.buffers(), installed.store.flat, installed.store.half]
    weights_at = {tensor.untyped_storage().data_ptr() for tensor in mine}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights_at:
            saved[storage.data_ptr()] = storage  # held, so that no other takes its address
        return tensor

    batch = packed_batch(LENGTHS)
    del batch["labels"]
    base = model.get_base_model()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        base.model(**batch)
    shape = shape_of(base.config.to_dict(), kind)
    counted = saved_activations(shape, 4)
    # a CPU attends record by record: its output again as one, sums for each token, and keys and values a query head
    twin = shape.query_width + shape.num_attention_heads
    twin += 2 * (shape.query_width - shape.key_width)
    once = (
        2 * int(shape.head_dim * shape.partial_rotary_factor) + shape.hidden_size
    )  # cos and sin; the last norm's input
    numbers = shape.num_hidden_layers * (counted.numbers + counted.float32 + twin) + once
    assert sum(storage.nbytes() for storage in saved.values()) == 4 * TOKENS * numbers


@pytest.mark.parametrize("kind", ["phi", "phi3", "llama"])
def test_the_base_weighs_what_bitsandbytes_makes_of_it(kind: str) -> None:
    model = quantised(kind)
    shape = shape_of(model.config.to_dict(), kind)
    packed = scales = 0
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            packed += module.weight.data.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
            scales += 4 * state.absmax.numel()
    in_nf4, in_float32, rest = weights(shape)
    # four bytes a matrix: the second level's last block is not full in matrices this small
    assert in_nf4.bytes == pytest.approx(packed, abs=4 * shape.num_hidden_layers * len(shape.linears()))
    assert in_float32.bytes == scales
    embeddings = model.get_input_embeddings().weight.numel() + model.get_output_embeddings().weight.numel()
    assert rest.bytes == pytest.approx(2 * embeddings, rel=0.05)


@pytest.mark.parametrize("kind", ["phi", "phi3", "llama"])
def test_an_adapter_has_as_many_weights_as_peft_makes(kind: str) -> None:
    model = adapted(kind)
    shape = shape_of(model.config.to_dict(), kind)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert shape.adapter_weights(4, "all-linear") == trained


def test_the_loss_heads_chunk_is_the_engines() -> None:
    assert CHUNK == ENGINE_CHUNK


def test_more_tokens_rank_and_accumulation_cost_memory_and_checkpointing_saves_it() -> None:
    records = [Length(60, 200)] * 40
    short, long = (rows_of(records, length, packing=True, batch=1) for length in (1024, 2048))
    plain = estimate_peak(SHAPES["phi2"], PlanSettings(r=8), long).bytes
    assert estimate_peak(SHAPES["phi2"], PlanSettings(r=8), short).bytes < plain
    assert estimate_peak(SHAPES["phi2"], PlanSettings(r=8, gradient_checkpointing=True), long).bytes < plain
    assert estimate_peak(SHAPES["phi2"], PlanSettings(r=16), long).bytes > plain
    assert estimate_peak(SHAPES["phi2"], PlanSettings(r=8, gradient_accumulation_steps=2), long).bytes > plain
