"""List releases, withdraw one, and make an earlier one current.

Every change of main is one commit made on a known parent. The commit comes first and the tag second, so running an
interrupted command again finishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

from bonsai.hub import repo_files
from bonsai.hub.publish import tags
from bonsai.hub.repo_files import CARD, blob_id, diff_revisions, download_card, list_files
from bonsai.hub.retry import DEFAULT_RETRY, PushError, RetryPolicy, TransientError, is_stale_parent


@dataclass(frozen=True, kw_only=True)
class PublishedRelease:
    """One tag of a repo."""

    tag: str
    commit: str
    date: datetime
    """of the commit"""
    is_current: bool
    """main holds its files, withdrawal notes at the head of the card aside"""


def list_releases(api: HfApi, repo_id: str, repo_type: str) -> list[PublishedRelease]:
    """List every tagged commit, newest first.

    Raises:
        PushError: there is no such repo.
    """
    _require_repo(api, repo_id, repo_type)
    main = list_files(api, repo_id, repo_type, "main")
    found = []
    for tag, commit in tags(api, repo_id, repo_type).items():
        info = api.list_repo_commits(repo_id, repo_type=repo_type, revision=commit)[0]
        released = list_files(api, repo_id, repo_type, commit)
        change = diff_revisions(released, main)
        is_current = not change
        if change.changed == (CARD,) and not change.added and not change.removed:
            card = repo_files.strip_withdrawal_notes(download_card(api, repo_id, repo_type, "main"))
            is_current = blob_id(card.encode()) == released[CARD].blob_id
        found.append(PublishedRelease(tag=tag, commit=commit, date=info.created_at, is_current=is_current))
    return sorted(found, key=lambda release: (release.date, release.tag), reverse=True)


def withdraw(
    api: HfApi,
    repo_id: str,
    repo_type: str,
    tag: str,
    *,
    reason: str,
    instead: str | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> str:
    """Mark ``tag`` as withdrawn on main's card, restore the files of ``instead`` if given, and remove the tag.

    Returns:
        The commit with the note.

    Raises:
        PushError: no such release, or the Hub failed for too long.
    """
    _require_repo(api, repo_id, repo_type)

    # 1. One commit with the note on the card, unless an interrupted withdrawal has made it already.
    def add_note() -> str:
        commit = repo_files.withdrawn_tags(api, repo_id, repo_type).get(tag)
        if commit is not None:
            return commit
        targets = tags(api, repo_id, repo_type)
        for name in (tag, *([instead] if instead else [])):
            _require_tag(repo_id, targets, name)
        if instead == tag:
            raise PushError(f"{repo_id}: {tag} cannot take its own place; name an earlier release")
        source = targets[instead] if instead else None
        card = download_card(api, repo_id, repo_type, source or "main")
        card = repo_files.add_withdrawal_note(card, tag, reason, instead=instead)
        title = repo_files.withdrawal_title(tag, instead=instead)
        return _commit_files(api, repo_id, repo_type, source, title, card=card)

    commit = retry.run(add_note, state=lambda: f"{repo_id}: {tag} is as it was, unless the answer was lost")

    # 2. Remove the tag.
    def remove_tag() -> None:
        if tag in tags(api, repo_id, repo_type):
            api.delete_tag(repo_id, tag=tag, repo_type=repo_type)

    retry.run(remove_tag, state=lambda: f"{repo_id}: the card says that {tag} is withdrawn, but its tag still exists")
    return commit


def restore_release(api: HfApi, repo_id: str, repo_type: str, tag: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> str:
    """Make main hold the files of ``tag`` again, in one commit; in none if it already does.

    Returns:
        The commit main is at.

    Raises:
        PushError: no such release, or the Hub failed for too long.
    """
    _require_repo(api, repo_id, repo_type)

    def restore() -> str:
        targets = tags(api, repo_id, repo_type)
        _require_tag(repo_id, targets, tag)
        return _commit_files(api, repo_id, repo_type, targets[tag], f"Make {tag} current again")

    return retry.run(restore, state=lambda: f"{repo_id}: main is as it was, unless the answer was lost")


def _commit_files(
    api: HfApi, repo_id: str, repo_type: str, source: str | None, title: str, card: str | None = None
) -> str:
    """Make main hold the files of ``source`` (None: its own) in one commit, with another card if given."""
    head = str(api.repo_info(repo_id, repo_type=repo_type).sha)
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = []
    if source is not None:
        remote = list_files(api, repo_id, repo_type, head)
        change = diff_revisions(list_files(api, repo_id, repo_type, source), remote)
        operations += [CommitOperationCopy(n, n, src_revision=source) for n in change.written if n != CARD or not card]
        operations += [CommitOperationDelete(path_in_repo=name) for name in change.removed]
    if card is not None:
        operations.append(CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=card.encode()))
    if not operations:
        return head
    try:
        info = api.create_commit(repo_id, operations, commit_message=title, repo_type=repo_type, parent_commit=head)
    except Exception as error:
        if is_stale_parent(error):
            raise TransientError(f"{repo_id}: others keep committing to main") from error
        raise
    return str(info.oid)


def _require_repo(api: HfApi, repo_id: str, repo_type: str) -> None:
    if not api.repo_exists(repo_id, repo_type=repo_type):
        raise PushError(f"{repo_id}: no such {repo_type} on {api.endpoint}, or the token may not see it")


def _require_tag(repo_id: str, targets: dict[str, str], tag: str) -> None:
    if tag not in targets:
        raise PushError(f"{repo_id} has no release {tag}; it has {', '.join(sorted(targets)) or 'none'}")
