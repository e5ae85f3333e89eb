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
from bonsai.builder.signatures import agreements, count_readers, count_readings
from bonsai.builder.token_counts import Vocabulary, count_tokens
from bonsai.dataset_card import croissant
from bonsai.dataset_card.facts import LENGTH_BIN, ConfigFacts, DatasetFacts, ExampleFacts, LengthFacts, SampleFacts

Infos = Mapping[str, datasets.DatasetInfo]
"""By config."""


def dataset_facts(
    groups: Sequence[SourcedGroup], infos: Infos, repo_id: str, samples: Sequence[SampleFacts] = ()
) -> DatasetFacts:
    """Collect the facts of the dataset card; ``samples`` are those that were read blind."""
    # 1. Count rows by category and language.
    members = [located.group for located in groups]
    rows = [row for group in members for row in group_to_rows(group)]
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["category"]][row["language"]] += 1
    topics = Counter(group.topic for group in members)

    # 2. Show the first row of each category that somebody wrote, Japanese and English in turn.
    examples = []
    for number, category in enumerate(CATEGORIES):
        wanted = (Language.JA, Language.EN)[number % 2]
        written = (row for row in rows if not row["source"].startswith(DERIVED))
        example = next((row for row in written if (row["category"], row["language"]) == (category, wanted)), None)
        if example is not None:
            examples.append(
                ExampleFacts(
                    id=example["id"],
                    language=example["language"],
                    category=category,
                    instruction=example["instruction"],
                    input=example["input"],
                    reasoning=example["reasoning"],
                    output=example["output"],
                    as_trained=_training_text(example),
                )
            )

    # 3. Let `datasets` write the front matter that the Hub reads.
    card = DatasetCardData()
    DatasetInfosDict(**infos).to_dataset_card_data(card)
    MetadataConfigs(
        {
            config: {
                "data_files": [{"split": split, "path": f"{config}/{split}-*"} for split in info.splits],
                **({"default": True} if config == "default" else {}),
            }
            for config, info in infos.items()
        }
    ).to_dataset_card_data(card)
    metadata: dict[str, Any] = card.to_dict()  # type: ignore[no-untyped-call]

    # 4. Put it together.
    return DatasetFacts(
        repo_id=repo_id,
        version=str(VERSION),
        groups=len(groups),
        rows=len(rows),
        derived_rows=sum(row["source"].startswith(DERIVED) for row in rows),
        improved_reasoning=sum(any(old.reasoning is not None for old in group.original.values()) for group in members),
        groups_with=feature_counts(groups),
        languages=list(LANGUAGES),
        configs=[
            ConfigFacts(
                name=name,
                description=CONFIGS[name],
                rows={split: part.num_examples for split, part in info.splits.items()},
            )
            for name, info in infos.items()
        ],
        category_language={
            category: {language: counts[category][language] for language in LANGUAGES if counts[category][language]}
            for category in CATEGORIES
            if category in counts
        },
        topics=dict(sorted(topics.items(), key=lambda item: (-item[1], item[0]))),
        lengths=_lengths(rows, "gpt2"),
        smollm2_lengths=_lengths(rows, "smollm2"),
        probe_kinds=dict(Counter(str(probe.kind) for probe in read_probes(default_probes()))),
        examples=examples,
        generators=dict(Counter(group.generator for group in members)),
        metadata={key: metadata[key] for key in ("configs", "dataset_info")},
        readings=count_readings(members) if any(group.read for group in members) else {},
        readers=count_readers(members),
        agreements=agreements(members),
        samples=samples,
    )


def feature_counts(groups: Sequence[SourcedGroup]) -> dict[str, int]:
    """Count the groups that have what the guideline asks for besides a category."""
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
        "earlier turns": sum(isinstance(group, TextGroup) and bool(group.ja.history) for group in members),
        "a chain of questions": sum(isinstance(group, TextGroup) and group.chain is not None for group in members),
    }


def _lengths(rows: Sequence[Row], vocabulary: Vocabulary) -> list[LengthFacts]:
    """Summarize lengths in tokens by language; a row is counted as the trainer sees it, markers included."""
    texts = [_training_text(row) for row in rows]
    by_language: defaultdict[str, list[int]] = defaultdict(list)
    for row, tokens in zip(rows, count_tokens(texts, vocabulary), strict=True):
        by_language[row["language"]].append(tokens)
    found = []
    for language in LANGUAGES:
        if lengths := sorted(by_language[language]):
            bins = Counter(length // LENGTH_BIN for length in lengths)
            found.append(
                LengthFacts(
                    language=language,
                    median=lengths[len(lengths) // 2],
                    p90=lengths[(len(lengths) * 9 - 1) // 10],
                    longest=lengths[-1],
                    total=sum(lengths),
                    histogram=[bins[number] for number in range(max(bins) + 1)],
                )
            )
    return found


def _training_text(row: Row) -> str:
    turns = to_messages(row["instruction"], row["input"], row["reasoning"], row["output"], row["history"])
    return SECTION_BREAK.join(turn["content"] for turn in turns)


def croissant_json(infos: Infos, repo_id: str) -> str:
    """Return the text of croissant.json."""
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
