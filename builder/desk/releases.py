"""Compare the records with a release on the Hub: the real one if HF_TOKEN is set, else that of this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonsai.builder.errors import ReleaseError
from bonsai.builder.records import SourcedGroup
from bonsai.builder.rows import group_to_rows
from bonsai.hub.errors import HubError
from bonsai.hub.target import resolve_hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMPARED = ("topic", "history", "instruction", "input", "reasoning", "output")
"""The columns whose change changes a group for a reader; provenance and signatures are not among them."""


class Releases:
    """The releases of one dataset.

    Args:
        root: where the Hub of this machine keeps its repositories.
    """

    def __init__(self, root: Path, repo_id: str) -> None:
        self._root = root
        self._repo_id = repo_id
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}

    def names(self) -> list[str]:
        """Return the tags, newest first.

        Raises:
            ReleaseError: the Hub cannot be asked.
        """
        with self._hub() as api:
            refs = api.list_repo_refs(self._repo_id, repo_type="dataset")
        return sorted((tag.name for tag in refs.tags), reverse=True)

    def changed(self, release: str, groups: Iterable[SourcedGroup]) -> list[str]:
        """Return the ids of the groups that are new since a release, or whose texts, languages or topic changed.

        Raises:
            ReleaseError: there is no such release, or the Hub cannot be asked.
        """
        before = self._rows.get(release) or self._load(release)
        ids: dict[str, set[str]] = {}
        for row in before.values():
            ids.setdefault(row["group_id"], set()).add(row["id"])
        found = []
        for located in groups:
            rows = list(group_to_rows(located.group))
            same = {row["id"] for row in rows} == ids.get(located.group.id)
            # an older release has no column for earlier turns
            if not same or any(
                (row.get(name) or None) != (before[row["id"]].get(name) or None) for row in rows for name in COMPARED
            ):
                found.append(located.group.id)
        return found

    def _load(self, release: str) -> dict[str, dict[str, Any]]:
        from pyarrow import parquet

        with self._hub() as api, tempfile.TemporaryDirectory() as folder:
            api.snapshot_download(
                self._repo_id, repo_type="dataset", revision=release, local_dir=folder, allow_patterns="default/*"
            )
            rows = [
                row for path in sorted(Path(folder).rglob("*.parquet")) for row in parquet.read_table(path).to_pylist()
            ]
        self._rows[release] = {row["id"]: row for row in rows}
        return self._rows[release]

    @contextmanager
    def _hub(self) -> Iterator[HfApi]:
        # the client takes a second to import, and few who open the desk ask for a release
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        from bonsai.hub.http_client import httpx

        try:
            with resolve_hub(self._root) as target:
                yield HfApi(endpoint=target.endpoint, token=target.token)
        except (HfHubHTTPError, httpx.HTTPError, OfflineModeIsEnabled, HubError, OSError) as error:
            raise ReleaseError(
                f"no release of {self._repo_id} can be read ({type(error).__name__}); `bonsai releases` lists them, "
                "and HF_TOKEN decides which Hub is asked"
            ) from error
