"""Making and deleting branches and tags."""

from __future__ import annotations

import time

from dulwich.objects import Commit, Tag

from bonsai.hub.errors import ConflictError, ForbiddenError, RevisionNotFoundError
from bonsai.hub.names import branch_ref, tag_ref
from bonsai.hub.repository import DEFAULT_BRANCH, Repository


def create_branch(repository: Repository, name: str, *, start: str | None) -> None:
    """Starts a branch at a revision, by default at the head of main.

    Raises:
        ConflictError: if there is one of this name, or one whose name is a folder of this one.
    """
    ref, commit = branch_ref(name), repository.commit(start or DEFAULT_BRANCH)
    _refuse_overlap(repository, "heads", name)
    if not repository.git.refs.add_if_new(ref, commit.id):
        raise ConflictError(f"Reference {ref.decode()} already exists")


def delete_branch(repository: Repository, name: str) -> None:
    """Raises ForbiddenError for main, RevisionNotFoundError if there is no such branch."""
    if name == DEFAULT_BRANCH:
        raise ForbiddenError("Cannot delete refs/heads/main")
    ref = branch_ref(name)
    if repository.git.refs.read_ref(ref) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {ref.decode()}")
    repository.git.refs.remove_if_equals(ref, None)


def create_tag(repository: Repository, name: str, *, revision: str, message: str, tagger: str) -> None:
    """Tags a revision; with a message the tag is an object of its own, as in git.

    Raises:
        ConflictError: if there is a tag of this name: a tag does not move.
    """
    commit, ref = repository.commit(revision), tag_ref(name)
    _refuse_overlap(repository, "tags", name)
    target = commit.id
    if message:
        tag = Tag()
        tag.name = name.encode()
        tag.tagger = f"{tagger} <{tagger}@users.noreply.localhost>".encode()
        tag.tag_time = int(time.time())
        tag.tag_timezone = 0
        tag.object = (Commit, commit.id)
        tag.message = message.encode(errors="replace")
        repository.git.object_store.add_object(tag)
        target = tag.id
    if not repository.git.refs.add_if_new(ref, target):
        raise ConflictError(f"Reference {ref.decode()} already exists")


def delete_tag(repository: Repository, name: str) -> None:
    """Raises RevisionNotFoundError if there is no such tag."""
    ref = tag_ref(name)
    if repository.git.refs.read_ref(ref) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {ref.decode()}")
    repository.git.refs.remove_if_equals(ref, None)


def _refuse_overlap(repository: Repository, group: str, name: str) -> None:
    """Git keeps `a` as a file and `a/b` as a file in the folder `a`: the two cannot be side by side."""
    for other in repository.git.refs.allkeys():
        taken = other.decode().removeprefix(f"refs/{group}/")
        if taken != other.decode() and (taken.startswith(f"{name}/") or name.startswith(f"{taken}/")):
            raise ConflictError(f"'{name}' cannot be beside '{taken}': one is a folder of the other")
