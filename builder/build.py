"""Records in, `out/dataset/` out: what the Hub will serve, byte for byte.

Layout: ``<config>/<split>-00000-of-00001.parquet``, README.md, croissant.json, report.html, report.json, images. The
same records give the same bytes, so publishing twice makes no second commit.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets.exceptions import DatasetGenerationError

from bonsai.builder.bonsai import CONFIGS, VERSION, Bonsai
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.run import Checked, run_checks
from bonsai.builder.description import croissant_json, describe
from bonsai.builder.folder import replaced_folder
from bonsai.builder.probes import default_probes, read_probes
from bonsai.builder.reader import Located, read_groups
from bonsai.builder.report.write import write_report
from bonsai.builder.schema import RecordError
from bonsai.dataset_card.card import render
from bonsai.dataset_card.facts import DatasetFacts
from bonsai.dataset_card.pictures import pictures


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build made."""

    path: Path
    facts: DatasetFacts
    checked: Checked | None


def build(
    records: Path,
    out: Path,
    repo_id: str,
    *,
    check: bool = True,
    on_step: Callable[[str], None] = lambda _: None,
) -> Built:
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
    doubts = _doubts(checked)
    with replaced_folder(out) as fresh, tempfile.TemporaryDirectory() as cache:
        infos = {}
        for config in CONFIGS:
            on_step(config)
            infos[config] = _write_config(config, groups, doubts, Path(cache), fresh)
        facts = describe(groups, infos, repo_id)
        (fresh / "croissant.json").write_text(croissant_json(infos, repo_id), encoding="utf-8")
        for name, picture in pictures(facts).items():
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_text(picture, encoding="utf-8")
        (fresh / "README.md").write_text(render(facts), encoding="utf-8")
        if checked is not None:
            write_report(fresh, groups, checked.findings, facts)
    return Built(path=out, facts=facts, checked=checked)


def _checked(groups: Sequence[Located], on_step: Callable[[str], None]) -> Checked:
    checked = run_checks(groups, read_probes(default_probes()), on_step=on_step)
    if checked.errors:
        raise RecordError([_line(finding) for finding in checked.errors])
    return checked


def _line(finding: Finding) -> str:
    field = f"{finding.field}: " if finding.field else ""
    return f"{finding.place}: {finding.group_id}: [{finding.check}] {field}{finding.what}; {finding.why}"


def _doubts(checked: Checked | None) -> dict[str, list[str]]:
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
    config: str, groups: Sequence[Located], doubts: Mapping[str, Sequence[str]], cache: Path, fresh: Path
) -> datasets.DatasetInfo:
    builder = Bonsai(config_name=config, groups=groups, doubts=doubts, cache_dir=str(cache))
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
