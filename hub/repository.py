"""Reading one git repository: revisions, files, folders, history."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from dulwich.errors import NotTreeError
from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref, check_ref_format
from dulwich.repo import Repo

from bonsai.hub.errors import EntryNotFoundError, RevisionNotFoundError
from bonsai.hub.objects import LfsStore, Pointer

DEFAULT_BRANCH = "main"
_HEX_DIGITS = frozenset("0123456789abcdef")
_FACTS_KEPT = 200_000


@dataclass(frozen=True, kw_only=True)
class Node:
    """A file or folder as the tree names it, without having looked inside."""

    path: str
    oid: str
    is_folder: bool


@dataclass(frozen=True, kw_only=True)
class BlobFacts:
    """What a listing says of a file."""

    stored: int
    """Bytes in git: for a large file, those of the pointer."""
    pointer: Pointer | None

    @property
    def size(self) -> int:
        """Bytes of the file itself."""
        return self.pointer.size if self.pointer else self.stored


class Repository:
    """An open repository. Cheap to open, not to be shared between threads; use it as a context manager."""

    def __init__(self, path: Path, facts: dict[str, BlobFacts]) -> None:
        self.git = Repo(path)
        self.lfs = LfsStore(path)
        self._facts = facts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.git.close()

    def commit(self, revision: str) -> Commit:
        """The commit behind a branch, a tag, a full ref name, a commit id or at least seven digits of one.

        Raises:
            RevisionNotFoundError: if there is none, or more than one.
        """
        for prefix in ("refs/heads/", "refs/tags/", ""):
            ref = Ref((prefix + revision).encode(errors="replace"))
            if ref.startswith(b"refs/") and len(ref) <= 200 and check_ref_format(ref):
                target = self.git.refs.read_ref(ref)
                if target is not None:
                    return self._peeled(ObjectID(target))
        if 7 <= len(revision) <= 40 and set(revision) <= _HEX_DIGITS:
            prefix_matches = self.git.object_store.iter_prefix(revision.encode())
            commits = [found for oid in prefix_matches if isinstance(found := self.git[oid], Commit)]
            if len(commits) == 1:
                return commits[0]
        raise RevisionNotFoundError(f"Invalid rev id: {revision}")

    def _peeled(self, oid: ObjectID) -> Commit:
        found = self.git[oid]
        while isinstance(found, Tag):
            found = self.git[found.object[1]]
        if not isinstance(found, Commit):
            raise RevisionNotFoundError(f"{oid.decode()} is not a commit")
        return found

    def node(self, commit: Commit, path: str) -> Node:
        """The file or folder at `path`, where the empty path is the root.

        Raises:
            EntryNotFoundError: if there is nothing.
        """
        if not path:
            return Node(path="", oid=commit.tree.decode(), is_folder=True)
        try:
            mode, oid = self._tree(commit.tree).lookup_path(
                self.git.object_store.__getitem__, path.encode(errors="replace")
            )
        except (KeyError, NotTreeError, ValueError):
            raise EntryNotFoundError(
                f"{path!r} does not exist at {commit.id.decode()}", commit=commit.id.decode()
            ) from None
        return Node(path=path, oid=oid.decode(), is_folder=stat.S_ISDIR(mode))

    def children(self, folder: Node, *, recursive: bool = False) -> Iterator[Node]:
        """What a folder holds, folders first as on the Hub, each followed by its own content if `recursive`."""
        entries = sorted(
            self._tree(ObjectID(folder.oid.encode())).iteritems(), key=lambda entry: not stat.S_ISDIR(entry.mode)
        )
        for entry in entries:
            path = entry.path.decode(errors="replace")
            node = Node(
                path=f"{folder.path}/{path}" if folder.path else path,
                oid=entry.sha.decode(),
                is_folder=stat.S_ISDIR(entry.mode),
            )
            yield node
            if recursive and node.is_folder:
                yield from self.children(node, recursive=True)

    def content(self, node: Node) -> bytes:
        """The bytes git keeps for a file: the pointer, if the file is large."""
        blob = self.git[ObjectID(node.oid.encode())]
        if not isinstance(blob, Blob):
            raise EntryNotFoundError(f"{node.path!r} is a folder, not a file")
        return blob.data

    def facts(self, node: Node) -> BlobFacts:
        """Size and pointer of a file. Remembered by hash, which cannot go stale."""
        known = self._facts.get(node.oid)
        if known is None:
            content = self.content(node)
            known = BlobFacts(stored=len(content), pointer=Pointer.from_bytes(content))
            if len(self._facts) >= _FACTS_KEPT:
                self._facts.clear()
            self._facts[node.oid] = known
        return known

    def history(self, commit: Commit) -> Iterator[Commit]:
        """The commit and its ancestors, newest first; there are no merges, for nothing here makes one."""
        while True:
            yield commit
            if not commit.parents:
                return
            commit = self._peeled(commit.parents[0])

    def last_changes(self, commit: Commit, paths: list[str]) -> dict[str, Commit]:
        """For each path the newest commit that changed it."""
        here = {path: self._oid_or_none(commit, path) for path in paths}
        found: dict[str, Commit] = {}
        for newer in self.history(commit):
            older = self._peeled(newer.parents[0]) if newer.parents else None
            for path in [path for path in here if path not in found]:
                if older is None or self._oid_or_none(older, path) != here[path]:
                    found[path] = newer
            if len(found) == len(here):
                break
        return found

    def _oid_or_none(self, commit: Commit, path: str) -> str | None:
        try:
            return self.node(commit, path).oid
        except EntryNotFoundError:
            return None

    def _tree(self, oid: ObjectID) -> Tree:
        tree = self.git[oid]
        if not isinstance(tree, Tree):
            raise EntryNotFoundError(f"{oid.decode()} is not a folder")
        return tree


def commit_time(commit: Commit) -> datetime:
    """When the commit was made."""
    return datetime.fromtimestamp(commit.commit_time, UTC)


def commit_message(commit: Commit) -> tuple[str, str]:
    """Title and description."""
    title, _, description = commit.message.decode(errors="replace").partition("\n")
    return title, description.strip()
