"""Writing a commit: all its objects first, then one compare-and-swap of the branch.

Whatever stops the writer before the swap leaves the branch as it was; the objects already written belong to nobody and
do no harm. The caller holds the repository's lock (`Storage.writing`), so of two commits without `parentCommit` the
later one is built on the earlier one and neither is lost.
"""

from __future__ import annotations

import time
from typing import IO

from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo

from bonsai.hub.commit_request import Header, read_commit
from bonsai.hub.errors import RevisionNotFoundError, StaleParentError
from bonsai.hub.names import RepoKind, branch_ref
from bonsai.hub.repository import Repository
from bonsai.hub.stage import FILE_MODE, Stage
from bonsai.hub.upload_mode import FIRST_ATTRIBUTES

_STALE = "The branch was updated since you opened this page. Please refresh and try again."
"""The Hub's words, though nobody opened a page: there are clients that look for them."""


def write_commit(repository: Repository, lines: IO[bytes], *, branch: str, author: str, kind: RepoKind) -> Commit:
    """Reads a commit request and moves the branch to the new commit.

    Raises:
        RevisionNotFoundError: if there is no such branch.
        StaleParentError: if the client has not seen the branch's newest commit.
        BadRequestError: if the request cannot be carried out as a whole.
    """
    ref = branch_ref(branch)
    head = branch_head(repository, branch)
    header, operations = read_commit(lines)
    if header.parent is not None and not head.id.decode().startswith(header.parent):
        raise StaleParentError(_STALE, commit=head.id.decode())
    stage = Stage(repository, head, kind)
    for operation in operations:
        stage.apply(operation)
    commit = make_commit(repository.git, stage.tree(), header, author=author, parent=head)
    swap(repository, ref, head, commit)
    return commit


def branch_head(repository: Repository, branch: str) -> Commit:
    """Raises RevisionNotFoundError for a tag or a commit id: only a branch can be written to."""
    ref = branch_ref(branch)
    if repository.git.refs.read_ref(ref) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {ref.decode()}")
    return repository.commit(ref.decode())


def make_commit(git: Repo, tree: ObjectID, header: Header, *, author: str, parent: Commit | None) -> Commit:
    """Writes a commit object that no branch knows yet."""
    commit = Commit()
    commit.tree = tree
    commit.parents = [parent.id] if parent else []
    commit.author = commit.committer = f"{author} <{author}@users.noreply.localhost>".encode()
    commit.author_time = commit.commit_time = max(int(time.time()), parent.commit_time if parent else 0)
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    title = " ".join(header.summary.splitlines())
    commit.message = (f"{title}\n\n{header.description}" if header.description else title).encode(errors="replace")
    git.object_store.add_object(commit)
    return commit


def swap(repository: Repository, ref: Ref, expected: Commit, commit: Commit) -> None:
    """Moves a branch, if it is still where it was.

    Raises:
        StaleParentError: if it is not.
    """
    if not repository.git.refs.set_if_equals(ref, expected.id, commit.id):
        raise StaleParentError(_STALE)


def first_commit(git: Repo, author: str) -> ObjectID:
    """The commit every repository begins with."""
    attributes = Blob.from_string(FIRST_ATTRIBUTES)
    git.object_store.add_object(attributes)
    tree = commit_tree(git.object_store, [(b".gitattributes", attributes.id, FILE_MODE)])
    return make_commit(git, tree, Header(summary="initial commit"), author=author, parent=None).id
