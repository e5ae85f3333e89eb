"""How Unsloth and LitGPT are trained for ``engine_peers.py``: each by its own public path, timed alike.

Unsloth: https://docs.unsloth.ai (FastLanguageModel, then TRL's SFTTrainer as Unsloth rewrites it).
LitGPT: ``litgpt/finetune/lora.py``, whose ``main`` and ``fit`` these lines follow, less checkpoints and validation.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

GIB = 2**30
CAP = 15 * GIB
GPU = torch.cuda.is_available()
SKIPPED = 4
LITGPT_NAMES = {"phi2": "phi-2", "phi3": "Phi-3-mini-4k-instruct", "llama": "Llama-3.2-3B"}


def as_on_a_t4() -> None:
    """float16 is the peers' own argument; here the memory, and no kernel that wants a newer GPU."""
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    if GPU:
        memory = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP / memory))
        # Unsloth sizes its loss by what is free.
        torch.cuda.mem_get_info = lambda device=None: (CAP - torch.cuda.memory_reserved(), CAP)


class Clock:
    """Wall time and useful tokens at the end of each step, the GPU's work done.

    What is known goes to ``row.json`` each step, so that a process cut off by its time limit leaves its figures.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[float] = []
        if GPU:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def step(self, tokens_so_far: int) -> None:
        if GPU:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.tokens.append(tokens_so_far)
        if len(self.times) > SKIPPED + 1:
            Path("row.json").write_text(json.dumps(self.row()))

    def row(self) -> dict[str, Any]:
        first = min(SKIPPED, len(self.times) - 2)
        seconds = self.times[-1] - self.times[first]
        return {
            "steps": len(self.times),
            "tokens_per_s": round((self.tokens[-1] - self.tokens[first]) / seconds),
            "tokens_a_step": round(self.tokens[-1] / len(self.tokens)),
            "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2) if GPU else None,
            "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2) if GPU else None,
            "step_ms": [round(1e3 * (end - start)) for start, end in itertools.pairwise(self.times)],
            "losses": [round(loss, 5) for loss in self.losses],
        }


def xformers_as_on_a_t4() -> None:
    """xformers' memory-efficient attention, which Unsloth takes on a T4, without the flash kernels it prefers here.

    That attention is torch's own kernel; the wheel's library of other kernels is built for one CUDA and not needed.
    """
    from xformers import _cpp_lib
    from xformers.ops.fmha import flash, flash3

    _cpp_lib._register_extensions = lambda: None
    for operation in (flash.FwOp, flash.BwOp, flash3.FwOp, flash3.BwOp):
        operation.CUDA_MINIMUM_COMPUTE_CAPABILITY = (99, 0)


def unsloth_as_on_a_t4() -> str:
    """Its own choice of attention, less flash: it takes the switch that ``as_on_a_t4`` turns for a wish for SDPA."""
    from torch.nn.attention import SDPBackend
    from unsloth.utils import attention_dispatch, hf_packed_attention

    attention_dispatch._XFORMERS_LIKE_BACKENDS.remove(SDPBackend.FLASH_ATTENTION)
    hf_packed_attention._sdpa_policy_requested = lambda *shape: False
    return str(attention_dispatch.select_attention_backend(use_varlen=True))


def unsloth(shape: str, folder: Path, steps: int, *, checkpointing: str | bool) -> dict[str, Any]:
    """The notebooks' path, packed; the optimizer and rate are those of ``engine.py``."""
    os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"  # Unsloth's own, set before xformers wakes CUDA
    xformers_as_on_a_t4()
    from unsloth import FastLanguageModel  # isort: skip  # before transformers and TRL, which it rewrites
    import datasets
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    as_on_a_t4()
    attention = unsloth_as_on_a_t4()
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(folder), max_seq_length=2048, dtype=torch.float16, load_in_4bit=True, local_files_only=True,
        use_gradient_checkpointing=checkpointing,
    )  # fmt: skip
    phi2 = shape == "phi2"
    targets = ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]
    if not phi2:
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=32, lora_dropout=0, bias="none", target_modules=targets, random_state=42,
        use_gradient_checkpointing=checkpointing, max_seq_length=2048,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=datasets.Dataset.from_list(json.loads((folder / "records.json").read_text())),
        args=SFTConfig(
            output_dir=str(folder / "out"), fp16=True, bf16=False, max_steps=steps, learning_rate=2e-4,
            warmup_steps=0, optim="adamw_torch", per_device_train_batch_size=1, gradient_accumulation_steps=1,
            packing=True, max_length=2048, completion_only_loss=True, logging_steps=1, save_strategy="no",
            report_to=[], disable_tqdm=True, include_num_input_tokens_seen="non_padding", seed=42, data_seed=42,
        ),
    )  # fmt: skip
    clock = Clock()

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.step(state.num_input_tokens_seen)

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.losses += [entry["loss"] for entry in state.log_history[-1:] if "loss" in entry]

    trainer.add_callback(Watch())
    as_on_a_t4()  # again: Unsloth may have chosen kernels while it loaded
    trainer.train()
    return {
        **clock.row(),
        "class": type(model.get_base_model()).__name__,
        "attention": attention,
        "packed": bool(trainer.args.packing),
        "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }


def litgpt_samples(folder: Path, length: int) -> list[dict[str, Any]]:
    samples = []
    for record in json.loads((folder / "records.json").read_text()):
        ids = torch.tensor(record["input_ids"][:length])
        labels = ids.masked_fill(torch.tensor(record["completion_mask"][:length]) == 0, -100)
        counts = {"raw": len(ids), "raw_plus_prompt_template": len(ids)}
        samples.append({"input_ids": ids, "labels": labels, "token_counts": counts})
    return samples


def litgpt(shape: str, folder: Path, steps: int, *, micro_batch: int, length: int) -> dict[str, Any]:
    """``litgpt finetune_lora --quantize bnb.nf4 --precision 16-true``, LoRA on all linear layers but the head."""
    import lightning
    from lightning.fabric.plugins import BitsandbytesPrecision
    from litgpt.data.base import get_sft_collate_fn
    from litgpt.finetune.lora import get_lr_scheduler
    from litgpt.lora import GPT, Config, mark_only_lora_as_trainable
    from litgpt.utils import chunked_cross_entropy, instantiate_bnb_optimizer, num_parameters
    from torch.utils.data import DataLoader

    as_on_a_t4()
    fabric = lightning.Fabric(devices=1, plugins=BitsandbytesPrecision("nf4", torch.float16))
    fabric.seed_everything(42)
    config = Config.from_name(
        LITGPT_NAMES[shape], block_size=4096, lora_r=16, lora_alpha=32, lora_dropout=0.0, lora_query=True,
        lora_key=True, lora_value=True, lora_projection=True, lora_mlp=True, lora_head=False,
    )  # fmt: skip
    samples = litgpt_samples(folder, length)
    loader: Any = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=micro_batch,
        shuffle=True,
        generator=torch.Generator().manual_seed(42),
        collate_fn=get_sft_collate_fn(max_seq_length=length),
    )
    loader = fabric.setup_dataloaders(loader)
    with fabric.init_module(empty_init=False):
        model = GPT(config)
    mark_only_lora_as_trainable(model)
    trainable = num_parameters(model, requires_grad=True)
    model = fabric.setup_module(model)
    rate = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 2e-4, "weight_decay": 0.0}}
    optimizer = fabric.setup_optimizers(instantiate_bnb_optimizer(rate, model.parameters()))
    scheduler = get_lr_scheduler(optimizer, warmup_steps=1, max_steps=steps + 1)
    stable_embedding(model)
    model.max_seq_length = max(len(sample["input_ids"]) for sample in samples)
    model.train()
    clock = Clock()
    tokens = 0
    for batch in itertools.islice(loader, steps):
        logits = model(batch["input_ids"], lm_head_chunk_size=128)
        logits[-1] = logits[-1][..., :-1, :]
        loss = chunked_cross_entropy(logits, batch["labels"][..., 1:])
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        tokens += int(batch["token_counts"]["raw"].sum())
        clock.losses.append(loss.item())
        clock.step(tokens)
    return {**clock.row(), "trainable": trainable}


def stable_embedding(model: Any) -> None:
    """As LitGPT's ``main`` does for bitsandbytes' optimizers; its weight then gets gradients and no steps."""
    from bitsandbytes.nn import StableEmbedding

    old = model.transformer.wte
    model.transformer.wte = StableEmbedding(old.num_embeddings, old.embedding_dim)
    with torch.no_grad():
        model.transformer.wte.weight.copy_(old.weight)
    model.transformer.wte = model.transformer.wte.to(device=old.weight.device, dtype=old.weight.dtype)


TRAINED = {"unsloth": unsloth, "litgpt": litgpt}
