"""Publish one repo: preflight checks, one atomic commit, a verified download, then a tag; or nothing at all.

Each of the three steps may be done twice without harm, so what passes is simply tried again, and a release that was cut
off anywhere is finished by doing it again.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from bonsai.hub.errors import HubError
from bonsai.hub.repo_files import (
    HUB_MANAGED,
    FileDiff,
    Files,
    diff_files,
    list_files,
    mismatched_paths,
    read,
    size,
    withdrawn_tags,
)
from bonsai.hub.retry import DEFAULT_RETRY, PushError, RetryPolicy, TransientError, is_stale_parent, may_have_committed


@dataclass(frozen=True, kw_only=True)
class PublishResult:
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


def publish_files(
    api: HfApi,
    *,
    repo_id: str,
    repo_type: str,
    files: Mapping[str, Path | bytes],
    message: str,
    tag: str,
    may_move_tag: bool = False,
    loads: Callable[[str], None] | None = None,
    patience: RetryPolicy = DEFAULT_RETRY,
) -> PublishResult:
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
    landing = _MainCommit(api, repo_id, repo_type, files, message, tag, may_move_tag)
    landed = patience.run(landing.commit, state=landing.state)

    def untagged() -> str:
        return (
            f"{repo_id}: main holds the whole release at {landed.commit[:12]}, but it is not tagged {tag}; "
            "publish again, which only finishes it"
        )

    if not landing.is_tagged(landed.commit):
        patience.run(lambda: _verify_download(api, repo_id, repo_type, landed.commit, files), state=untagged)
    if loads is not None:
        try:
            loads(landed.commit)
        except HubError as error:
            raise PushError(
                f"{error}\n{repo_id}: main holds {landed.commit[:12]}, which was not tagged {tag}; mend it and publish "
                "again, or put an earlier release back with `bonsai releases current`"
            ) from error
    patience.run(lambda: _tag(api, repo_id, repo_type, landed.commit, tag, may_move_tag), state=untagged)
    return PublishResult(
        repo_id=repo_id,
        repo_type=repo_type,
        commit=landed.commit,
        tag=tag,
        changed=landed.changed,
        tag_moved=landed.tag_moved,
    )


class _MainCommit:
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

    def commit(self) -> _Landed:
        """Read, compare, and commit what differs."""
        sdk = "gradio" if self._repo_type == "space" else None
        self._api.create_repo(self._repo_id, repo_type=self._repo_type, exist_ok=True, space_sdk=sdk)
        head = self._api.repo_info(self._repo_id, repo_type=self._repo_type).sha
        if head is None:
            raise TransientError(f"{self._repo_id}: the Hub named no commit of main")
        change = diff_files(self._files, list_files(self._api, self._repo_id, self._repo_type, head))
        self._tags = tags(self._api, self._repo_id, self._repo_type)
        tagged = self._tags.get(self._tag)
        if tagged is not None and (change or tagged != head):
            if not diff_files(self._files, list_files(self._api, self._repo_id, self._repo_type, tagged)):
                return _Landed(tagged, False, False)
            if not self._may_move_tag:
                raise PushError(
                    f"{self._repo_id}: {self._tag} is already published with other content; raise the version, "
                    "then build and publish again"
                )
        elif tagged is None and not self._may_move_tag:
            self._refuse_withdrawn()
        if change:
            self._refuse_concurrent_commit(head)
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

    def _commit(self, head: str, change: FileDiff) -> str:
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
                raise TransientError(f"{self._repo_id}: others commit again and again to main") from error
            if type(error) is ValueError:
                raise PushError(f"{self._repo_id}: the Hub refuses the card: {error}; nothing was committed") from error
            self._sent = self._sent or may_have_committed(error)
            raise
        return str(made.oid)

    def _refuse_concurrent_commit(self, head: str) -> None:
        """Since the first look, others may have changed what a release leaves alone, and nothing else."""
        seen, self._seen = self._seen, head
        if seen is None or seen == head:
            return
        before, now = (list_files(self._api, self._repo_id, self._repo_type, commit) for commit in (seen, head))
        paths = sorted(
            name
            for name in {*before, *now} - HUB_MANAGED
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


def _verify_download(api: HfApi, repo_id: str, repo_type: str, commit: str, files: Files) -> None:
    """Download the commit into an empty folder and compare it byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        api.snapshot_download(repo_id, repo_type=repo_type, revision=commit, local_dir=folder, max_workers=4)
        others = list(mismatched_paths(Path(folder), files))
    if others:
        raise TransientError(
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


class PreflightCheck(NamedTuple):
    """Something that must be in order."""

    name: str
    """what is looked at, in a word or two"""
    reasons: Callable[[], Iterable[str]]
    """each reason against the release, as a sentence; none: it may pass"""


class PreflightError(HubError):
    """A release that was refused before anything was sent."""

    def __init__(self, what: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        count = "1 reason" if len(reasons) == 1 else f"{len(reasons)} reasons"
        super().__init__(f"{what} is not published, for {count}:\n" + "\n".join(f"  - {reason}" for reason in reasons))


def run_preflight(
    what: str, checks: Sequence[PreflightCheck], *, sentences: tuple[type[Exception], ...] = (HubError,)
) -> None:
    """Ask all checks.

    Args:
        what: the release, as the person calls it.
        sentences: errors whose text is a reason as well; a check may simply read what it needs.

    Raises:
        GateError: with every reason of every check, in their order.
    """
    against: list[str] = []
    for check in checks:
        try:
            against += [f"{check.name}: {reason}" for reason in check.reasons()]
        except sentences as error:
            against.append(f"{check.name}: {error}")
    if against:
        raise PreflightError(what, against)


def check_pinned_revision(api: HfApi, repo_id: str, repo_type: str, revision: str) -> Iterable[str]:
    """Reasons why a revision that a release names would not be found, or not be the same, by a stranger.

    A branch moves; what is no branch of the repo and is found there is a tag or a commit.
    """
    if not api.repo_exists(repo_id, repo_type=repo_type):
        yield f"{repo_id} is not on {api.endpoint}; publish it first, or correct its name"
    elif not api.revision_exists(repo_id, revision, repo_type=repo_type):
        yield f"{repo_id} has no revision {revision} on {api.endpoint}; publish it first, or pin another"
    elif revision in {branch.name for branch in api.list_repo_refs(repo_id, repo_type=repo_type).branches}:
        yield f"{repo_id} is named at {revision}, a branch, which moves; pin a tag or a commit"


CARD = "README.md"


class PlannedFile(NamedTuple):
    """One file of the repo after, or before, the release."""

    path: str
    size: int
    """bytes; of what is removed, those it has now"""
    state: Literal["added", "changed", "removed", "same", "the Hub's own"]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A release that was not made."""

    repo_id: str
    tag: str
    tagged: str | None
    """the commit that carries the tag now"""
    head: str | None
    """main's commit now; None: there is no such repo yet"""
    files: tuple[PlannedFile, ...]
    """by path"""
    card: str
    """the card's unified diff; empty: the same"""

    @property
    def sent(self) -> int:
        """Bytes that would travel."""
        return sum(file.size for file in self.files if file.state in ("added", "changed"))


def preview_release(api: HfApi, *, repo_id: str, repo_type: str, files: Files, tag: str) -> Preview:
    """Compare ``files`` with main; only questions go to the Hub."""
    head = there = tagged = None
    if api.repo_exists(repo_id, repo_type=repo_type):
        head = api.repo_info(repo_id, repo_type=repo_type).sha
        there = list_files(api, repo_id, repo_type, head or "main")
        tagged = tags(api, repo_id, repo_type).get(tag)
    change = diff_files(files, there or {})
    states: dict[str, Literal["added", "changed", "removed"]] = {
        **dict.fromkeys(change.added, "added"),
        **dict.fromkeys(change.changed, "changed"),
        **dict.fromkeys(change.removed, "removed"),
    }
    planned = [PlannedFile(name, size(content), states.get(name, "same")) for name, content in files.items()]
    for name, entry in (there or {}).items():
        if name not in files:
            planned.append(PlannedFile(name, entry.size, "the Hub's own" if name in HUB_MANAGED else "removed"))
    before = _card(api, repo_id, repo_type, head) if head is not None and there and CARD in there else ""
    after = read(files[CARD]).decode("utf-8") if CARD in files else ""
    return Preview(
        repo_id=repo_id,
        tag=tag,
        tagged=tagged,
        head=head,
        files=tuple(sorted(planned)),
        card="\n".join(_diff(before, after)),
    )


def _card(api: HfApi, repo_id: str, repo_type: str, revision: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo_id, CARD, repo_type=repo_type, revision=revision, local_dir=folder)
        return Path(path).read_bytes().decode("utf-8")


def _diff(before: str, after: str) -> Iterator[str]:
    return difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{CARD} on the Hub", f"{CARD} of this release", lineterm=""
    )
