"""A tiny random Llama with a byte-level tokenizer, made in a second, for tests of the real training code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)


def tiny_tokenizer() -> Any:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator([], trainers.BpeTrainer(special_tokens=["<|end|>"], initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|end|>")


def write_tiny_llama(folder: Path) -> Path:
    return write_tiny(folder, LlamaConfig(**_SMALL, num_key_value_heads=2))


def write_tiny(folder: Path, config: PretrainedConfig) -> Path:
    """A random model of any architecture, a few layers thin, with the byte-level tokenizer beside it."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config.vocab_size = len(tokenizer)
    config.eos_token_id = config.pad_token_id = config.bos_token_id = tokenizer.eos_token_id
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


_SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 8192,
}
TINY_CONFIGS: dict[str, PretrainedConfig] = {
    "microsoft/phi-2": PhiConfig(**_SMALL),
    "microsoft/Phi-3-mini-4k-instruct": Phi3Config(**_SMALL, pad_token_id=0),
}
"""By the base model that a published recipe names: the same architecture, tiny."""
