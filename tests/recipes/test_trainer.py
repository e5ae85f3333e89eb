"""The real trainer over a tiny base in NF4 on the CPU: what is learnt, and that learning works at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.data import TrainingRows, load_training_rows, matches_recipe, to_training_row
from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.sft import (
    check_max_length,
    disable_cpu_repacking,
    sft_config_kwargs,
    upcast_trainable_parameters,
)
from tests.recipes.tiny import tiny_tokenizer, write_tiny_llama

TINY = dataclasses.replace(RECIPE, max_length=600, max_steps=2, packing=False, eval_steps=0)


def rows(*pairs: tuple[str, str]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"id": f"row-{n}", "prompt": prompt, "completion": completion} for n, (prompt, completion) in enumerate(pairs)]
    )


def quantised(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        ),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base"))


def input_gradient(model: Any) -> torch.Tensor:
    embedded = model.get_input_embeddings()(torch.arange(1, 30)[None]).detach().requires_grad_()
    model(inputs_embeds=embedded).logits.square().mean().backward()
    return embedded.grad


def test_evaluation_before_training_keeps_the_gradient(base: Path) -> None:
    model = quantised(base)
    disable_cpu_repacking(model)
    expected = input_gradient(model.train())
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.arange(1, 30)[None])
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    assert torch.allclose(input_gradient(model.train()), expected)


def test_loss_is_taken_on_the_completion_and_its_end_mark_only(base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    data = rows(("### Instruction:\n川は？\n\n### Reasoning:\n", "長さ。\n\n### Response:\n信濃川"), ("a", "b"))
    trainer = SFTTrainer(
        quantised(base),
        SFTConfig(**sft_config_kwargs(TINY, tmp_path, None)),
        train_dataset=data.remove_columns("id"),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    upcast_trainable_parameters(trainer.model)
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}
    seen = []
    for batch in trainer.get_train_dataloader():
        for labels in batch["labels"]:
            learnt = [label for label in labels.tolist() if label != -100]
            assert learnt[-1] == tokenizer.eos_token_id
            seen.append(tokenizer.decode(learnt[:-1]))
    assert sorted(seen) == sorted(data["completion"])


def test_a_record_that_would_be_cut_is_refused_by_name() -> None:
    fits = rows(("a" * 300, "b" * 299))
    check_max_length(TINY, tiny_tokenizer(), TrainingRows(train=fits, validation=fits, content_hash=""))
    too_long = rows(("a" * 300, "b" * 300))
    with pytest.raises(RecipeError, match="row-0: 600 tokens and the end mark do not fit into max_length 600"):
        check_max_length(TINY, tiny_tokenizer(), TrainingRows(train=fits, validation=too_long, content_hash=""))


def test_the_trainer_uses_no_bfloat16_and_shuffles_by_the_seed(tmp_path: Path) -> None:
    settings = sft_config_kwargs(TINY, tmp_path, 3)
    assert settings["bf16"] is False
    assert (settings["max_steps"], settings["seed"], settings["data_seed"]) == (3, TINY.seed, TINY.seed)


def test_matches_recipe_checks_category_and_both_languages() -> None:
    recipe = dataclasses.replace(RECIPE, categories=("translation",), languages=("ja", "en"))
    row = {"language": "ja", "source_language": "zh"}
    assert not matches_recipe(recipe, "translation", row)
    assert matches_recipe(recipe, "translation", {**row, "source_language": "en"})
    assert not matches_recipe(recipe, "creative", {"language": "ja", "source_language": None})


def test_a_recipe_may_learn_from_the_reasoning_as_it_was() -> None:
    row = {"id": "x", "instruction": "i", "input": "", "reasoning": "new", "reasoning_original": "old", "output": "o"}
    assert to_training_row(RECIPE, row)["completion"].startswith("new")
    assert to_training_row(dataclasses.replace(RECIPE, reasoning="original"), row)["completion"].startswith("old")


def test_another_dataset_version_than_the_pinned_one_is_refused(dataset: Path) -> None:
    with pytest.raises(RecipeError, match=r"is pinned to dataset v9\.9, but"):
        load_training_rows(dataclasses.replace(RECIPE, dataset_revision="v9.9"), dataset)


def test_the_seedling_selects_english_rows_with_reasoning(dataset: Path, far_hub: HubAddress) -> None:
    selected = load_training_rows(RECIPE, dataset)
    assert len(selected.train) > 50
    answers = {row["id"]: row["language"] for row in datasets.load_dataset(str(dataset), split="train")}
    assert {answers[name] for name in selected.train["id"]} == {"en"}
    # a few ask in Japanese for an answer in English
    assert 0 < sum(not name.endswith("-en") for name in selected.train["id"]) < len(selected.train) / 20
