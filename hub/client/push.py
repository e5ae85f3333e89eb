"""One release of one repo: one atomic commit, looked at by a fresh download, and then a tag; or nothing at all.

Each of the three steps may be done twice without harm, so what passes is simply tried again, and a release that was cut
off anywhere is finished by doing it again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from bonsai.hub.client.content import KEPT, Difference, Files, departures, difference, folder_files, tree
from bonsai.hub.client.patience import PATIENCE, Patience
from bonsai.hub.client.trouble import PushError, TryAgainError, is_stale_parent, may_have_arrived
from bonsai.hub.client.withdrawn import withdrawn_tags
from bonsai.hub.errors import HubError

__all__ = ["PushError", "Pushed", "folder_files", "push"]


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


class _Landed(NamedTuple):
    commit: str
    changed: bool
    tag_moved: bool


def push(
    api: HfApi,
    *,
    repo_id: str,
    repo_type: str,
    files: Mapping[str, Path | bytes],
    message: str,
    tag: str,
    may_move_tag: bool = False,
    loads: Callable[[str], None] | None = None,
    patience: Patience = PATIENCE,
) -> Pushed:
    """Make the repo hold ``files`` (path in the repo: content) and nothing else, in one commit, then tag it.

    Args:
        may_move_tag: a rehearsal may publish a version again; on the real Hub strangers rely on its tags.
        loads: called with the commit once its download is known to be what lies here, before the tag: what is
            published is used as a stranger would, and raises if that fails.
        patience: how long each step is tried.

    Raises:
        PushError: the tag is taken by other content or was withdrawn, somebody else committed meanwhile, what was
            published does not load, or the Hub failed for too long; the message says how the repo stands.
    """
    landing = _Landing(api, repo_id, repo_type, files, message, tag, may_move_tag)
    landed = patience.run(landing.land, state=landing.state)

    def untagged() -> str:
        return (
            f"{repo_id}: main holds the whole release at {landed.commit[:12]}, but it is not tagged {tag}; "
            "publish again, which only finishes it"
        )

    if not landing.is_tagged(landed.commit):
        patience.run(lambda: _compare(api, repo_id, repo_type, landed.commit, files), state=untagged)
    if loads is not None:
        try:
            loads(landed.commit)
        except HubError as error:
            raise PushError(
                f"{error}\n{repo_id}: main holds {landed.commit[:12]}, which was not tagged {tag}; mend it and publish "
                "again, or put an earlier release back with `bonsai releases current`"
            ) from error
    patience.run(lambda: _tag(api, repo_id, repo_type, landed.commit, tag, may_move_tag), state=untagged)
    return Pushed(
        repo_id=repo_id,
        repo_type=repo_type,
        commit=landed.commit,
        tag=tag,
        changed=landed.changed,
        tag_moved=landed.tag_moved,
    )


class _Landing:
    """The way of a release onto main; remembers between tries what it saw and whether it sent anything."""

    def __init__(
        self, api: HfApi, repo_id: str, repo_type: str, files: Files, message: str, tag: str, may_move_tag: bool
    ) -> None:
        self._api = api
        self._repo_id, self._repo_type = repo_id, repo_type
        self._files, self._message = files, message
        self._tag, self._may_move_tag = tag, may_move_tag
        self._seen: str | None = None
        self._sent = False
        """a commit went out and its fate is unknown: the answer was lost"""
        self._tags: dict[str, str] = {}

    def land(self) -> _Landed:
        """Read, compare, and commit what differs."""
        sdk = "gradio" if self._repo_type == "space" else None
        self._api.create_repo(self._repo_id, repo_type=self._repo_type, exist_ok=True, space_sdk=sdk)
        head = self._api.repo_info(self._repo_id, repo_type=self._repo_type).sha
        if head is None:
            raise TryAgainError(f"{self._repo_id}: the Hub named no commit of main")
        change = difference(self._files, tree(self._api, self._repo_id, self._repo_type, head))
        self._tags = tags(self._api, self._repo_id, self._repo_type)
        tagged = self._tags.get(self._tag)
        if tagged is not None and (change or tagged != head):
            if not difference(self._files, tree(self._api, self._repo_id, self._repo_type, tagged)):
                return _Landed(tagged, False, False)
            if not self._may_move_tag:
                raise PushError(
                    f"{self._repo_id}: {self._tag} is already published with other content; raise the version, "
                    "then build and publish again"
                )
        elif tagged is None and not self._may_move_tag:
            self._refuse_withdrawn()
        if change:
            self._refuse_newcomer(head)
            commit = self._commit(head, change)
        else:
            commit = head
        return _Landed(commit, bool(change) or self._sent, tagged is not None and tagged != commit)

    def is_tagged(self, commit: str) -> bool:
        """Whether this very commit was released before, and so looked at before."""
        return self._tags.get(self._tag) == commit

    def state(self) -> str:
        """How the repo stands when there was no way onto main."""
        if self._sent:
            return (
                f"{self._repo_id}: the answer to the commit was lost, so that main holds either the whole release, "
                "untagged, or what it held before; publish again, which finds out and finishes it"
            )
        return f"{self._repo_id} is as it was; publish again"

    def _commit(self, head: str, change: Difference) -> str:
        operations: list[
            CommitOperationAdd | CommitOperationDelete
        ] = [  # anew for each try: the client refuses operations that it has sent before
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=self._files[name]) for name in change.written),
            *(CommitOperationDelete(path_in_repo=name) for name in change.removed),
        ]
        try:
            made = self._api.create_commit(
                self._repo_id, operations, commit_message=self._message, repo_type=self._repo_type, parent_commit=head
            )
        except Exception as error:
            if is_stale_parent(error):
                raise TryAgainError(f"{self._repo_id}: others commit again and again to main") from error
            if type(error) is ValueError:
                raise PushError(f"{self._repo_id}: the Hub refuses the card: {error}; nothing was committed") from error
            self._sent = self._sent or may_have_arrived(error)
            raise
        return str(made.oid)

    def _refuse_newcomer(self, head: str) -> None:
        """Since the first look, others may have changed what a release leaves alone, and nothing else."""
        seen, self._seen = self._seen, head
        if seen is None or seen == head:
            return
        before, now = (tree(self._api, self._repo_id, self._repo_type, commit) for commit in (seen, head))
        paths = sorted(
            name
            for name in {*before, *now} - KEPT
            if (before[name].blob_id if name in before else None) != (now[name].blob_id if name in now else None)
        )
        if paths:
            newest = self._api.list_repo_commits(self._repo_id, repo_type=self._repo_type, revision=head)[0]
            raise PushError(
                f"{self._repo_id}: while this release was on its way, {', '.join(newest.authors) or 'somebody'} "
                f"committed {head} ({newest.title!r}), which changes {', '.join(paths[:5])}"
                f"{' and more' if len(paths) > 5 else ''}; look at it, then publish again, which puts this release "
                "over it"
            )

    def _refuse_withdrawn(self) -> None:
        at = withdrawn_tags(self._api, self._repo_id, self._repo_type).get(self._tag)
        if at is not None:
            raise PushError(
                f"{self._repo_id}: {self._tag} was withdrawn by commit {at[:12]}; a withdrawn version does not come "
                "back: raise the version, then build and publish again"
            )


def tags(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """The commit behind each tag."""
    return {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id, repo_type=repo_type).tags}


def _compare(api: HfApi, repo_id: str, repo_type: str, commit: str, files: Files) -> None:
    """Download the commit into an empty folder and compare it byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        api.snapshot_download(repo_id, repo_type=repo_type, revision=commit, local_dir=folder, max_workers=4)
        others = list(departures(Path(folder), files))
    if others:
        raise TryAgainError(
            f"{repo_id}: a fresh download of {commit[:12]} is not what was published: {', '.join(others[:5])}"
        )


def _tag(api: HfApi, repo_id: str, repo_type: str, commit: str, tag: str, may_move: bool) -> None:
    standing = tags(api, repo_id, repo_type).get(tag)
    if standing == commit:
        return
    if standing is not None:
        if not may_move:
            raise PushError(f"{repo_id}: somebody else has tagged {standing[:12]} as {tag} meanwhile; look at both")
        api.delete_tag(repo_id, tag=tag, repo_type=repo_type)
    api.create_tag(repo_id, tag=tag, revision=commit, repo_type=repo_type)
