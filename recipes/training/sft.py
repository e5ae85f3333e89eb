"""Set up TRL's SFTTrainer for a recipe: base model in NF4, LoRA adapter, tokenized rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import datasets
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PrinterCallback,
)
from trl import SFTConfig

from bonsai.builder.prompt import PromptEncoder
from bonsai.recipes.training.checkpoints import SAVE_TOTAL_LIMIT
from bonsai.recipes.training.data import RecordIdCollator, TrainingRows
from bonsai.recipes.training.engine.install import NOTHING, EngineOptions
from bonsai.recipes.training.engine.trainer import EngineTrainer
from bonsai.recipes.training.gguf import base_commit
from bonsai.recipes.training.recipe import Recipe, RecipeError, gradient_accumulation_steps, local_rank, nearest

NO_STEP_CHECKPOINTS = 10**9
_CHECKPOINTING = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in SFTConfig.__dataclass_fields__
)
"""transformers renamed it in 5.20"""


class TrainingSetup(NamedTuple):
    """A trainer that is ready to run, and its parts."""

    trainer: EngineTrainer
    model: torch.nn.Module
    """base and adapter"""
    tokenizer: Any
    base_model_commit: str


def compute_dtype() -> torch.dtype:
    """Return float16 on any GPU (a T4 only emulates bfloat16), and float32 on a CPU."""
    return torch.float16 if torch.cuda.is_available() else torch.float32


def build_trainer(
    recipe: Recipe,
    base_model: str,
    rows: TrainingRows,
    work: Path,
    *,
    max_steps: int | None,
    report_to: Sequence[str] = (),
    with_engine: bool = True,
) -> TrainingSetup:
    """Load the base in NF4, attach the adapter, and pass both to TRL.

    Args:
        base_model: the Hub id in the current namespace, or a folder.
        work: a folder for TRL's own files.
        max_steps: fewer steps than the recipe's, for a smoke run.
        report_to: experiment trackers, by Transformers' names.
        with_engine: False leaves TRL, PEFT and bitsandbytes as they are, for comparison; packed records are checked
            for isolation in either case.

    Raises:
        RecipeError: a record is longer than the recipe's max_length, target_modules names a layer that the base lacks,
            or the base is not available.
    """
    # 1. The tokenizer first: records that are too long are found before the weights are loaded.
    dtype = compute_dtype()
    commit = base_commit(base_model, recipe.base_model_revision)
    revision = recipe.base_model_revision or None  # None: a folder
    tokenizer = AutoTokenizer.from_pretrained(base_model, revision=revision)
    check_max_length(recipe, tokenizer, rows)

    # 2. The base in NF4.
    config = AutoConfig.from_pretrained(base_model, revision=revision)
    model = AutoModelForCausalLM.from_pretrained(
        base_model,
        revision=revision,
        dtype=dtype,
        attn_implementation=attention_of(config),
        device_map={"": local_rank()} if torch.cuda.is_available() else None,
        quantization_config=BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type=recipe.bnb_4bit_quant_type,
            bnb_4bit_use_double_quant=recipe.bnb_4bit_use_double_quant,
            bnb_4bit_compute_dtype=dtype,
        ),
    )
    check_target_modules(recipe, base_model, model)

    # 3. TRL's trainer, which attaches the LoRA adapter.
    trainer = EngineTrainer(
        model,
        SFTConfig(**sft_config_kwargs(recipe, work, max_steps, report_to)),
        train_dataset=encode_rows(rows.train, tokenizer),
        eval_dataset=encode_rows(rows.validation, tokenizer),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=recipe.r,
            lora_alpha=recipe.lora_alpha,
            lora_dropout=recipe.lora_dropout,
            target_modules=recipe.target_modules
            if isinstance(recipe.target_modules, str)
            else list(recipe.target_modules),
            task_type="CAUSAL_LM",
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.data_collator = RecordIdCollator(trainer.data_collator, tokenizer, rows.train)

    # 4. Undo what libraries do to weights that are trained in NF4.
    adapted = cast(torch.nn.Module, trainer.model)
    disable_cpu_repacking(adapted)
    upcast_trainable_parameters(adapted)

    # 5. The engine comes last: it replaces forwards of the layers as they are now.
    engine = trainer.use_engine(
        EngineOptions(recompute=not recipe.gradient_checkpointing)
        if with_engine and not recipe.lora_dropout
        else NOTHING
    )
    if with_engine and recipe.lora_dropout:
        engine.left_out["linear"] = f"it has no dropout, and lora_dropout is {recipe.lora_dropout}; peft's has"
    tokenizer.chat_template = PromptEncoder(tokenizer).chat_template
    return TrainingSetup(trainer=trainer, model=adapted, tokenizer=tokenizer, base_model_commit=commit)


def check_target_modules(recipe: Recipe, base_model: str, model: torch.nn.Module) -> None:
    """Check that every target names a layer: PEFT ignores those it does not find, as long as it finds one.

    Raises:
        RecipeError: one or more targets are not in the base.
    """
    if isinstance(recipe.target_modules, str):
        return
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    unknown = [
        target
        for target in recipe.target_modules
        if not any(name == target or name.endswith(f".{target}") for name in linears)
    ]
    if unknown:
        known = sorted({name.rpartition(".")[2] for name in linears} - {"lm_head"})
        raise RecipeError(
            f"{recipe.repo_id}: target_modules has {', '.join(map(repr, unknown))}, which {base_model} lacks"
            f"{nearest(unknown[0], known)}; its linear layers are {', '.join(known)}"
        )


def sft_config_kwargs(
    recipe: Recipe, work: Path, max_steps: int | None, report_to: Sequence[str] = ()
) -> dict[str, Any]:
    """Translate the recipe into arguments of TRL's SFTConfig.

    Args:
        work: a folder for TRL's own files.
        max_steps: replaces the recipe's.
    """
    gpu = torch.cuda.is_available()
    return {
        # 1. Device and precision.
        "output_dir": str(work),
        "use_cpu": not gpu,
        "fp16": gpu,
        "bf16": False,  # TRL's default is True, which a T4 only emulates
        "dataloader_pin_memory": gpu,
        # 2. Optimisation.
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.lr_scheduler_type,
        "warmup_steps": recipe.warmup_steps,
        "num_train_epochs": recipe.num_train_epochs,
        "max_steps": recipe.max_steps if max_steps is None else max_steps,
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "per_device_eval_batch_size": recipe.per_device_train_batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps(recipe),
        "max_length": recipe.max_length,
        "packing": recipe.packing,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "optim": recipe.optim,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "completion_only_loss": True,
        _CHECKPOINTING: recipe.gradient_checkpointing,
        "include_num_input_tokens_seen": "non_padding",
        # 3. Logging, evaluation and checkpoints.
        "logging_steps": 1,
        "logging_first_step": True,
        "eval_strategy": "steps" if recipe.eval_steps else "no",
        "eval_steps": recipe.eval_steps or None,
        "save_strategy": "steps",
        "save_steps": NO_STEP_CHECKPOINTS,  # they are made by time, see checkpoints.py
        "save_total_limit": SAVE_TOTAL_LIMIT,
        "report_to": list(report_to),
        "project": "bonsai",  # the name in trackers
        "run_name": recipe.repo_id.rpartition("/")[2],
        "disable_tqdm": True,
    }


def attention_of(config: Any) -> str:
    """Return "sdpa", or "eager" for the few bases without it (Gemma 2 caps its scores, GPT-OSS has sinks)."""
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return "eager" if model is not None and not model._supports_sdpa else "sdpa"


def disable_cpu_repacking(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from repacking weights for CPU inference at the first evaluation.

    On a CPU with AVX512-BF16, version 0.50 repacks each layer when it runs in eval mode; from then on its forward uses
    a kernel without a backward, and training silently learns nothing.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def upcast_trainable_parameters(model: torch.nn.Module) -> None:
    """Undo TRL's cast of 4-bit models' adapters to bfloat16, which a T4 lacks and which rounds small updates away."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def check_max_length(recipe: Recipe, tokenizer: Any, rows: TrainingRows) -> None:
    """Check that no record has to be truncated: without its EOS the model would learn never to stop.

    Raises:
        RecipeError: a record does not fit into max_length.
    """
    encoder = PromptEncoder(tokenizer)
    for row in itertools.chain(rows.train, rows.validation):
        length = len(encoder.example(row["prompt"], row["completion"]).ids) - 1
        if length >= recipe.max_length:
            raise RecipeError(
                f"{row['id']}: {length} tokens and the end mark do not fit into max_length {recipe.max_length}; "
                "shorten the record or raise max_length in the recipe"
            )


def encode_rows(rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
    """Tokenize rows for TRL, whose own tokenization differs from the chat template's (see `PromptEncoder`)."""
    encoder = PromptEncoder(tokenizer)
    examples = [encoder.example(row["prompt"], row["completion"]) for row in rows]
    masks = [[0] * one.prompt_length + [1] * (len(one.ids) - one.prompt_length) for one in examples]
    return datasets.Dataset.from_dict({"input_ids": [one.ids for one in examples], "completion_mask": masks})
