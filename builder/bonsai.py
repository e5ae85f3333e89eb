"""Define the dataset as a `datasets.GeneratorBasedBuilder`: version, columns, configs and splits.

The Hub refuses loading scripts, so this class is not published: it runs here, and the Hub serves the Parquet it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import datasets

from bonsai.builder.prompt import Message, to_messages
from bonsai.builder.records import Probe, SourcedGroup, default_probes, default_records_dir, read_groups, read_probes
from bonsai.builder.rows import SPLITS, Row, Split, assign_split, group_to_rows
from bonsai.builder.schema import CATEGORIES, LANGUAGES
from bonsai.builder.signatures import reader_columns

VERSION = datasets.Version("0.1.0")
"""Raised by hand when published records change; the tag on the Hub is ``v`` plus this."""

RELEASED = "2026-11-21"
"""Date of this version; changes with it."""

DESCRIPTION = (
    "BONSAI (盆栽): a tiny Japanese/English instruction dataset, with some Chinese, in seven categories, "
    "with Reasoning."
)

_TEXT = datasets.Value("string")
_IDENTITY = {
    "id": _TEXT,
    "group_id": _TEXT,
    "category": datasets.ClassLabel(names=list(CATEGORIES)),
    "language": _TEXT,
}
"""the first columns of every config but `probes`"""

FEATURES = datasets.Features(
    {
        **_IDENTITY,
        "source_language": _TEXT,
        "topic": _TEXT,
        "history": datasets.List(datasets.List(_TEXT)),
        "instruction": _TEXT,
        "input": _TEXT,
        "reasoning": _TEXT,
        "reasoning_original": _TEXT,
        "input_original": _TEXT,
        "output": _TEXT,
        "chain": _TEXT,
        "step": datasets.Value("int32"),
        "skills": datasets.List(_TEXT),
        "source": _TEXT,
        "license": _TEXT,
        "generator": _TEXT,
        "warnings": datasets.List(_TEXT),
    }
)
"""The columns of every config but those below; ``warnings`` names the checks that warned of the group."""

SIGNED_FEATURES = datasets.Features(
    {**FEATURES, "read_by_people": datasets.List(_TEXT), "read_by_models": datasets.List(_TEXT)}
)
"""The columns of a dataset that somebody signed: who found all texts of the row fine, as they are now. They come with
the first signature, so a version without signatures keeps its columns to the byte."""

_TURNS = datasets.List({"role": _TEXT, "content": _TEXT})

MESSAGES_FEATURES = datasets.Features(
    {
        **_IDENTITY,
        "messages": _TURNS,
    }
)

PREFERENCE_FEATURES = datasets.Features(
    {
        **_IDENTITY,
        "prompt": _TURNS,
        "chosen": _TURNS,
        "rejected": _TURNS,
    }
)
"""The columns of the config ``preference``: conversations, so that a trainer writes them in the template of its base;
with an adapter of this project, that is exactly as it was trained."""

PROBE_FEATURES = datasets.Features(
    {
        "id": _TEXT,
        "kind": _TEXT,
        "language": _TEXT,
        "answer_language": _TEXT,
        "instruction": _TEXT,
        "input": _TEXT,
        "reference": _TEXT,
        "accepted": datasets.List(_TEXT),
        "post": _TEXT,
        "note": _TEXT,
    }
)
"""The columns of the config ``probes``."""

_FEATURES_OF = {"messages": MESSAGES_FEATURES, "preference": PREFERENCE_FEATURES, "probes": PROBE_FEATURES}

CONFIGS: dict[str, str] = {
    "default": "every row",
    "ja": "the rows whose answer is Japanese",
    "en": "the rows whose answer is English",
    "zh": "the rows whose answer is Chinese",
    "translation": "the translation rows, one a direction",
    "messages": "every row as a conversation, for trainers",
    "preference": "an improved Reasoning with its answer against the earlier one, for preference trainers",
    "probes": "fixed questions asked after every training; never trained on",
}


class BonsaiBuilder(datasets.GeneratorBasedBuilder):  # type: ignore[misc]  # datasets ships no types
    """Build one config from the records.

    Args:
        records: the folder of ``*.jsonl``; by default the one installed with the package.
        groups: groups already read from it, so that all configs read the files once.
        warnings: the names of the checks that warned, by group.
    """

    VERSION = VERSION
    BUILDER_CONFIGS: ClassVar = [
        datasets.BuilderConfig(name=name, version=VERSION, description=text) for name, text in CONFIGS.items()
    ]
    DEFAULT_CONFIG_NAME = "default"

    def __init__(
        self,
        *args: Any,
        records: Path | None = None,
        groups: Sequence[SourcedGroup] | None = None,
        warnings: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        self._warnings = warnings or {}
        self._groups = read_groups(records or default_records_dir()) if groups is None else groups
        self._is_signed = any(located.group.read for located in self._groups)
        super().__init__(*args, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        features = _FEATURES_OF.get(self.config.name, SIGNED_FEATURES if self._is_signed else FEATURES)
        return datasets.DatasetInfo(description=DESCRIPTION, features=features, license="mit", version=VERSION)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if self.config.name == "probes":
            probes = read_probes(default_probes())
            return [datasets.SplitGenerator(name="test", gen_kwargs={"groups": (), "split": "test", "probes": probes})]
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"groups": self._groups, "split": split})
            for split in filled_splits(self._groups, self.config.name)
        ]

    def _generate_examples(
        self, groups: Sequence[SourcedGroup], split: Split, probes: Sequence[Probe] = ()
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for probe in probes:
            yield probe.id, probe.model_dump(mode="json")
        for located in groups:
            if assign_split(located.group) != split:
                continue
            for row in group_to_rows(located.group):
                if in_config(row, self.config.name):
                    warnings = list(self._warnings.get(row["group_id"], ()))
                    readers = reader_columns(located.group, row) if self._is_signed else {}
                    convert = _CONVERT.get(self.config.name)
                    yield row["id"], convert(row) if convert else {**row, "warnings": warnings, **readers}


def filled_splits(groups: Sequence[SourcedGroup], config: str) -> list[Split]:
    """Return the splits in which a config has a row: no loader can read an empty one."""
    filled = {
        assign_split(located.group)
        for located in groups
        if any(in_config(row, config) for row in group_to_rows(located.group))
    }
    return [split for split in SPLITS if split in filled]


def in_config(row: Row, config: str) -> bool:
    """Tell whether a config contains this row."""
    if config in LANGUAGES:
        return row["language"] == config
    if config == "preference":
        # An earlier Reasoning about an earlier input is no answer to this one.
        return row["reasoning_original"] not in (None, row["reasoning"]) and row["input_original"] is None
    return config != "translation" or row["category"] == "translation"


def to_messages_row(row: Row) -> dict[str, Any]:
    """Convert a row to one of the config ``messages``."""
    return {
        "id": row["id"],
        "group_id": row["group_id"],
        "category": row["category"],
        "language": row["language"],
        "messages": to_messages(row["instruction"], row["input"], row["reasoning"], row["output"], row["history"]),
    }


def to_preference_row(row: Row) -> dict[str, Any]:
    """Convert a row that keeps an earlier Reasoning to one of the config ``preference``; the answer is the same."""

    def turns(reasoning: str) -> list[Message]:
        return to_messages(row["instruction"], row["input"], reasoning, row["output"], row["history"])

    return {
        "id": row["id"],
        "group_id": row["group_id"],
        "category": row["category"],
        "language": row["language"],
        "prompt": turns("")[:-1],
        "chosen": turns(row["reasoning"])[-1:],
        "rejected": turns(row["reasoning_original"] or "")[-1:],
    }


_CONVERT: Mapping[str, Callable[[Row], dict[str, Any]]] = {
    "messages": to_messages_row,
    "preference": to_preference_row,
}
