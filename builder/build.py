"""Records in, `out/dataset/` out: what the Hub will serve, byte for byte.

Layout: ``<config>/<split>-00000-of-00001.parquet``, README.md, LICENSE. The same records give the same bytes, so
publishing twice makes no second commit.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets.exceptions import DatasetGenerationError

from bonsai.builder.bonsai import CONFIGS, VERSION, Bonsai
from bonsai.builder.description import croissant_json, describe
from bonsai.builder.folder import replaced_folder
from bonsai.builder.reader import Located, read_groups
from bonsai.dataset_card.card import DatasetFacts, render


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
        facts = describe(groups, infos, repo_id)
        (fresh / "croissant.json").write_text(croissant_json(infos, repo_id), encoding="utf-8")
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
    try:
        builder.download_and_prepare()
    except DatasetGenerationError as error:
        raise _from_the_machine(error) or error from error
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


def _from_the_machine(error: BaseException | None) -> OSError | None:
    """The full disk or the missing permission behind an error of `datasets`, if that is what it was."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
