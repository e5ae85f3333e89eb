"""Every causal language model of transformers, tiny and random, in NF4 with an adapter."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from typing import Any

import torch
from peft import get_peft_model
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    BitsAndBytesConfig,
    PretrainedConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from bonsai.recipes.training.sft import attention_of, disable_cpu_repacking
from tests.recipes.engine.models import lora

CANT_BE_TINY = {
    "bailing_hybrid": "sizes of its linear attention hang together in ways that no usual name sets",
    "blt": "patches bytes with a second model, whose sizes have other names",
    "cohere_compass_text": "its default config names no kind of layer that its rotary embedding knows",
    "dbrx": "its inner configs can't be read from their own dictionaries",
    "deepseek_v4": "sizes of its compressed attention hang together in ways that no usual name sets",
    "dots1": "its default config has no number of experts",
    "dots3_note": "sizes of its adapters hang together in ways that no usual name sets",
    "gemma3n": "its vision tower needs timm",
    "gemma4_assistant": "drafts for another model and can't run without its states",
    "gemma4_unified_assistant": "drafts for another model and can't run without its states",
    "longcat_flash": "multiplies by its router's weight itself, which can't be in four bits",
    "mamba": "multiplies by the weight of its time steps itself, which can't be in four bits",
    "musicgen": "a composite of three models over audio codebooks",
    "musicgen_melody": "a composite of three models over audio codebooks",
    "qwen4_exp": "sizes of its attention hang together in ways that no usual name sets",
    "reformer": "its reversible layers have no gradient where the embedding is not trained",
    "rwkv": "takes its weights apart when it is evaluated, which four bits don't allow",
    "zamba": "ties weights of layers that so small a model has not",
}
"""architecture to the reason why it has no tiny model here"""
CHANGES: dict[str, dict[str, Any]] = {
    "dots3_note": {"num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "reformer": {"axial_pos_embds": False},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
"""what an architecture wants besides, or instead"""
TARGETS = {
    "falcon_mamba": ["in_proj", "x_proj"],
    "mamba2": ["in_proj"],
    "llama4": ["q_proj", "k_proj", "v_proj", "o_proj"],  # a router returns a tuple, which an adapter can't add to
    "phimoe": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "falcon_h1": ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj"],
    "nemotron_h": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "in_proj"],
}
"""where PEFT refuses an adapter on all linears"""

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "d_model": 64,
    "n_embd": 64,
    "word_embed_proj_dim": 64,
    "embedding_size": 64,
    "intermediate_size": 96,
    "ffn_dim": 96,
    "d_ff": 96,
    "n_inner": 96,
    "dff": 96,
    "d_inner": 96,
    "ffn_hidden_size": 96,
    "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "moe_intermediate_size": 32,
    "expert_ffn_hidden_size": 32,
    "intermediate_size_mlp": 96,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "decoder_layers": 2,
    "encoder_layers": 1,
    "num_decoder_layers": 2,
    "num_encoder_layers": 1,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rotary_dim": 8,
    "kv_channels": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "emb_dim": 64,
    "mamba_d_ssm": 128,
    "moe_topk": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "qk_head_dim": 16,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "n_ctx": 512,
    "max_seq_len": 512,
    "state_size": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "time_step_rank": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "lru_width": 64,
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": 300,
    "num_kv_shared_layers": 0,
    "sliding_window": 8,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "is_decoder": True,
    "add_cross_attention": False,
    "use_cache": False,
    "first_k_dense_replace": 1,
    "logits_scaling": 4.0,
    "logit_scale": 0.25,
    "lm_head_multiplier": 0.5,
    "residual_multiplier": 0.5,
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "scale_emb": 3,
    "scale_depth": 1.4,
    "dim_model_base": 16,
    "final_logit_softcapping": 3.0,
    "attn_logit_softcapping": 2.0,
    "query_pre_attn_scalar": 16,
}
WHERE_NONE = (
    "num_key_value_heads",
    "head_dim",
    "num_experts_per_tok",
    "n_routed_experts",
    "sliding_window",
    "final_logit_softcapping",
    "attn_logit_softcapping",
)
"""set too where the default is that there is none"""
MOST_WEIGHTS = 15_000_000
PER_LAYER = ("layer_types", "layers_block_type", "mlp_layer_types", "no_rope_layers", "attention_types", "layer_type")


def names() -> list[str]:
    """One name for each class of model, in transformers' order."""
    seen: set[str] = set()
    found = []
    for name, made in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        key = made if isinstance(made, str) else made[0]
        if key not in seen:
            seen.add(key)
            found.append(name)
    return found


def tiny_config(name: str, **changes: Any) -> PretrainedConfig:
    """The architecture's config with small numbers wherever it names them by one of the usual names."""
    wanted = {**CHANGES.get(name, {}), **changes}
    config = _shrunk(CONFIG_MAPPING[name], {**SMALL, **wanted}, tuple(wanted))
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if model.config_class is not type(config) and model.config_class is type(config.get_text_config()):
        return config.get_text_config()
    return config


def _shrunk(kind: type[PretrainedConfig], small: dict[str, Any], asked: tuple[str, ...]) -> PretrainedConfig:
    default = kind()
    known = default.to_dict()
    fields = {key: value for key, value in small.items() if known.get(key) is not None}
    fields |= {key: small[key] for key in WHERE_NONE if key in known}
    if "qk_rope_head_dim" in known:  # latent attention: as many keys as queries
        fields.update(head_dim=small["qk_rope_head_dim"], num_key_value_heads=small["num_attention_heads"])
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size", "is_decoder"):
        fields[key] = small[key]
    layers = 2
    lists = {key: known[key] for key in PER_LAYER if isinstance(known.get(key), list) and known[key]}
    kinds = {key: list({str(one): one for one in value}.values()) for key, value in lists.items()}
    layers = max([layers, *(min(len(one), 4) for one in kinds.values())])
    for key, one in kinds.items():
        fields[key] = [one[at % len(one)] for at in range(layers)]
    for key in ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers"):
        if key in fields:
            fields[key] = layers
    for key, value in vars(default).items():
        if isinstance(value, PretrainedConfig) and key not in ("attn_config", "ffn_config"):
            fields[key] = _shrunk(type(value), small, asked).to_dict()
    fields |= {key: small[key] for key in asked}
    return kind(**fields)


def adapted_tiny(name: str, **changes: Any) -> Any:
    """The tiny model in NF4, sdpa or eager as the trainer chooses, with an adapter on all linears."""
    torch.manual_seed(0)
    config = tiny_config(name, **changes)
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[name]]
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model._from_config(config).parameters())
    if size > MOST_WEIGHTS:
        raise ValueError(f"{name}: {size:,} weights are not tiny; name the number that makes it small in SMALL")
    made: Any = model._from_config(config, attn_implementation=attention_of(config)).float()
    for key, parameter in made.named_parameters():
        if key.endswith("bias"):
            parameter.data.normal_(0, 0.1)
        elif "norm" in key or parameter.dim() == 1:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
        elif parameter.dim() > 1:
            parameter.data.mul_(3)  # so that attention and routing say something
    made.config._attn_implementation = attention_of(config)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        made.save_pretrained(folder)
        loaded = model.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=attention_of(config),
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.float32,
            ),
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own, of experts that are no linears
        adapted = get_peft_model(loaded, lora(target_modules=TARGETS.get(name, "all-linear")))
    disable_cpu_repacking(adapted)
    for key, parameter in adapted.named_parameters():
        if "lora_B" in key:
            parameter.data.normal_(0, 0.1)
    return adapted.eval()
