"""Build `out/dataset/` from the records: what the Hub will serve, byte for byte.

Layout: ``<config>/<split>-00000-of-00001.parquet``, README.md, croissant.json, report.html, report.json, images. The
same records give the same bytes, so publishing twice makes no second commit.

A build is a function of the records, the probes, this code and the installed packages, so that the same fingerprint of
them means the same bytes, and checking them all again would find what it found.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError

import bonsai.builder
import bonsai.dataset_card
from bonsai.builder.bonsai import CONFIGS, VERSION, BonsaiBuilder
from bonsai.builder.card_facts import croissant_json, dataset_facts
from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.checks.run import CheckReport, run_checks
from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_replace_dir
from bonsai.builder.records import SourcedGroup, default_probes, read_groups, read_probes
from bonsai.builder.report import write_report
from bonsai.dataset_card.card import render
from bonsai.dataset_card.charts import render_charts
from bonsai.dataset_card.facts import DatasetFacts


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build made."""

    path: Path
    facts: DatasetFacts
    checked: CheckReport | None


def build_dataset(
    records: Path,
    out: Path,
    repo_id: str,
    *,
    check: bool = True,
    on_step: Callable[[str], None] = lambda _: None,
) -> BuildResult:
    """Read, check, build and write the dataset to ``out``, which is replaced as a whole or not at all.

    Args:
        check: without the checks there is no report, and what has no report is not released.
        on_step: told the name of each check and config before its turn.

    Raises:
        RecordError: with every fault in the records, or every error the checks found; ``out`` is untouched then.
        OSError: no space, no permission; ``out`` is untouched then.
    """
    groups = read_groups(records)
    checked = _checked(groups, on_step) if check else None
    doubts = _warnings_by_group(checked)
    with atomic_replace_dir(out) as fresh, tempfile.TemporaryDirectory() as cache:
        infos = {}
        for config in CONFIGS:
            on_step(config)
            infos[config] = _write_config(config, groups, doubts, Path(cache), fresh)
        facts = dataset_facts(groups, infos, repo_id)
        (fresh / "croissant.json").write_text(croissant_json(infos, repo_id), encoding="utf-8")
        for name, picture in render_charts(facts).items():
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_text(picture, encoding="utf-8")
        (fresh / "README.md").write_text(render(facts), encoding="utf-8")
        if checked is not None:
            write_report(fresh, groups, checked.findings, facts)
    return BuildResult(path=out, facts=facts, checked=checked)


def _checked(groups: Sequence[SourcedGroup], on_step: Callable[[str], None]) -> CheckReport:
    checked = run_checks(groups, read_probes(default_probes()), on_step=on_step)
    if checked.errors:
        raise RecordError([_format_finding(finding) for finding in checked.errors])
    return checked


def _format_finding(finding: Finding) -> str:
    field = f"{finding.field}: " if finding.field else ""
    return f"{finding.location}: {finding.group_id}: [{finding.check}] {field}{finding.message}; {finding.hint}"


def _warnings_by_group(checked: CheckReport | None) -> dict[str, list[str]]:
    doubts: dict[str, list[str]] = {}
    for finding in checked.findings if checked else ():
        if finding.severity is Severity.WARNING and finding.check not in doubts.setdefault(finding.group_id, []):
            doubts[finding.group_id].append(finding.check)
    return doubts


def content_hash(dataset: Path) -> str:
    """SHA-256 over the names and bytes of the Parquet files: what was trained on, whatever its commit is called."""
    digest = hashlib.sha256()
    for path in sorted(dataset.rglob("*.parquet")):
        digest.update(str(path.relative_to(dataset)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def parquet_name(config: str, split: str) -> str:
    """Where a split of a config lies in the repo."""
    return f"{config}/{split}-00000-of-00001.parquet"


def _write_config(
    config: str, groups: Sequence[SourcedGroup], doubts: Mapping[str, Sequence[str]], cache: Path, fresh: Path
) -> datasets.DatasetInfo:
    builder = BonsaiBuilder(config_name=config, groups=groups, doubts=doubts, cache_dir=str(cache))
    try:
        builder.download_and_prepare()
    except DatasetGenerationError as error:
        raise _underlying_os_error(error) or error from error
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


def _underlying_os_error(error: BaseException | None) -> OSError | None:
    """The full disk or the missing permission behind an error of `datasets`, if that is what it was."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def input_fingerprint(records: Path, repo_id: str, *, check: bool) -> str:
    """SHA-256 over everything that decides what a build makes: about 0.2 s."""
    digest = hashlib.sha256(repr((repo_id, check, platform.python_version())).encode())
    packages = (Path(str(module.__file__)).parent for module in (bonsai.builder, bonsai.dataset_card))
    for folder in (records, *packages):
        _add(digest, folder, (path for path in folder.rglob("*") if "__pycache__" not in path.parts))
    for installed in sorted(f"{one.name}=={one.version}" for one in importlib.metadata.distributions()):
        digest.update(installed.encode() + b"\0")
    return digest.hexdigest()


def save_build_stamp(dataset: Path, made_of: str, summary: list[str]) -> None:
    """Note beside ``dataset`` what it was made of, what it is, and what the person was told.

    A full disk takes no note, and the next build is made anew: the dataset itself is whole.
    """
    note = {"made_of": made_of, "made": _files(dataset), "summary": summary}
    with contextlib.suppress(OSError):
        _note(dataset).write_text(json.dumps(note, ensure_ascii=False) + "\n", encoding="utf-8")


def load_if_up_to_date(dataset: Path, made_of: str) -> list[str] | None:
    """The summary of the build in ``dataset`` if it stands, else None."""
    try:
        note: dict[str, Any] = json.loads(_note(dataset).read_text(encoding="utf-8"))
        unchanged = note["made_of"] == made_of and note["made"] == _files(dataset)
        return [str(line) for line in note["summary"]] if unchanged else None
    except (OSError, ValueError, KeyError, TypeError):  # no note, or not one of ours: build
        return None


def _note(dataset: Path) -> Path:
    return dataset.with_name(f"{dataset.name}.built.json")  # beside, for what lies within is published


def _files(folder: Path) -> str:
    digest = hashlib.sha256()
    _add(digest, folder, folder.rglob("*"))
    return digest.hexdigest()


def _add(digest: Any, folder: Path, paths: Iterable[Path]) -> None:
    for path in sorted(path for path in paths if path.is_file()):
        name = str(path.relative_to(folder)).encode()
        digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
