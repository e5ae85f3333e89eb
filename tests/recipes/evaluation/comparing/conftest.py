from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.recipes.tiny import write_tiny_llama


class Tiny(NamedTuple):
    """Random models in folders."""

    base: str
    adapter: str
    broken: str
    """says it is a model and has no weights"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    place = tmp_path_factory.mktemp("models")
    base = write_tiny_llama(place / "base")
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(place / "adapter")
    broken = place / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return Tiny(str(base), str(place / "adapter"), str(broken))
