"""Publish a repo: run preflight checks, commit atomically, verify a fresh download, tag; or change nothing.

Each step is idempotent, so a transient failure is retried, and publishing again finishes an interrupted release.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from bonsai.hub.errors import HubError
from bonsai.hub.repo_files import (
    CARD,
    HUB_MANAGED,
    Files,
    diff_files,
    diff_revisions,
    download_card,
    list_files,
    mismatched_paths,
    read,
    size,
    withdrawn_tags,
)
from bonsai.hub.retry import DEFAULT_RETRY, PushError, RetryPolicy, TransientError, is_stale_parent, may_have_committed


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """The state of a release on the Hub."""

    repo_id: str
    repo_type: str
    commit: str
    tag: str
    changed: bool
    """False: the Hub already held exactly these files; no commit was made"""
    tag_moved: bool = False


def publish_files(
    api: HfApi,
    *,
    repo_id: str,
    repo_type: str,
    files: Mapping[str, Path | bytes],
    message: str,
    tag: str,
    may_move_tag: bool = False,
    verify: Callable[[str], None] | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> PublishResult:
    """Make the repo hold ``files`` (path in the repo: content) and nothing else, in one commit, then tag it.

    Args:
        may_move_tag: a rehearsal may publish a version again; on the real Hub others rely on its tags.
        verify: called with the commit once its download equals ``files``, before the tag is set; uses the release as
            a stranger would, and raises `HubError` if that fails.
        retry: applied to each step.

    Raises:
        PushError: the tag is taken by other content or was withdrawn, somebody else committed meanwhile, the release
            does not load, or the Hub failed for too long; the message describes the state of the repo.
    """
    # 1. Bring main to the files of the release.
    main = _MainCommit(api, repo_id, repo_type, files, message, tag, may_move_tag)
    result = retry.run(main.commit, state=main.state)
    commit = result.commit

    def untagged() -> str:
        return (
            f"{repo_id}: main holds the whole release at {commit[:12]}, but it is not tagged {tag}; "
            "publish again, which only finishes it"
        )

    # 2. Compare a download into an empty folder byte for byte; a commit that carries the tag has passed this before.
    def verify_download() -> None:
        with tempfile.TemporaryDirectory() as folder:
            api.snapshot_download(repo_id, repo_type=repo_type, revision=commit, local_dir=folder, max_workers=4)
            others = list(mismatched_paths(Path(folder), files))
        if others:
            raise TransientError(
                f"{repo_id}: a fresh download of {commit[:12]} differs from what was published: {', '.join(others[:5])}"
            )

    if not main.is_tagged(commit):
        retry.run(verify_download, state=untagged)

    # 3. Use it as a stranger would.
    if verify is not None:
        try:
            verify(commit)
        except HubError as error:
            raise PushError(
                f"{error}\n{repo_id}: main holds {commit[:12]}, which was not tagged {tag}; mend it and publish "
                "again, or put an earlier release back with `bonsai releases current`"
            ) from error

    # 4. Tag it, last: a tag is a promise that the release was verified.
    def set_tag() -> None:
        target = tags(api, repo_id, repo_type).get(tag)
        if target == commit:
            return
        if target is not None:
            if not may_move_tag:
                raise PushError(f"{repo_id}: somebody else tagged {target[:12]} as {tag} meanwhile; look at both")
            api.delete_tag(repo_id, tag=tag, repo_type=repo_type)
        api.create_tag(repo_id, tag=tag, revision=commit, repo_type=repo_type)

    retry.run(set_tag, state=untagged)
    return result


class _MainCommit:
    """Commit a release to main; remembers the last head and whether a commit was sent between tries."""

    def __init__(
        self, api: HfApi, repo_id: str, repo_type: str, files: Files, message: str, tag: str, may_move_tag: bool
    ) -> None:
        self._api = api
        self._repo_id, self._repo_type = repo_id, repo_type
        self._files, self._message = files, message
        self._tag, self._may_move_tag = tag, may_move_tag
        self._last_head: str | None = None
        self._sent = False
        """a commit went out and its fate is unknown: the answer was lost"""
        self._tags: dict[str, str] = {}

    def commit(self) -> PublishResult:
        """Compare main with the release and commit the difference; safe to repeat."""
        api, repo_id, repo_type = self._api, self._repo_id, self._repo_type

        # 1. Read main and the tags.
        sdk = "gradio" if repo_type == "space" else None
        api.create_repo(repo_id, repo_type=repo_type, exist_ok=True, space_sdk=sdk)
        head = api.repo_info(repo_id, repo_type=repo_type).sha
        if head is None:
            raise TransientError(f"{repo_id}: the Hub did not name the commit of main")
        change = diff_files(self._files, list_files(api, repo_id, repo_type, head))
        self._tags = tags(api, repo_id, repo_type)
        target = self._tags.get(self._tag)
        result = partial(PublishResult, repo_id=repo_id, repo_type=repo_type, tag=self._tag)

        # 2. A tag stays with its content, and a withdrawn version stays withdrawn; only a rehearsal may replace them.
        if target is not None and (change or target != head):
            if not diff_files(self._files, list_files(api, repo_id, repo_type, target)):
                return result(commit=target, changed=False, tag_moved=False)
            if not self._may_move_tag:
                raise PushError(
                    f"{repo_id}: {self._tag} is already published with other content; raise the version, "
                    "then build and publish again"
                )
        elif target is None and not self._may_move_tag:
            withdrawal = withdrawn_tags(api, repo_id, repo_type).get(self._tag)
            if withdrawal is not None:
                raise PushError(
                    f"{repo_id}: {self._tag} was withdrawn by commit {withdrawal[:12]}; a withdrawn version does not "
                    "come back: raise the version, then build and publish again"
                )
        if not change:
            return result(commit=head, changed=self._sent, tag_moved=target not in (None, head))

        # 3. Commit on top of the head that was compared. The operations are built anew for each try: the client refuses
        #    those that it has sent before.
        self._refuse_concurrent_commit(head)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=self._files[name]) for name in change.written),
            *(CommitOperationDelete(path_in_repo=name) for name in change.removed),
        ]
        try:
            info = api.create_commit(
                repo_id, operations, commit_message=self._message, repo_type=repo_type, parent_commit=head
            )
        except Exception as error:
            if is_stale_parent(error):
                raise TransientError(f"{repo_id}: others keep committing to main") from error
            if type(error) is ValueError:
                raise PushError(f"{repo_id}: the Hub refuses the card: {error}; nothing was committed") from error
            self._sent = self._sent or may_have_committed(error)
            raise
        commit = str(info.oid)
        return result(commit=commit, changed=True, tag_moved=target not in (None, commit))

    def is_tagged(self, commit: str) -> bool:
        """Whether this very commit already carries the tag, and so was verified before."""
        return self._tags.get(self._tag) == commit

    def state(self) -> str:
        """Describe the repo after the commit failed for good."""
        if self._sent:
            return (
                f"{self._repo_id}: the answer to the commit was lost, so main holds either the whole release, "
                "untagged, or what it held before; publish again, which finds out and finishes it"
            )
        return f"{self._repo_id} is as it was; publish again"

    def _refuse_concurrent_commit(self, head: str) -> None:
        """Raise `PushError` if somebody changed a file of the repo since the previous try."""
        last, self._last_head = self._last_head, head
        if last is None or last == head:
            return
        before, now = (list_files(self._api, self._repo_id, self._repo_type, commit) for commit in (last, head))
        change = diff_revisions(now, before)
        if change:
            paths = sorted((*change.written, *change.removed))
            newest = self._api.list_repo_commits(self._repo_id, repo_type=self._repo_type, revision=head)[0]
            raise PushError(
                f"{self._repo_id}: while this release was on its way, {', '.join(newest.authors) or 'somebody'} "
                f"committed {head} ({newest.title!r}), which changes {', '.join(paths[:5])}"
                f"{' and more' if len(paths) > 5 else ''}; look at it, then publish again, which puts this release "
                "over it"
            )


def tags(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """Map each tag to its commit."""
    return {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id, repo_type=repo_type).tags}


class PreflightCheck(NamedTuple):
    """One check that a release must pass before anything is sent."""

    name: str
    """what is checked, in a word or two"""
    reasons: Callable[[], Iterable[str]]
    """returns each reason against the release as a sentence; none: it passes"""


class PreflightError(HubError):
    """A release that was refused before anything was sent; ``reasons`` are the sentences of its checks."""

    def __init__(self, release: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        count = "1 reason" if len(reasons) == 1 else f"{len(reasons)} reasons"
        super().__init__(
            f"{release} is not published, for {count}:\n" + "\n".join(f"  - {reason}" for reason in reasons)
        )


def run_preflight(
    release: str, checks: Sequence[PreflightCheck], *, sentences: tuple[type[Exception], ...] = (HubError,)
) -> None:
    """Run all checks, and report every reason at once.

    Args:
        release: what is to be published, as the user calls it.
        sentences: exceptions whose text counts as a reason, such as a file that a check could not read.

    Raises:
        PreflightError: with every reason of every check, in order.
    """
    reasons: list[str] = []
    for check in checks:
        try:
            reasons += [f"{check.name}: {reason}" for reason in check.reasons()]
        except sentences as error:
            reasons.append(f"{check.name}: {error}")
    if reasons:
        raise PreflightError(release, reasons)


def check_pinned_revision(api: HfApi, repo_id: str, repo_type: str, revision: str) -> Iterable[str]:
    """Yield reasons why a stranger would not find a pinned revision, or would find another one later.

    A branch moves; any other revision of the repo is a tag or a commit, which do not.
    """
    if not api.repo_exists(repo_id, repo_type=repo_type):
        yield f"{repo_id} is not on {api.endpoint}; publish it first, or correct its name"
    elif not api.revision_exists(repo_id, revision, repo_type=repo_type):
        yield f"{repo_id} has no revision {revision} on {api.endpoint}; publish it first, or pin another"
    elif revision in {branch.name for branch in api.list_repo_refs(repo_id, repo_type=repo_type).branches}:
        yield f"{repo_id} is pinned at {revision}, a branch, which moves; pin a tag or a commit"


class PlannedFile(NamedTuple):
    """One file of the repo, before or after the release."""

    path: str
    size: int
    """bytes; of a file to be removed, its present size"""
    state: Literal["added", "changed", "removed", "same", "the Hub's own"]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a release would do."""

    repo_id: str
    tag: str
    tagged: str | None
    """the commit that carries the tag now"""
    head: str | None
    """main's commit now; None: there is no such repo yet"""
    files: tuple[PlannedFile, ...]
    """by path"""
    card: str
    """the card's unified diff; empty: unchanged"""

    @property
    def sent(self) -> int:
        """Bytes that would be uploaded."""
        return sum(file.size for file in self.files if file.state in ("added", "changed"))


def preview_release(api: HfApi, *, repo_id: str, repo_type: str, files: Files, tag: str) -> Preview:
    """Compare ``files`` with main; sends nothing."""
    head = target = None
    remote = {}
    if api.repo_exists(repo_id, repo_type=repo_type):
        head = api.repo_info(repo_id, repo_type=repo_type).sha
        remote = list_files(api, repo_id, repo_type, head or "main")
        target = tags(api, repo_id, repo_type).get(tag)
    change = diff_files(files, remote)
    states: dict[str, Literal["added", "changed", "removed"]] = {
        **dict.fromkeys(change.added, "added"),
        **dict.fromkeys(change.changed, "changed"),
        **dict.fromkeys(change.removed, "removed"),
    }
    planned = [PlannedFile(name, size(content), states.get(name, "same")) for name, content in files.items()]
    planned += [
        PlannedFile(name, entry.size, "the Hub's own" if name in HUB_MANAGED else "removed")
        for name, entry in remote.items()
        if name not in files
    ]
    before = download_card(api, repo_id, repo_type, head) if head is not None and CARD in remote else ""
    after = read(files[CARD]).decode("utf-8") if CARD in files else ""
    diff = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{CARD} on the Hub", f"{CARD} of this release", lineterm=""
    )
    return Preview(
        repo_id=repo_id, tag=tag, tagged=target, head=head, files=tuple(sorted(planned)), card="\n".join(diff)
    )
