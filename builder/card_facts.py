"""Collect the counts, examples and metadata of a build for the dataset card and croissant.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from bonsai.builder.bonsai import CONFIGS, DESCRIPTION, RELEASED, VERSION
from bonsai.builder.prompt import SECTION_BREAK, to_messages
from bonsai.builder.records import SourcedGroup, default_probes, read_probes
from bonsai.builder.rows import DERIVED, Row, group_to_rows
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Language, TextGroup
from bonsai.builder.token_counts import Vocabulary, count_tokens
from bonsai.dataset_card import croissant
from bonsai.dataset_card.facts import LENGTH_BIN, ConfigFacts, DatasetFacts, ExampleFacts, LengthFacts

Infos = Mapping[str, datasets.DatasetInfo]
"""by config"""


def dataset_facts(groups: Sequence[SourcedGroup], infos: Infos, repo_id: str) -> DatasetFacts:
    """The facts of the card."""
    rows = [row for located in groups for row in group_to_rows(located.group)]
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["category"]][row["language"]] += 1
    return DatasetFacts(
        repo_id=repo_id,
        version=str(VERSION),
        groups=len(groups),
        rows=len(rows),
        derived_rows=sum(row["source"].startswith(DERIVED) for row in rows),
        improved_reasoning=sum(
            any(o.reasoning is not None for o in located.group.original.values()) for located in groups
        ),
        groups_with=feature_counts(groups),
        languages=list(LANGUAGES),
        configs=[
            ConfigFacts(
                name=name, description=CONFIGS[name], rows={s: part.num_examples for s, part in info.splits.items()}
            )
            for name, info in infos.items()
        ],
        category_language={
            category: {language: counts[category][language] for language in LANGUAGES if counts[category][language]}
            for category in CATEGORIES
            if category in counts
        },
        topics=dict(sorted(Counter(g.group.topic for g in groups).items(), key=lambda item: (-item[1], item[0]))),
        lengths=_lengths(rows, "gpt2"),
        smollm2_lengths=_lengths(rows, "smollm2"),
        probe_kinds=dict(Counter(str(probe.kind) for probe in read_probes(default_probes()))),
        examples=_examples(rows),
        generators=dict(Counter(located.group.generator for located in groups)),
        metadata=_metadata(infos),
    )


def feature_counts(groups: Sequence[SourcedGroup]) -> dict[str, int]:
    """How many groups have what the guideline asks for beside their category."""
    members = [located.group for located in groups]
    return {
        "Chinese": sum(group.zh is not None for group in members),
        "Reasoning in every language": sum(
            all(text.reasoning.strip() for text in group.texts().values()) for group in members
        ),
        "an improved Reasoning": sum(
            any(earlier.reasoning is not None for earlier in group.original.values()) for group in members
        ),
        "an edited input": sum(
            any(earlier.input is not None for earlier in group.original.values()) for group in members
        ),
        "names in katakana": sum("katakana_names" in group.skills for group in members),
        "translate, then answer": sum("translate_then_answer" in group.skills for group in members),
        "a chain of questions": sum(isinstance(group, TextGroup) and group.chain is not None for group in members),
    }


def _lengths(rows: Sequence[Row], vocabulary: Vocabulary) -> list[LengthFacts]:
    """Lengths by language; a row is counted as the trainers see it, markers included."""
    texts = [_training_text(row) for row in rows]
    by_language: defaultdict[str, list[int]] = defaultdict(list)
    for row, tokens in zip(rows, count_tokens(texts, vocabulary), strict=True):
        by_language[row["language"]].append(tokens)
    found = []
    for language in LANGUAGES:
        if tokens_of := sorted(by_language[language]):
            bins = Counter(tokens // LENGTH_BIN for tokens in tokens_of)
            found.append(
                LengthFacts(
                    language=language,
                    median=tokens_of[len(tokens_of) // 2],
                    p90=tokens_of[(len(tokens_of) * 9 - 1) // 10],
                    longest=tokens_of[-1],
                    total=sum(tokens_of),
                    histogram=[bins[place] for place in range(max(bins) + 1)],
                )
            )
    return found


def _training_text(row: Row) -> str:
    turns = to_messages(row["instruction"], row["input"], row["reasoning"], row["output"])
    return SECTION_BREAK.join(turn["content"] for turn in turns)


def _examples(rows: Sequence[Row]) -> list[ExampleFacts]:
    """The first row of each category that somebody wrote, Japanese and English in turn."""
    shown = []
    for number, category in enumerate(CATEGORIES):
        wanted = (Language.JA, Language.EN)[number % 2]
        written = (r for r in rows if not r["source"].startswith(DERIVED))
        row = next((r for r in written if r["category"] == category and r["language"] == wanted), None)
        if row is not None:
            shown.append(
                ExampleFacts(
                    id=row["id"],
                    language=row["language"],
                    category=category,
                    instruction=row["instruction"],
                    input=row["input"],
                    reasoning=row["reasoning"],
                    output=row["output"],
                    as_trained=_training_text(row),
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
