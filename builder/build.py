"""Records in, `out/dataset/` out: what the Hub will serve, byte for byte.

Layout: ``<config>/<split>-00000-of-00001.parquet``, README.md, LICENSE. The same records give the same bytes, so
publishing twice makes no second commit.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from bonsai.builder.bonsai import CONFIGS, VERSION, Bonsai
from bonsai.builder.folder import replaced_folder
from bonsai.builder.reader import Located, read_groups
from bonsai.builder.rows import Row, rows_of
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Language
from bonsai.builder.splits import SPLITS
from bonsai.dataset_card.card import ConfigFacts, DatasetFacts, ExampleFacts, render


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build made."""

    path: Path
    facts: DatasetFacts


def build(records: Path, out: Path, repo_id: str, *, on_step: Callable[[str], None] = lambda _: None) -> Built:
    """Read, build and write the dataset to ``out``, which is replaced as a whole or not at all.

    Args:
        on_step: told the name of each config before it is built.

    Raises:
        RecordError: with every fault in the records; ``out`` is untouched then.
        OSError: no space, no permission; ``out`` is untouched then.
    """
    groups = read_groups(records)
    with replaced_folder(out) as fresh, tempfile.TemporaryDirectory() as cache:
        infos = {}
        for config in CONFIGS:
            on_step(config)
            infos[config] = _write_config(config, groups, Path(cache), fresh)
        facts = _facts(groups, infos, repo_id)
        (fresh / "README.md").write_text(render(facts), encoding="utf-8")
    return Built(path=out, facts=facts)


def content_hash(dataset: Path) -> str:
    """SHA-256 over the names and bytes of the Parquet files: what was trained on, whatever its commit is called."""
    digest = hashlib.sha256()
    for path in sorted(dataset.rglob("*.parquet")):
        digest.update(str(path.relative_to(dataset)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def parquet_name(config: str, split: str) -> str:
    """Where a split of a config lies in the repo."""
    return f"{config}/{split}-00000-of-00001.parquet"


def _write_config(config: str, groups: Sequence[Located], cache: Path, fresh: Path) -> datasets.DatasetInfo:
    builder = Bonsai(config_name=config, groups=groups, cache_dir=str(cache))
    builder.download_and_prepare()
    sizes = 0
    for split, rows in builder.as_dataset().items():
        path = fresh / parquet_name(config, split)
        path.parent.mkdir(exist_ok=True)
        rows.to_parquet(path)
        sizes += path.stat().st_size
    info = builder.info
    return datasets.DatasetInfo(
        features=info.features,
        splits=info.splits,
        dataset_size=info.dataset_size,
        download_size=sizes,
        config_name=config,
        version=VERSION,
    )


def _facts(groups: Sequence[Located], infos: dict[str, datasets.DatasetInfo], repo_id: str) -> DatasetFacts:
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
            ConfigFacts(name=name, description=CONFIGS[name], rows={s: info.splits[s].num_examples for s in SPLITS})
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


def _metadata(infos: dict[str, datasets.DatasetInfo]) -> dict[str, Any]:
    card = DatasetCardData()
    DatasetInfosDict(infos).to_dataset_card_data(card)
    MetadataConfigs(
        {
            config: {
                "data_files": [{"split": split, "path": f"{config}/{split}-*"} for split in SPLITS],
                **({"default": True} if config == "default" else {}),
            }
            for config in infos
        }
    ).to_dataset_card_data(card)
    data: dict[str, Any] = card.to_dict()  # type: ignore[no-untyped-call]
    return {key: data[key] for key in ("configs", "dataset_info")}
