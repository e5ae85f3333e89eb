"""Build the YAML front matter of a model card, and estimate energy and emissions.

Energy is the device's stated power times the time in the training loop: an upper bound for the GPU itself, without the
machine around it. Carbon is the energy times the world's average intensity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult, ModelCardData

from bonsai.model_card.facts import AdapterFacts

QUESTION = "Why does bread dough rise?"
"""what the card's snippets ask"""
WATTS = {"T4": 70.0, "L4": 72.0, "A100": 400.0, "H100": 700.0, "H200": 700.0}
"""Board power by NVIDIA's datasheets (A100, H100 and H200 in their SXM form)"""
CPU_WATTS = 65.0
"""assumed: the usual rating of a desktop processor"""
GRAMS_PER_KWH = 473.0
"""CO2 equivalent, world average of 2024: Ember, Global Electricity Review 2025"""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The estimated energy and emissions of a run."""

    watts: float
    watts_from: str
    kwh: float
    grams: float
    """of CO2 equivalent"""

    @property
    def method(self) -> str:
        """How the figures were estimated."""
        return (
            f"{self.watts:.0f} W ({self.watts_from}) times the time in the training loop, at {GRAMS_PER_KWH:.0f} g "
            "of CO2 a kWh (world average of 2024: Ember, Global Electricity Review 2025); not metered"
        )


def footprint(device: str, seconds: float) -> Footprint | None:
    """Estimate the footprint of a run on a device; `None` for a GPU whose power is not in `WATTS`."""
    gpu = next((name for name in WATTS if name in device.replace("-", " ").split()), None)
    if gpu is not None:
        watts, source = WATTS[gpu], f"the {gpu}'s rating"
    elif device == "CPU":
        watts, source = CPU_WATTS, "assumed for a desktop processor"
    else:
        return None
    kwh = watts * seconds / 3_600_000
    return Footprint(watts=watts, watts_from=source, kwh=kwh, grams=kwh * GRAMS_PER_KWH)


def front_matter(facts: AdapterFacts) -> str:
    """Format the YAML block."""
    return yaml.safe_dump(as_mapping(card_data(facts)), sort_keys=False, allow_unicode=True, width=120)


def as_mapping(data: CardData) -> dict[str, Any]:
    """Convert card data to what the YAML block holds, without empty fields."""
    return dict(data.to_dict())  # type: ignore[no-untyped-call]  # huggingface_hub types what goes in only


def card_data(facts: AdapterFacts) -> ModelCardData:
    """Build the metadata behind the Hub's filters, its model tree and its table of results.

    The licence is the base model's, because the adapter is useless without it.
    """
    # 1. Collect the validation loss, which every run has, then the scores of the evaluation.
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
    results = [loss, *(facts.evaluation.results if facts.evaluation else ())]

    # 2. Estimate the emissions, where the device's power is known.
    emissions: dict[str, Any] = {}
    estimate = footprint(facts.device, facts.seconds)
    if estimate is not None:
        emissions["co2_eq_emissions"] = {
            "emissions": round(estimate.grams, 2),
            "source": estimate.method,
            "training_type": "fine-tuning",
            "hardware_used": facts.device,
        }

    # 3. Put it together; the tags are those that trl and peft give an adapter, then ours.
    tags = ["lora", "qlora", "sft", "trl", "transformers", "generated_from_trainer", "reasoning", "bonsai"]
    return ModelCardData(
        license=facts.license,
        language=list(facts.languages),
        library_name="peft",
        pipeline_tag="text-generation",
        base_model=facts.base_model,
        base_model_relation="adapter",
        datasets=[facts.dataset],
        metrics=list(dict.fromkeys(result.metric_type for result in results)),
        tags=[f"base_model:adapter:{facts.base_model}", *tags, *(["gguf"] if facts.gguf else [])],
        widget=[{"messages": [{"role": "user", "content": QUESTION}]}],
        model_name=facts.name,
        eval_results=results,
        **emissions,
    )
