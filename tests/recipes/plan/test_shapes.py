"""Sizes of bases, known, read and unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, Phi3Config, PhiConfig

from bonsai.recipes.training.plan.model_shapes import KNOWN, SHAPES, UnknownBaseError, lookup_base, shape_of
from bonsai.recipes.training.recipe import RecipeError, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_published_recipes_base_is_known_without_a_download(name: str) -> None:
    recipe = load_recipe(name)
    shape = lookup_base(recipe.base_model, recipe.base_model_revision).shape
    assert shape.adapter_weights(recipe.r, recipe.target_modules) > 0


def test_the_known_sizes_give_the_parameters_that_the_model_cards_tell() -> None:
    told = {"2.78": SHAPES["phi2"], "3.82": SHAPES["phi3"], "7.39": SHAPES["phi3small"], "0.13": SHAPES["smollm2"]}
    assert {f"{shape.parameters() / 1e9:.2f}": shape for shape in told.values()} == told


def test_a_config_json_in_a_folder_is_read(tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, vocab_size=99
    )
    config.save_pretrained(tmp_path)
    shape = lookup_base(str(tmp_path)).shape
    assert (shape.kind, shape.hidden_size, shape.num_hidden_layers, shape.head_dim) == ("llama", 64, 3, 16)


def test_partial_rotary_embedding_and_dropout_are_read_from_a_phi_config() -> None:
    shape = shape_of(PhiConfig(partial_rotary_factor=0.4, resid_pdrop=0.1).to_dict(), "phi")
    assert (shape.partial_rotary_factor, shape.resid_pdrop) == (0.4, 0.1)
    assert shape_of(Phi3Config(pad_token_id=0).to_dict(), "phi3").resid_pdrop == 0.0


def test_an_unknown_base_is_told_what_is_missing() -> None:
    with pytest.raises(
        UnknownBaseError, match=r"somebody/else: nothing is known .* missing is its config\.json"
    ) as told:
        lookup_base("somebody/else", "v1.0")
    assert "hf download somebody/else config.json --revision v1.0" in str(told.value)
    assert all(name in str(told.value) for name in KNOWN)


def test_an_architecture_never_counted_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba", "hidden_size": 64}))
    with pytest.raises(UnknownBaseError, match="model_type is 'mamba'"):
        lookup_base(str(tmp_path))


def test_a_missing_size_is_named() -> None:
    with pytest.raises(UnknownBaseError, match="lacks intermediate_size, vocab_size"):
        shape_of(
            {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}, "half/told"
        )


def test_a_target_module_of_another_architecture_is_named() -> None:
    with pytest.raises(RecipeError, match=r"target_modules has gate_proj; a layer of this base has dense, fc1"):
        SHAPES["phi2"].adapter_weights(16, ("q_proj", "gate_proj"))
