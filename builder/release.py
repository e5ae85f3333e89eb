"""The dataset's release: the build, what speaks against publishing it, and its way to the Hub: one commit and a tag."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from huggingface_hub import HfApi

from bonsai.builder.bonsai import VERSION
from bonsai.builder.outgoing import private_texts, unsafe_weights
from bonsai.builder.reader import read_groups, shown
from bonsai.builder.rows import Row, rows_of
from bonsai.builder.schema import BonsaiError
from bonsai.hub.client.content import Files, folder_files
from bonsai.hub.client.gate import Check
from bonsai.hub.client.push import Pushed, push

TAG = f"v{VERSION}"
_NAMED = 5
"""groups named in a reason before it says how many more there are"""


class ReleaseError(BonsaiError):
    """Something stands in the way of a release; nothing was published."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What is to be published as one commit: a dataset, or an adapter with its card."""

    repo_id: str
    repo_type: str
    files: Files
    message: str
    tag: str

    def push(self, api: HfApi, *, may_move_tag: bool, loads: Callable[[str], None] | None = None) -> Pushed:
        """Publish it; see `bonsai.hub.client.push.push`."""
        return push(
            api,
            repo_id=self.repo_id,
            repo_type=self.repo_type,
            files=self.files,
            message=self.message,
            tag=self.tag,
            may_move_tag=may_move_tag,
            loads=loads,
        )

    def checks(self) -> list[Check]:
        """What must be in order in anything that goes out."""
        return [
            Check("private", lambda: private_texts(self.files)),
            Check("weights", lambda: unsafe_weights(self.files)),
        ]


def dataset_release(dataset: Path, repo_id: str) -> Release:
    """What lies in ``dataset``, to be published.

    Raises:
        ReleaseError: there is no build, or it was built for another namespace.
    """
    card = dataset / "README.md"
    if not card.is_file():
        raise ReleaseError(f"{dataset}: no dataset is built here; run `nox -s build` first")
    if not (dataset / "report.json").is_file():
        raise ReleaseError(f"{dataset}: built without the checks; run `nox -s build`, which checks and reports")
    if f'load_dataset("{repo_id}")' not in card.read_text(encoding="utf-8"):
        raise ReleaseError(f"{card}: built for another repo than {repo_id}; run `nox -s build` in this namespace")
    return Release(repo_id=repo_id, repo_type="dataset", files=folder_files(dataset), message=f"BONSAI {TAG}", tag=TAG)


def dataset_checks(release: Release, dataset: Path, records: Path) -> list[Check]:
    """What must be in order before a dataset is published; ``records`` is the working copy it was built from."""
    return [
        Check("checks", lambda: _report_errors(dataset)),
        Check("records", lambda: _changed_since(dataset, records)),
        *release.checks(),
    ]


def release_dataset(
    api: HfApi, dataset: Path, repo_id: str, *, may_move_tag: bool, loads: Callable[[str], None] | None = None
) -> Pushed:
    """Publish what lies in ``dataset``.

    Raises:
        ReleaseError: there is no build, or it was built for another namespace.
        PushError: the version is published with other content, or somebody committed meanwhile.
    """
    return dataset_release(dataset, repo_id).push(api, may_move_tag=may_move_tag, loads=loads)


def _report_errors(dataset: Path) -> Iterator[str]:
    path = dataset / "report.json"
    try:
        errors = json.loads(path.read_text(encoding="utf-8"))["counts"]["findings"]["error"]
    except (OSError, ValueError, KeyError, TypeError):
        yield f"{path} cannot be read; run `nox -s build`, which checks and reports"
        return
    if errors:
        yield f"{path} counts {errors} errors in the records; mend them and build again"


def _changed_since(dataset: Path, records: Path) -> Iterator[str]:
    """Compares rows, not files: another order of keys or another machine's packages change nothing for a reader."""
    built: dict[str, dict[str, object]] = {}
    for path in sorted((dataset / "default").glob("*.parquet")):
        built |= {row["id"]: row for row in pq.read_table(path).to_pylist()}
    groups = {located.group.id: located.group for located in read_groups(records)}
    now = {row["id"]: row for group in groups.values() for row in rows_of(group)}
    changed = {row["group_id"] for name, row in now.items() if not _same(row, built.get(name))}
    changed |= {str(row["group_id"]) for name, row in built.items() if name not in now}
    if changed:
        named = ", ".join(sorted(changed)[:_NAMED])
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        yield f"{shown(records)} differ from what was built, in {named}{more}; run `nox -s build` again"


def _same(row: Row, built: dict[str, object] | None) -> bool:
    """The category is a number in the table, and part of the id in both."""
    return built is not None and all(built.get(name) == value for name, value in row.items() if name != "category")
