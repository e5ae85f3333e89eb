from __future__ import annotations

import dataclasses

import pytest

from bonsai.builder.messages import conversation
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.prompt import CHAT_TEMPLATE, chat_template, example
from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.registry import load_recipe, recipe_names


@pytest.mark.parametrize("revision", ["main", "v1-latest", "ef38235", ""])
def test_a_recipe_refuses_a_moving_revision(revision: str) -> None:
    with pytest.raises(RecipeError, match="which moves; pin a commit id"):
        dataclasses.replace(RECIPE, base_model_revision=revision)


def test_a_recipe_refuses_a_rank_that_vllm_refuses() -> None:
    with pytest.raises(RecipeError, match="r is 32; write 1 to 16"):
        dataclasses.replace(RECIPE, r=32)


def test_a_recipe_refuses_unknown_categories_and_languages() -> None:
    with pytest.raises(RecipeError, match="openqa"):
        dataclasses.replace(RECIPE, categories=("openqa",))
    with pytest.raises(RecipeError, match="choose from ja, en, zh"):
        dataclasses.replace(RECIPE, languages=())


def test_every_module_in_the_folder_is_a_recipe() -> None:
    assert "seedling" in recipe_names()
    for name in recipe_names():
        assert load_recipe(name).repo_id.startswith("qeu/bonsai-")


def test_a_misspelt_recipe_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match="did you mean seedling"):
        load_recipe("seedlin")


@pytest.mark.parametrize("reasoning", ["By length.", ""])
@pytest.mark.parametrize("input_text", ["a passage", ""])
def test_the_chat_template_writes_what_training_saw(reasoning: str, input_text: str) -> None:
    from tests.recipes.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    turns = conversation("川は？", input_text, reasoning, "信濃川です。")
    made = example("川は？", input_text, reasoning, "信濃川です。")
    assert tokenizer.apply_chat_template(turns, tokenize=False) == made.prompt + made.completion + "<|end|>"


def test_the_generation_prompt_ends_with_the_reasoning_marker() -> None:
    from tests.recipes.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    asked = [{"role": "system", "content": "あなたは良心的な科学者です。"}, {"role": "user", "content": "川は？"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text == "あなたは良心的な科学者です。\n\n### Instruction:\n川は？\n\n### Reasoning:\n"


@pytest.mark.parametrize("adds_bos", [True, False])
def test_a_base_is_asked_with_the_tokens_it_was_trained_with(adds_bos: bool) -> None:
    from tokenizers.processors import TemplateProcessing

    from tests.recipes.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
        )
    tokenizer.chat_template = chat_template(tokenizer)
    made = example("川は？", "", "By length.", "信濃川です。")
    trained = [*tokenizer(made.prompt + made.completion).input_ids, tokenizer.eos_token_id]
    turns = conversation("川は？", "", "By length.", "信濃川です。")
    assert tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"] == trained
    asked = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert asked == tokenizer(made.prompt).input_ids
    assert (asked[0] == tokenizer.bos_token_id) == adds_bos
