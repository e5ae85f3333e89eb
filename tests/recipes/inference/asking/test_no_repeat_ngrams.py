"""A run of tokens that may not come twice: as transformers has it, in a batch too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonsai.recipes.inference.batching import banned_ngram_tokens
from bonsai.recipes.inference.generation import GenerationError, GenerationSettings
from bonsai.recipes.inference.transformers_engine import TransformersEngine
from tests.recipes.tiny import write_tiny_llama

PROMPTS = ["abcabcabc", "東京", "why why why", "x"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_batch_repeats_no_run_and_says_what_transformers_says(base: Path, size: int) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    alone = []
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        settings = {"max_new_tokens": 40, "do_sample": False, "no_repeat_ngram_size": size}
        out = model.generate(**inputs, **settings, pad_token_id=tokenizer.eos_token_id)
        alone.append(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    decoder = GenerationSettings(max_new_tokens=40, no_repeat_ngram_size=size)
    together = [one.text for one in TransformersEngine.load(base, batch_size=3).generate(PROMPTS, decoder)]
    assert together == [text.rstrip("\ufffd") for text in alone]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
def test_a_token_is_banned_if_and_only_if_it_would_say_a_run_again(tokens: list[int], size: int) -> None:
    runs = {tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)}
    banned = set(banned_ngram_tokens(tokens, size))
    if len(tokens) >= size - 1:
        assert banned == {token for token in range(4) if (*tokens[len(tokens) - size + 1 :], token) in runs}


def test_a_size_below_nothing_is_refused() -> None:
    with pytest.raises(GenerationError, match="no_repeat_ngram_size is -1; give at least 1, or 0 for none"):
        GenerationSettings(no_repeat_ngram_size=-1)
