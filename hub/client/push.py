"""One release of one repo: one atomic commit and a tag, or nothing at all when nothing changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from bonsai.hub.errors import HubError

KEPT = frozenset({".gitattributes"})
"""Files the Hub itself puts into a repo; a release does not delete them."""


class PushError(HubError):
    """A release that was refused; the repo is as it was."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Where a release stands on the Hub."""

    repo_id: str
    repo_type: str
    commit: str
    tag: str
    changed: bool
    """False: the Hub already held just this; no commit was made"""
    tag_moved: bool = False


def push(
    api: HfApi,
    *,
    repo_id: str,
    repo_type: str,
    files: Mapping[str, Path | bytes],
    message: str,
    tag: str,
    may_move_tag: bool = False,
) -> Pushed:
    """Make the repo hold ``files`` (path in the repo: content) and nothing else, in one commit, then tag it.

    Args:
        may_move_tag: a rehearsal may publish a version again; on the real Hub strangers rely on its tags.

    Raises:
        PushError: the tag is taken by other content, or somebody else committed meanwhile.
        HfHubHTTPError: the Hub refused or failed; the repo is as it was.
    """
    api.create_repo(repo_id, repo_type=repo_type, exist_ok=True)
    head = api.repo_info(repo_id, repo_type=repo_type).sha
    if head is None:
        raise PushError(f"{repo_id}: the Hub named no commit of main; publish again in a minute")
    adds, deletes = _difference(api, repo_id, repo_type, head, files)
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id, repo_type=repo_type).tags}
    moves = tag in tags and bool(adds or deletes)
    if moves and not may_move_tag:
        raise PushError(
            f"{repo_id}: {tag} is already published with other content; raise the version, then build and publish again"
        )
    commit = head
    if adds or deletes:
        try:
            made = api.create_commit(
                repo_id,
                [*adds, *deletes],
                commit_message=message,
                repo_type=repo_type,
                parent_commit=head,
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code == 412:
                raise PushError(
                    f"{repo_id}: somebody committed while this release was on its way; look at {api.endpoint}/"
                    f"{'datasets/' if repo_type == 'dataset' else ''}{repo_id}/commits/main, then publish again"
                ) from error
            raise
        except RuntimeError as error:  # what the client makes of any trouble while a large file goes up
            raise PushError(f"{repo_id}: {error} ({error.__cause__}); the repo is as it was, publish again") from error
        commit = made.oid
    if tags.get(tag) != commit:
        if tag in tags and may_move_tag:
            api.delete_tag(repo_id, tag=tag, repo_type=repo_type)
        if tag not in tags or may_move_tag:
            api.create_tag(repo_id, tag=tag, revision=commit, repo_type=repo_type)
    return Pushed(
        repo_id=repo_id,
        repo_type=repo_type,
        commit=commit,
        tag=tag,
        changed=bool(adds or deletes),
        tag_moved=moves,
    )


def _difference(
    api: HfApi, repo_id: str, repo_type: str, head: str, files: Mapping[str, Path | bytes]
) -> tuple[list[CommitOperationAdd], list[CommitOperationDelete]]:
    there = {
        entry.path: entry
        for entry in api.list_repo_tree(repo_id, repo_type=repo_type, revision=head, recursive=True)
        if isinstance(entry, RepoFile)
    }
    adds = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
        for name, content in sorted(files.items())
        if name not in there or not _same(content, there[name])
    ]
    deletes = [CommitOperationDelete(path_in_repo=name) for name in sorted(set(there) - set(files) - KEPT)]
    return adds, deletes


def _same(content: Path | bytes, there: RepoFile) -> bool:
    if there.lfs is not None:
        return _digest(content, "sha256") == there.lfs.sha256
    return _digest(content, "git") == there.blob_id


def _digest(content: Path | bytes, kind: str) -> str:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def folder_files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path in the repo; hidden ones stay at home."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
