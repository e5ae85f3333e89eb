"""Renders the README.md that the Hub shows for an adapter.

Every number comes from the run's own record; the template holds none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, StrictUndefined


class LossRow(NamedTuple):
    """One line of the loss table."""

    step: int
    loss: float
    learning_rate: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """What the card states about one adapter."""

    repo_id: str
    recipe_name: str
    licence: str
    base_model: str
    base_model_revision: str
    base_model_commit: str
    dataset: str
    dataset_revision: str
    dataset_commit: str
    languages: Sequence[str]
    categories: Sequence[str]
    hyperparameters: Mapping[str, Any]
    """recipe fields by the names PEFT and TRL give them"""
    losses: Sequence[LossRow]
    validation_loss_before: float
    validation_loss_after: float
    train_rows: int
    validation_rows: int
    steps: int
    tokens: int
    seconds: float
    peak_memory_gib: float
    device: str
    compute_dtype: str
    trainable_parameters: int
    versions: Mapping[str, str]
    python: str
    constraints_sha256: str | None
    prompt: str
    """a whole prompt, as the adapter was trained on it"""
    tag: str


TABLE_ROWS = 12
"""the loss table shows about this many steps; training/loss.csv has them all"""


def render(facts: AdapterFacts) -> str:
    """The whole README.md: YAML front matter, then Markdown in English with a Japanese summary."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    body = template.render(facts=facts, losses=thinned(facts.losses), snippet=snippet(facts))
    return f"---\n{front_matter(facts)}---\n\n{body.strip()}\n"


def front_matter(facts: AdapterFacts) -> str:
    """The YAML block; the licence is the base model's, for the adapter is of no use without it."""
    data = {
        "license": facts.licence,
        "language": list(facts.languages),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": facts.base_model,
        "base_model_relation": "adapter",
        "datasets": [facts.dataset],
        "tags": ["lora", "qlora", "sft", "trl", "reasoning", "bonsai"],
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def snippet(facts: AdapterFacts) -> str:
    """The Python that loads the adapter and asks it once; `publish` runs this very text from the published card."""
    return f'''import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

adapter = "{facts.repo_id}"
tokenizer = AutoTokenizer.from_pretrained(adapter, revision="{facts.tag}")
model = AutoPeftModelForCausalLM.from_pretrained(adapter, revision="{facts.tag}", dtype=torch.float32)

question = [{{"role": "user", "content": "Why does bread dough rise?"}}]
prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=120, do_sample=False, repetition_penalty=1.15)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))'''


def thinned(losses: Sequence[LossRow]) -> list[LossRow]:
    """First, last, and steps evenly between."""
    if len(losses) <= TABLE_ROWS:
        return list(losses)
    picked = {round(i * (len(losses) - 1) / (TABLE_ROWS - 1)) for i in range(TABLE_ROWS)}
    return [losses[i] for i in sorted(picked)]
