"""An adapter inside the base's weights: the same answers, and the base is given back bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from bonsai.recipes.inference import transformers_engine
from bonsai.recipes.inference.generation import GenerationError
from bonsai.recipes.inference.transformers_engine import AdapterMerger
from tests.recipes.tiny import write_tiny_llama


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "base")


@pytest.fixture
def adapters(base: Path, tmp_path: Path) -> list[Path]:
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules="all-linear", lora_alpha=64)
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.2)
        made.append(tmp_path / f"adapter-{seed}")
        model.save_pretrained(made[-1])
    return made


@pytest.fixture
def adapted(base: Path, adapters: list[Path]) -> PeftModel:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapters[0], adapter_name="first")
    model.load_adapter(adapters[1], adapter_name="second")
    return model.eval()


IDS = torch.arange(5, 17)[None]


def logits(model: PeftModel) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS).logits
        return found


def test_a_merged_adapter_computes_the_same_and_the_base_is_given_back_bit_by_bit(adapted: PeftModel) -> None:
    own = {name: value.clone() for name, value in adapted.state_dict().items()}
    beside = {}
    for name in ("first", "second"):
        adapted.set_adapter(name)
        beside[name] = logits(adapted)
    merging = AdapterMerger(adapted)
    for name in ("first", "second", "first", "first"):
        merging.activate(name)
        assert merging.merged == name
        assert torch.allclose(logits(adapted), beside[name], atol=1e-4)
        assert not torch.allclose(logits(adapted), beside["second" if name == "first" else "first"], atol=1e-2)
    merging.unmerge()
    assert merging.merged is None
    found = adapted.state_dict()
    assert all(torch.equal(found[name], value) for name, value in own.items())
    adapted.set_adapter("second")
    assert torch.equal(logits(adapted), beside["second"])


@pytest.mark.parametrize("why", ["few bits", "large"])
def test_an_adapter_that_would_lose_or_cost_too_much_answers_beside_the_base(
    adapted: PeftModel, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "few bits":
        adapted = adapted.to(torch.bfloat16)
    else:
        monkeypatch.setattr(transformers_engine, "MAX_MERGE_BYTES", 10)
    own = {name: value.clone() for name, value in adapted.state_dict().items()}
    asked = AdapterMerger(adapted)
    asked.activate("second")
    assert asked.merged is None
    assert adapted.active_adapter == "second"
    assert all(torch.equal(adapted.state_dict()[name], value) for name, value in own.items())


def test_a_broken_adapter_is_told_and_leaves_the_base_whole(adapted: PeftModel) -> None:
    own = {name: value.clone() for name, value in adapted.state_dict().items()}
    broken = [name for name, _ in adapted.named_parameters() if "lora_B.second" in name][-1]
    adapted.get_parameter(broken).data.fill_(float("nan"))
    asked = AdapterMerger(adapted)
    with pytest.raises(GenerationError, match=r"second: NaNs detected .*; take another revision of it"):
        asked.activate("second")
    assert all(torch.equal(adapted.state_dict()[name], value) for name, value in own.items() if name != broken)
    asked.activate("first")
    assert asked.merged == "first"
