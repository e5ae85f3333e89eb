"""List releases, withdraw one, and make an earlier one current.

Each change of main is one commit that names the parent it was made for. The commit comes first and the tag goes after
it, so that a command that was cut off is finished by giving it again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from bonsai.hub import repo_files
from bonsai.hub.publish import tags
from bonsai.hub.repo_files import blob_id, diff_revisions, list_files
from bonsai.hub.retry import DEFAULT_RETRY, PushError, RetryPolicy, TransientError, is_stale_parent

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class PublishedRelease:
    """One tag of a repo."""

    tag: str
    commit: str
    date: datetime
    """of the commit"""
    is_current: bool
    """main holds its files; notes on withdrawals at the head of the card do not count"""


def list_releases(api: HfApi, repo_id: str, repo_type: str) -> list[PublishedRelease]:
    """Every tagged commit, newest first.

    Raises:
        PushError: there is no such repo.
    """
    _require(api, repo_id, repo_type)
    main = list_files(api, repo_id, repo_type, "main")
    found = []
    for tag, commit in tags(api, repo_id, repo_type).items():
        made = api.list_repo_commits(repo_id, repo_type=repo_type, revision=commit)[0]
        current = _is_current(api, repo_id, repo_type, main, list_files(api, repo_id, repo_type, commit))
        found.append(PublishedRelease(tag=tag, commit=commit, date=made.created_at, is_current=current))
    return sorted(found, key=lambda release: (release.date, release.tag), reverse=True)


def withdraw(
    api: HfApi,
    repo_id: str,
    repo_type: str,
    tag: str,
    *,
    reason: str,
    instead: str | None = None,
    patience: RetryPolicy = DEFAULT_RETRY,
) -> str:
    """Say on main's card that ``tag`` was withdrawn, put the files of ``instead`` there if named, and remove the tag.

    Returns:
        The commit that says so.

    Raises:
        PushError: no such release, or the Hub failed for too long.
    """
    _require(api, repo_id, repo_type)

    def write_down() -> str:
        done = repo_files.withdrawn_tags(api, repo_id, repo_type).get(tag)
        standing = tags(api, repo_id, repo_type)
        if done is not None:
            return done
        for name in (tag, *([instead] if instead else [])):
            if name not in standing:
                raise PushError(f"{repo_id} has no release {name}; it has {', '.join(sorted(standing)) or 'none'}")
        if instead == tag:
            raise PushError(f"{repo_id}: {tag} cannot take its own place; name an earlier release")
        source = standing[instead] if instead else "main"
        card = repo_files.add_withdrawal_note(_card(api, repo_id, repo_type, source), tag, reason, instead=instead)
        title = repo_files.withdrawal_title(tag, instead=instead)
        return _replace(api, repo_id, repo_type, standing[instead] if instead else None, title, card=card)

    def remove_tag() -> None:
        if tag in tags(api, repo_id, repo_type):
            api.delete_tag(repo_id, tag=tag, repo_type=repo_type)

    commit = patience.run(write_down, state=lambda: f"{repo_id}: {tag} stands as it did, unless the answer was lost")
    patience.run(remove_tag, state=lambda: f"{repo_id}: the card says that {tag} is withdrawn, but the tag is there")
    return commit


def restore_release(
    api: HfApi, repo_id: str, repo_type: str, tag: str, *, patience: RetryPolicy = DEFAULT_RETRY
) -> str:
    """Make main hold the files of ``tag`` again, in one commit; none if it does already.

    Returns:
        The commit main is at.

    Raises:
        PushError: no such release, or the Hub failed for too long.
    """
    _require(api, repo_id, repo_type)

    def put_back() -> str:
        standing = tags(api, repo_id, repo_type)
        if tag not in standing:
            raise PushError(f"{repo_id} has no release {tag}; it has {', '.join(sorted(standing)) or 'none'}")
        return _replace(api, repo_id, repo_type, standing[tag], f"Make {tag} current again")

    return patience.run(put_back, state=lambda: f"{repo_id}: main is as it was, unless the answer was lost")


def _replace(api: HfApi, repo_id: str, repo_type: str, source: str | None, title: str, card: str | None = None) -> str:
    """One commit that makes main hold the files of ``source`` (None: those it holds), with another card if given."""
    head = str(api.repo_info(repo_id, repo_type=repo_type).sha)
    there = list_files(api, repo_id, repo_type, head)
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = []
    if source is not None:
        change = diff_revisions(list_files(api, repo_id, repo_type, source), there)
        operations += [CommitOperationCopy(n, n, src_revision=source) for n in change.written if n != CARD or not card]
        operations += [CommitOperationDelete(path_in_repo=name) for name in change.removed]
    if card is not None:
        operations.append(CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=card.encode()))
    if not operations:
        return head
    try:
        made = api.create_commit(repo_id, operations, commit_message=title, repo_type=repo_type, parent_commit=head)
    except Exception as error:
        if is_stale_parent(error):
            raise TransientError(f"{repo_id}: others commit again and again to main") from error
        raise
    return str(made.oid)


def _is_current(
    api: HfApi, repo_id: str, repo_type: str, main: Mapping[str, RepoFile], released: Mapping[str, RepoFile]
) -> bool:
    change = diff_revisions(released, main)
    if change.changed != (CARD,) or change.added or change.removed:
        return not change
    card = repo_files.strip_withdrawal_notes(_card(api, repo_id, repo_type, "main"))
    return blob_id(card.encode()) == released[CARD].blob_id


def _card(api: HfApi, repo_id: str, repo_type: str, revision: str) -> str:
    if not api.file_exists(repo_id, CARD, repo_type=repo_type, revision=revision):
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo_id, CARD, repo_type=repo_type, revision=revision, local_dir=folder)
        return Path(path).read_bytes().decode("utf-8")


def _require(api: HfApi, repo_id: str, repo_type: str) -> None:
    if not api.repo_exists(repo_id, repo_type=repo_type):
        raise PushError(f"{repo_id}: no such {repo_type} on {api.endpoint}, or the token may not see it")
