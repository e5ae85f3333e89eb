"""Tiny Phi, Phi-3 and Llama in NF4 with an adapter, and a packed batch, made in a moment."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Phi3Config, PhiConfig

SHARED = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
CONFIGS: dict[str, Any] = {
    "phi": lambda: PhiConfig(**SHARED, resid_pdrop=0.0, partial_rotary_factor=0.5),
    "phi3": lambda: Phi3Config(**SHARED, resid_pdrop=0.0, num_key_value_heads=4, sliding_window=511),
    "llama": lambda: LlamaConfig(**SHARED, num_key_value_heads=2),
}


def quantised(kind: str, **changes: Any) -> Any:
    """The base alone, with random biases and norms so that none can be forgotten unseen."""
    torch.manual_seed(0)
    config = CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.1)
        elif "norm" in name:
            parameter.data.normal_(1, 0.1)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="sdpa",
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.float32,
            ),
        )


def lora(**changes: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **changes})


def adapted(kind: str, **changes: Any) -> Any:
    """With an adapter that already says something: B is not zero."""
    model = get_peft_model(quantised(kind, **changes), lora())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    return model.train()


def packed_batch(lengths: tuple[int, ...] = (5, 17, 1, 9)) -> dict[str, Any]:
    """One row of records as TRL's padding-free collator makes it; a third of each record is prompt."""
    generator = torch.Generator().manual_seed(1)
    labels, ids, positions = [], [], []
    for length in lengths:
        tokens = torch.randint(1, 300, (length,), generator=generator)
        ids.append(tokens)
        positions.append(torch.arange(length))
        label = tokens.clone()
        label[: max(1, length // 3)] = -100
        labels.append(label)
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    return {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(labels)[None],
        "position_ids": torch.cat(positions)[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "use_cache": False,
    }


def gradients(model: Any) -> dict[str, Tensor]:
    """Gradients of what is trained, by name; they are cleared."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    model.zero_grad()
    return found


def stock_loss(model: Any, batch: dict[str, Any]) -> Tensor:
    """Sum of the next-token losses, by transformers and peft alone."""
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    return torch.nn.functional.cross_entropy(
        logits[0, :-1].float(), batch["labels"][0, 1:], ignore_index=-100, reduction="sum"
    )
