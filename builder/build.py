"""Build `out/dataset/` from the records: what the Hub will serve, byte for byte.

Layout: ``<config>/<split>-00000-of-00001.parquet``, README.md, croissant.json, report.html, report.json, images. The
same records give the same bytes, so publishing twice makes no second commit.

A build is a function of the records, the probes, this code and the installed packages. If the fingerprint of them is
the same, so are the bytes, and checking again would find the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError

import bonsai.builder
import bonsai.dataset_card
from bonsai.builder.bonsai import CONFIGS, VERSION, BonsaiBuilder, filled_splits
from bonsai.builder.card_facts import croissant_json, dataset_facts
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.run import CheckReport, run_checks
from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_replace_dir, atomic_write_text
from bonsai.builder.records import SourcedGroup, default_probes, read_groups, read_probes
from bonsai.builder.report import write_report
from bonsai.builder.rows import SPLITS
from bonsai.builder.samples import read_samples
from bonsai.builder.schema import CATEGORIES
from bonsai.dataset_card.card import render
from bonsai.dataset_card.charts import render_charts
from bonsai.dataset_card.facts import DatasetFacts


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """A finished build; ``checked`` is None if it was made without the checks."""

    path: Path
    facts: DatasetFacts
    checked: CheckReport | None
    left_out: list[str]
    """a sentence for each config, split and category without a row"""


def build_dataset(
    records: Path,
    out: Path,
    repo_id: str,
    *,
    check: bool = True,
    on_step: Callable[[str], None] | None = None,
) -> BuildResult:
    """Read, check, build and write the dataset to ``out``, which is replaced as a whole or not at all.

    Args:
        check: without the checks there is no report, and a build without a report is not released.
        on_step: called with the name of each check and config before its turn.

    Raises:
        RecordError: with every fault in the records, or every error the checks found; ``out`` is untouched then.
        OSError: no space, no permission; ``out`` is untouched then.
    """
    step = on_step or (lambda _: None)
    # 1. Read and check the records. Errors end the build; warnings go into the column ``warnings``.
    groups = read_groups(records)
    samples = read_samples(records)
    checked = run_checks(groups, read_probes(default_probes()), on_step=step) if check else None
    if checked is not None and checked.errors:
        raise RecordError(
            [
                f"{error.location}: {error.group_id}: [{error.check}] "
                f"{error.field + ': ' if error.field else ''}{error.message}; {error.hint}"
                for error in checked.errors
            ]
        )
    warnings: dict[str, list[str]] = {}
    for finding in checked.findings if checked else ():
        if finding.severity is Severity.WARNING and finding.check not in warnings.setdefault(finding.group_id, []):
            warnings[finding.group_id].append(finding.check)

    with atomic_replace_dir(out) as fresh, tempfile.TemporaryDirectory() as cache:
        # 2. Write the Parquet files.
        infos, left_out = {}, []
        for config in CONFIGS:
            step(config)
            splits = ["test"] if config == "probes" else filled_splits(groups, config)
            missing = [split for split in SPLITS if split not in splits]
            if config != "probes" and missing:
                where = f"in {' and '.join(missing)}, which" if splits else "at all, and"
                left_out.append(f"config {config} has no row {where} is left out")
            if splits:
                infos[config] = _write_config(config, groups, warnings, Path(cache), fresh)
        there = {located.group.category for located in groups}
        left_out += [f"category {category} has no group" for category in CATEGORIES if category not in there]

        # 3. Write what describes them: Croissant, charts, card and report.
        facts = dataset_facts(groups, infos, repo_id, samples)
        atomic_write_text(fresh / "croissant.json", croissant_json(infos, repo_id))
        for name, chart in render_charts(facts).items():
            (fresh / name).parent.mkdir(exist_ok=True)
            atomic_write_text(fresh / name, chart)
        atomic_write_text(fresh / "README.md", render(facts))
        if checked is not None:
            write_report(fresh, groups, checked.findings, facts)
    return BuildResult(path=out, facts=facts, checked=checked, left_out=left_out)


def _write_config(
    config: str, groups: Sequence[SourcedGroup], warnings: Mapping[str, Sequence[str]], cache: Path, fresh: Path
) -> datasets.DatasetInfo:
    """Write the Parquet files of a config below ``fresh``; return its features, splits and sizes."""
    builder = BonsaiBuilder(config_name=config, groups=groups, warnings=warnings, cache_dir=str(cache))
    try:
        builder.download_and_prepare()
    except DatasetGenerationError as error:
        # `datasets` wraps a full disk or a missing permission, which is what the user has to know.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise cause or error from error
    size = 0
    for split, rows in builder.as_dataset().items():
        path = fresh / parquet_name(config, split)
        path.parent.mkdir(exist_ok=True)
        rows.to_parquet(path)
        size += path.stat().st_size
    # Only what describes the published files; the builder's info describes its run too.
    return datasets.DatasetInfo(
        features=builder.info.features,
        splits=builder.info.splits,
        dataset_size=builder.info.dataset_size,
        download_size=size,
        config_name=config,
        version=VERSION,
    )


def parquet_name(config: str, split: str) -> str:
    """Return the path of a split in the repo."""
    return f"{config}/{split}-00000-of-00001.parquet"


def content_hash(dataset: Path) -> str:
    """Return the SHA-256 of the names and bytes of the Parquet files, which identifies them under any commit."""
    digest = hashlib.sha256()
    for path in sorted(dataset.rglob("*.parquet")):
        digest.update(str(path.relative_to(dataset)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def input_fingerprint(records: Path, repo_id: str, *, check: bool) -> str:
    """Return the SHA-256 of everything that decides what a build makes; takes about 0.2 s."""
    digest = hashlib.sha256(repr((repo_id, check, platform.python_version())).encode())
    packages = (Path(str(module.__file__)).parent for module in (bonsai.builder, bonsai.dataset_card))
    for folder in (records, *packages):
        # what is hidden is the journal of edits, or the lock while one is made
        paths = (
            p
            for p in folder.rglob("*")
            if not re.search(r"(?:^|/)(?:__pycache__|\.)", p.relative_to(folder).as_posix())
        )
        _add_files(digest, folder, paths)
    for installed in sorted(f"{package.name}=={package.version}" for package in importlib.metadata.distributions()):
        digest.update(installed.encode() + b"\0")
    return digest.hexdigest()


def save_build_stamp(dataset: Path, made_of: str, summary: list[str]) -> None:
    """Save beside ``dataset`` its inputs' fingerprint, its own hash, and the summary that was printed.

    If the disk is full there is no stamp and the next build starts over; the dataset itself is complete.
    """
    stamp = {"made_of": made_of, "made": _folder_hash(dataset), "summary": summary}
    with contextlib.suppress(OSError):
        atomic_write_text(_stamp_path(dataset), json.dumps(stamp, ensure_ascii=False) + "\n")


def load_if_up_to_date(dataset: Path, made_of: str) -> list[str] | None:
    """Return the summary of the build in ``dataset`` if neither its inputs nor its files have changed, else None."""
    try:
        stamp: dict[str, Any] = json.loads(_stamp_path(dataset).read_text(encoding="utf-8"))
        unchanged = stamp["made_of"] == made_of and stamp["made"] == _folder_hash(dataset)
        return [str(line) for line in stamp["summary"]] if unchanged else None
    except (OSError, ValueError, KeyError, TypeError):  # no stamp, or not one of ours: build
        return None


def _stamp_path(dataset: Path) -> Path:
    return dataset.with_name(f"{dataset.name}.built.json")  # beside the folder, whose content is published


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    _add_files(digest, folder, folder.rglob("*"))
    return digest.hexdigest()


def _add_files(digest: Any, folder: Path, paths: Iterable[Path]) -> None:
    for path in sorted(path for path in paths if path.is_file()):
        name = str(path.relative_to(folder)).encode()
        digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
