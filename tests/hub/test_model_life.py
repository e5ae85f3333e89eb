"""A model and an adapter, pushed and loaded by transformers and peft."""

from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")


def test_a_model_and_its_adapter_are_pushed_and_loaded_back(
    api: HfApi, new_name: Callable[[], str], in_child: Callable[..., Any]
) -> None:
    model, adapter = new_name(), new_name()
    result = in_child(
        """
        import torch
        from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
        from transformers import PreTrainedTokenizerFast

        words = {"[UNK]": 0, "松": 1, "竹": 2, "梅": 3}
        raw = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]").push_to_hub(model)
        shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
        made = LlamaForCausalLM(LlamaConfig(vocab_size=8, **shape))
        made.push_to_hub(model)

        tokenizer = AutoTokenizer.from_pretrained(model)
        loaded = AutoModelForCausalLM.from_pretrained(model)
        inputs = tokenizer("松 梅", return_tensors="pt")
        tuned = get_peft_model(loaded, LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False))
        tuned.push_to_hub(adapter)
        again = AutoPeftModelForCausalLM.from_pretrained(adapter)
        with torch.no_grad():
            result = {
                "ids": inputs["input_ids"].tolist(),
                "same adapter": torch.equal(tuned(**inputs).logits, again(**inputs).logits),
                "same base": torch.equal(made(**inputs).logits, tuned.unload()(**inputs).logits),
            }
        """,
        model=model,
        adapter=adapter,
    )
    assert result == {"ids": [[1, 3]], "same adapter": True, "same base": True}
    files = {file.path: file.lfs for file in api.list_repo_tree(adapter) if isinstance(file, RepoFile)}
    assert files["adapter_model.safetensors"]
    card = f"---\nlibrary_name: peft\nbase_model: {model}\nbase_model_relation: adapter\n---\n"
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=adapter)
    info = api.model_info(adapter)
    assert (info.library_name, info.card_data and info.card_data.base_model) == ("peft", model)
    assert {f"base_model:{model}", f"base_model:adapter:{model}"} <= set(info.tags or [])
    assert [found.id for found in api.list_models(filter=f"base_model:{model}")] == [adapter]
