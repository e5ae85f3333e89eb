"""What a build says about itself, for the card and for croissant.json: counts, examples, metadata."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from bonsai.builder.bonsai import CONFIGS, DESCRIPTION, RELEASED, VERSION
from bonsai.builder.reader import Located
from bonsai.builder.rows import Row, rows_of
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Language
from bonsai.dataset_card import croissant
from bonsai.dataset_card.card import ConfigFacts, DatasetFacts, ExampleFacts

Infos = Mapping[str, datasets.DatasetInfo]
"""by config"""


def describe(groups: Sequence[Located], infos: Infos, repo_id: str) -> DatasetFacts:
    """The facts of the card."""
    rows = [row for located in groups for row in rows_of(located.group)]
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["category"]][row["language"]] += 1
    return DatasetFacts(
        repo_id=repo_id,
        version=str(VERSION),
        groups=len(groups),
        rows=len(rows),
        improved_reasoning=sum(
            any(o.reasoning is not None for o in located.group.original.values()) for located in groups
        ),
        languages=list(LANGUAGES),
        configs=[
            ConfigFacts(
                name=name, description=CONFIGS[name], rows={s: part.num_examples for s, part in info.splits.items()}
            )
            for name, info in infos.items()
        ],
        category_language={category: dict(counts[category]) for category in CATEGORIES if category in counts},
        examples=_examples(rows),
        generators=dict(Counter(located.group.generator for located in groups)),
        metadata=_metadata(infos),
    )


def _examples(rows: Sequence[Row]) -> list[ExampleFacts]:
    """The first row of each category, Japanese and English in turn."""
    shown = []
    for number, category in enumerate(CATEGORIES):
        wanted = (Language.JA, Language.EN)[number % 2]
        row = next((r for r in rows if r["category"] == category and r["language"] == wanted), None)
        if row is not None:
            shown.append(
                ExampleFacts(
                    category=category,
                    instruction=row["instruction"],
                    input=row["input"],
                    reasoning=row["reasoning"],
                    output=row["output"],
                )
            )
    return shown


def croissant_json(infos: Infos, repo_id: str) -> str:
    """The text of croissant.json."""
    return croissant.render(
        repo_id=repo_id,
        version=str(VERSION),
        released=RELEASED,
        description=DESCRIPTION,
        languages=list(LANGUAGES),
        configs=[
            croissant.CroissantConfig(
                name=name,
                description=CONFIGS[name],
                columns={column: _croissant_type(feature) for column, feature in info.features.items()},
                repeated=frozenset(c for c, feature in info.features.items() if isinstance(feature, datasets.List)),
            )
            for name, info in infos.items()
        ],
    )


def _croissant_type(feature: Any) -> str | dict[str, str]:
    if isinstance(feature, datasets.List):
        inner = feature.feature
        if isinstance(inner, dict):
            return {member: str(_croissant_type(kind)) for member, kind in inner.items()}
        return _croissant_type(inner)
    is_text = isinstance(feature, datasets.Value) and feature.dtype == "string"
    return "sc:Text" if is_text else "sc:Integer"


def _metadata(infos: Infos) -> dict[str, Any]:
    card = DatasetCardData()
    DatasetInfosDict(**infos).to_dataset_card_data(card)
    MetadataConfigs(
        {
            config: {
                "data_files": [{"split": split, "path": f"{config}/{split}-*"} for split in infos[config].splits],
                **({"default": True} if config == "default" else {}),
            }
            for config in infos
        }
    ).to_dataset_card_data(card)
    data: dict[str, Any] = card.to_dict()  # type: ignore[no-untyped-call]
    return {key: data[key] for key in ("configs", "dataset_info")}
