"""Build the YAML front matter of a model card, and estimate energy and emissions.

Energy is the device's stated power times the time in the training loop; that is an upper bound for the GPU itself and
leaves out the machine around it. Carbon is the energy times the world's average intensity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult, ModelCardData

from bonsai.model_card.facts import AdapterFacts

WATTS = {"T4": 70.0, "L4": 72.0, "A100": 400.0, "H100": 700.0, "H200": 700.0}
"""Board power by NVIDIA's datasheets (A100, H100 and H200 in their SXM form)"""
CPU_WATTS = 65.0
"""assumed: the usual rating of a desktop processor"""
GRAMS_PER_KWH = 473.0
"""CO2 equivalent, world average of 2024: Ember, Global Electricity Review 2025"""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a run used, by estimate."""

    watts: float
    watts_from: str
    kwh: float
    grams: float
    """of CO2 equivalent"""

    @property
    def method(self) -> str:
        """How the figures were arrived at."""
        return (
            f"{self.watts:.0f} W ({self.watts_from}) times the time in the training loop, at {GRAMS_PER_KWH:.0f} g "
            "of CO2 a kWh (world average of 2024: Ember, Global Electricity Review 2025); not metered"
        )


def footprint(device: str, seconds: float) -> Footprint | None:
    """The estimate for a run on this device; None for a GPU whose power is not listed here."""
    found = next((name for name in WATTS if name in device.replace("-", " ").split()), None)
    if found is not None:
        watts, said = WATTS[found], f"the {found}'s rating"
    elif device == "CPU":
        watts, said = CPU_WATTS, "assumed for a desktop processor"
    else:
        return None
    kwh = watts * seconds / 3_600_000
    return Footprint(watts=watts, watts_from=said, kwh=kwh, grams=kwh * GRAMS_PER_KWH)


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
