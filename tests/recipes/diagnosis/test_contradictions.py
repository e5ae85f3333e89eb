"""Contradictions planted among real records keep their loss once the seedling's base has fitted the rest."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonsai.builder.prompt import to_prompt_completion
from bonsai.builder.records import default_records_dir
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.diagnosis import FITTED, TOP_SHARE
from bonsai.recipes.training.gguf import dequantize_gguf
from bonsai.recipes.training.record_losses import record_losses

RECORDS = 57
EPOCHS = 8
BATCH = 8
PLANTED = {
    "open_qa-0067": "Nickel.",
    "open_qa-0098": "Drying.",
    "open_qa-0090": "It got stronger.",
}
"""another answer to the same question, in a record of its own"""

Row = dict[str, str]


def short_records(tokenizer: Any) -> list[Row]:
    """The shortest of the real records, asked without Reasoning so that a CPU can fit them in a minute."""
    rows = []
    for line in (default_records_dir() / "open_qa.jsonl").read_text(encoding="utf-8").splitlines():
        group = json.loads(line)
        made = to_prompt_completion(group["en"]["instruction"], group["en"]["input"], "", group["en"]["output"])
        rows.append({"id": group["id"], "prompt": made.prompt, "completion": made.completion})
    return sorted(rows, key=lambda row: len(tokenizer(row["prompt"] + row["completion"]).input_ids))[:RECORDS]


def train(model: Any, tokenizer: Any, rows: list[Row]) -> None:
    chance = random.Random(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * math.ceil(len(rows) / BATCH))
    model.train()
    for _ in range(EPOCHS):
        shuffled = chance.sample(rows, len(rows))
        for start in range(0, len(shuffled), BATCH):
            inputs = batch(tokenizer, shuffled[start : start + BATCH])
            with torch.autocast("cpu", torch.bfloat16):
                model(**inputs).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def batch(tokenizer: Any, rows: list[Row]) -> dict[str, torch.Tensor]:
    end = tokenizer.eos_token_id
    whole = [[*tokenizer(row["prompt"] + row["completion"]).input_ids, end] for row in rows]
    longest = max(map(len, whole))
    starts = [len(tokenizer(row["prompt"]).input_ids) for row in rows]
    return {
        "input_ids": torch.tensor([ids + [end] * (longest - len(ids)) for ids in whole]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in whole]),
        "labels": torch.tensor(
            [
                [-100] * start + ids[start:] + [-100] * (longest - len(ids))
                for start, ids in zip(starts, whole, strict=True)
            ]
        ),
    }


@pytest.mark.slow
def test_record_losses_rank_planted_contradictions_in_the_top_5(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dequantize_gguf(RECIPE, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    base: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    rows = short_records(tokenizer)
    questions = {row["id"]: row["prompt"] for row in rows}
    rows += [
        {"id": f"{name}-planted", "prompt": questions[name], "completion": other} for name, other in PLANTED.items()
    ]
    train(model, tokenizer, rows)
    with torch.autocast("cpu", torch.bfloat16):
        ranked = sorted(record_losses(model, tokenizer, rows), key=lambda one: -one.loss)
    assert ranked[len(ranked) // 2].loss < FITTED  # else the loss could not tell
    top = [one.id.removesuffix("-planted") for one in ranked[: math.ceil(TOP_SHARE * len(ranked))]]
    found = set(top) & set(PLANTED)
    assert found == set(PLANTED), (found, [(one.id, round(one.loss, 2)) for one in ranked[:8]])
