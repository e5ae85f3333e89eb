"""The loss left on each record, on a tiny model in NF4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bonsai.recipes.training.record_losses import dequantized_weights, order_by_surprise, record_losses
from bonsai.recipes.training.sft import disable_cpu_repacking
from tests.recipes.diagnosis.curves import points
from tests.recipes.tiny import write_tiny_llama

ROWS = [
    {"id": f"open_qa-{n:04}-en", "prompt": f"### Instruction:\n{'why ' * n}?\n\n", "completion": "because " * (9 - n)}
    for n in range(1, 9)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=settings)
    disable_cpu_repacking(loaded)
    return loaded


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def one_by_one(model: Any, tokenizer: Any, row: dict[str, str]) -> float:
    """As a trainer takes it: labels on the completion and the end mark."""
    prompt = tokenizer(row["prompt"]).input_ids
    ids = [*tokenizer(row["prompt"] + row["completion"]).input_ids, tokenizer.eos_token_id]
    labels = [-100] * len(prompt) + ids[len(prompt) :]
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss)


def test_record_losses_match_the_trainer_in_any_batch(model: Any, tokenizer: Any) -> None:
    told = record_losses(model, tokenizer, ROWS)
    assert [one.id for one in told] == [row["id"] for row in ROWS]
    for one, row in zip(told, ROWS, strict=True):
        assert one.loss == pytest.approx(one_by_one(model, tokenizer, row), abs=1e-4)
        assert one.tokens == len(tokenizer(row["completion"]).input_ids) + 1


def test_measuring_leaves_the_model_as_it_was(model: Any, tokenizer: Any) -> None:
    layer = next(module for module in model.modules() if isinstance(module, Linear4bit))
    inputs = torch.randn(2, layer.in_features)
    before = layer(inputs)
    model.train()
    with dequantized_weights(model):
        assert torch.allclose(layer(inputs), before, atol=1e-5)
        assert "forward" in vars(layer)
    record_losses(model, tokenizer, ROWS[:2])
    assert model.training
    assert "forward" not in vars(layer)
    assert torch.equal(layer(inputs), before)


def test_record_losses_stop_at_the_token_budget(model: Any, tokenizer: Any) -> None:
    lengths = [len(tokenizer(row["prompt"] + row["completion"]).input_ids) + 1 for row in ROWS]
    told = record_losses(model, tokenizer, ROWS, most_tokens=sum(lengths[:3]))
    assert [one.id for one in told] == [row["id"] for row in ROWS[:3]]
    assert len(record_losses(model, tokenizer, ROWS, most_tokens=1)) == 1


def test_the_records_of_the_most_surprising_steps_come_first() -> None:
    values = [2.0] * 20
    values[3], values[11] = 5.0, 4.0
    rows = [{"id": f"open_qa-{n:04}-en"} for n in range(1, 31)]
    ordered = [row["id"] for row in order_by_surprise(points(values), rows)]
    assert ordered[:2] == ["open_qa-0004-en", "open_qa-0012-en"]
    assert len(ordered) == 20  # the run has not seen the others
