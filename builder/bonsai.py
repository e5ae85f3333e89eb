"""Define the dataset as a `datasets.GeneratorBasedBuilder`: version, columns, configs and splits.

The Hub refuses loading scripts, so this class is not published: it runs here, and the Hub serves the Parquet it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import datasets

from bonsai.builder.prompt import to_messages
from bonsai.builder.records import Probe, SourcedGroup, default_probes, default_records_dir, read_groups, read_probes
from bonsai.builder.rows import SPLITS, Row, Split, assign_split, group_to_rows
from bonsai.builder.schema import CATEGORIES, LANGUAGES

VERSION = datasets.Version("0.1.0")
"""Raised by hand when published records change; the tag on the Hub is ``v`` plus this."""

RELEASED = "2026-11-21"
"""Date of this version; changes with it."""

DESCRIPTION = (
    "BONSAI (盆栽): a tiny Japanese/English instruction dataset, with some Chinese, in seven categories, "
    "with Reasoning."
)

_TEXT = datasets.Value("string")

FEATURES = datasets.Features(
    {
        "id": _TEXT,
        "group_id": _TEXT,
        "category": datasets.ClassLabel(names=list(CATEGORIES)),
        "language": _TEXT,
        "source_language": _TEXT,
        "topic": _TEXT,
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
        "licence": _TEXT,
        "generator": _TEXT,
        "doubts": datasets.List(_TEXT),
    }
)
"""The columns of every config but ``messages`` and ``probes``; ``doubts`` names the checks that warned of the group."""

MESSAGES_FEATURES = datasets.Features(
    {
        "id": _TEXT,
        "group_id": _TEXT,
        "category": datasets.ClassLabel(names=list(CATEGORIES)),
        "language": _TEXT,
        "messages": datasets.List({"role": _TEXT, "content": _TEXT}),
    }
)

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

_FEATURES_OF = {"messages": MESSAGES_FEATURES, "probes": PROBE_FEATURES}

CONFIGS: dict[str, str] = {
    "default": "every row",
    "ja": "the rows whose answer is Japanese",
    "en": "the rows whose answer is English",
    "zh": "the rows whose answer is Chinese",
    "translation": "the translation rows, one a direction",
    "messages": "every row as a conversation, for trainers",
    "probes": "fixed questions asked after every training; never trained on",
}


class BonsaiBuilder(datasets.GeneratorBasedBuilder):  # type: ignore[misc]  # datasets ships no types
    """Build one config from the records.

    Args:
        records: the folder of ``*.jsonl``; by default the one installed with the package.
        groups: groups already read from it, so that all configs read the files once.
        doubts: the names of the checks that warned, by group.
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
        doubts: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        self._doubts = doubts or {}
        self._records = records
        self._groups = groups
        super().__init__(*args, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        features = _FEATURES_OF.get(self.config.name, FEATURES)
        return datasets.DatasetInfo(description=DESCRIPTION, features=features, license="mit", version=VERSION)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if self.config.name == "probes":
            probes = read_probes(default_probes())
            return [datasets.SplitGenerator(name="test", gen_kwargs={"groups": (), "split": "test", "probes": probes})]
        groups = self._groups if self._groups is not None else read_groups(self._records or default_records_dir())
        return [datasets.SplitGenerator(name=split, gen_kwargs={"groups": groups, "split": split}) for split in SPLITS]

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
                    doubts = list(self._doubts.get(row["group_id"], ()))
                    as_row = to_messages_row(row) if self.config.name == "messages" else {**row, "doubts": doubts}
                    yield row["id"], as_row


def in_config(row: Row, config: str) -> bool:
    """Tell whether a config contains this row."""
    if config in LANGUAGES:
        return row["language"] == config
    return config != "translation" or row["category"] == "translation"


def to_messages_row(row: Row) -> dict[str, Any]:
    """Convert a row to one of the config ``messages``."""
    return {
        "id": row["id"],
        "group_id": row["group_id"],
        "category": row["category"],
        "language": row["language"],
        "messages": to_messages(row["instruction"], row["input"], row["reasoning"], row["output"]),
    }
