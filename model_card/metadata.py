"""The YAML block of the card, by the Hub's own classes, so that what it holds is what the Hub reads."""

from __future__ import annotations

from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult, ModelCardData

from bonsai.model_card.facts import AdapterFacts
from bonsai.model_card.footprint import footprint

QUESTION = "Why does bread dough rise?"
"""what the card's snippets ask"""


def front_matter(facts: AdapterFacts) -> str:
    """The YAML block; the licence is the base model's, for the adapter is of no use without it."""
    return yaml.safe_dump(as_mapping(card_data(facts)), sort_keys=False, allow_unicode=True, width=120)


def as_mapping(data: CardData) -> dict[str, Any]:
    """What the YAML block holds, without the fields that are empty."""
    return dict(data.to_dict())  # type: ignore[no-untyped-call]  # huggingface_hub types what goes in only


def card_data(facts: AdapterFacts) -> ModelCardData:
    """What the Hub's filters, its model tree and its table of results are made of."""
    results = eval_results(facts)
    more: dict[str, Any] = {}
    estimate = footprint(facts.device, facts.seconds)
    if estimate is not None:
        more["co2_eq_emissions"] = {
            "emissions": round(estimate.grams, 2),
            "source": estimate.method,
            "training_type": "fine-tuning",
            "hardware_used": facts.device,
        }
    return ModelCardData(
        license=facts.licence,
        language=list(facts.languages),
        library_name="peft",
        pipeline_tag="text-generation",
        base_model=facts.base_model,
        base_model_relation="adapter",
        datasets=[facts.dataset],
        metrics=list(dict.fromkeys(result.metric_type for result in results)),
        tags=[
            f"base_model:adapter:{facts.base_model}",
            "lora",
            "qlora",
            "sft",
            "trl",
            "transformers",
            "generated_from_trainer",
            "reasoning",
            "bonsai",
            *(["gguf"] if facts.gguf else []),
        ],
        widget=[{"messages": [{"role": "user", "content": QUESTION}]}],
        model_name=facts.name,
        eval_results=results,
        **more,
    )


def eval_results(facts: AdapterFacts) -> list[EvalResult]:
    """The validation loss, which every run has, then the scores of the evaluation."""
    loss = EvalResult(
        task_type="text-generation",
        task_name="Text Generation",
        dataset_type=facts.dataset,
        dataset_name=facts.dataset,
        dataset_config="default",
        dataset_split="validation",
        dataset_revision=facts.dataset_commit or facts.dataset_revision,
        metric_type="loss",
        metric_name=f"Loss on {facts.validation_rows} rows",
        metric_value=round(facts.validation_loss_after, 4),
    )
    return [loss, *(facts.evaluation.results if facts.evaluation else ())]
