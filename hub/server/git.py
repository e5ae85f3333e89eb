"""Read bare git repositories, and decide which files go to LFS."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Self

from dulwich.attrs import GitAttributes, compile_gitattributes_patterns, parse_git_attributes
from dulwich.errors import NotTreeError
from dulwich.ignore import IgnoreFilter, read_ignore_patterns
from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref, check_ref_format
from dulwich.repo import Repo

from bonsai.hub.errors import EntryNotFoundError, RevisionNotFoundError
from bonsai.hub.server.lfs_store import LfsStore, Pointer

DEFAULT_BRANCH = "main"
REGULAR_LIMIT = 10_000_000
"""Bytes. The Hub refuses larger files in git."""
LFS_SUFFIXES = tuple(
    tomllib.loads(files(__package__).joinpath("rules.toml").read_text(encoding="utf-8"))["lfs_suffixes"]
)
_LFS_ATTRIBUTES = "filter=lfs diff=lfs merge=lfs -text\n"
FIRST_ATTRIBUTES = "".join(
    f"{pattern} {_LFS_ATTRIBUTES}"
    for pattern in (*(f"*{suffix}" for suffix in LFS_SUFFIXES), "*tfevents*", "saved_model/**/*")
).encode()
"""The `.gitattributes` of a new repository: the patterns the Hub writes into a new dataset or model."""
_HEX_DIGITS = frozenset("0123456789abcdef")
_CACHED_FACTS = 200_000


@dataclass(frozen=True, kw_only=True)
class TreeEntry:
    """A file or folder as its tree lists it; its content has not been read."""

    path: str
    oid: str
    is_folder: bool


@dataclass(frozen=True, kw_only=True)
class BlobFacts:
    """Size and LFS pointer of a file, as a listing shows them."""

    stored: int
    """Bytes in git; of a large file, those of its pointer."""
    pointer: Pointer | None

    @property
    def size(self) -> int:
        """Bytes of the file itself."""
        return self.pointer.size if self.pointer else self.stored


class Repository:
    """An open bare repository: a context manager, cheap to open, and not to be shared between threads."""

    def __init__(self, path: Path, facts: dict[str, BlobFacts]) -> None:
        self.git = Repo(path)
        self.lfs = LfsStore(path)
        self._facts = facts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.git.close()

    def commit(self, revision: str) -> Commit:
        """Resolve a branch, a tag, a full ref name, a commit id or at least seven digits of one.

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

    def node(self, commit: Commit, path: str) -> TreeEntry:
        """Return the file or folder at `path`; the empty path is the root.

        Raises:
            EntryNotFoundError: if there is none.
        """
        node = self.find(commit, path)
        if node is None:
            raise EntryNotFoundError(f"{path!r} does not exist at {commit.id.decode()}", commit=commit.id.decode())
        return node

    def find(self, commit: Commit, path: str) -> TreeEntry | None:
        """Return the file or folder at `path`, or None if there is none."""
        if not path:
            return TreeEntry(path="", oid=commit.tree.decode(), is_folder=True)
        try:
            mode, oid = self._tree(commit.tree).lookup_path(
                self.git.object_store.__getitem__, path.encode(errors="replace")
            )
        except (KeyError, NotTreeError, ValueError):
            return None
        return TreeEntry(path=path, oid=oid.decode(), is_folder=stat.S_ISDIR(mode))

    def children(self, folder: TreeEntry, *, recursive: bool = False) -> Iterator[TreeEntry]:
        """Yield the entries of a folder, folders first as on the Hub, each followed by its own if `recursive`."""
        entries = sorted(
            self._tree(ObjectID(folder.oid.encode())).iteritems(), key=lambda entry: not stat.S_ISDIR(entry.mode)
        )
        for entry in entries:
            path = entry.path.decode(errors="replace")
            node = TreeEntry(
                path=f"{folder.path}/{path}" if folder.path else path,
                oid=entry.sha.decode(),
                is_folder=stat.S_ISDIR(entry.mode),
            )
            yield node
            if recursive and node.is_folder:
                yield from self.children(node, recursive=True)

    def content(self, node: TreeEntry) -> bytes:
        """Return the bytes git stores for a file: of a large file, its pointer."""
        blob = self.git[ObjectID(node.oid.encode())]
        if not isinstance(blob, Blob):
            raise EntryNotFoundError(f"{node.path!r} is a folder, not a file")
        return blob.data

    def read_file(self, commit: Commit, path: str) -> bytes:
        """Return the content of a small file; empty if there is no such file."""
        node = self.find(commit, path)
        return self.content(node) if node and not node.is_folder else b""

    def facts(self, node: TreeEntry) -> BlobFacts:
        """Return size and pointer of a file, cached by hash, which cannot go stale."""
        known = self._facts.get(node.oid)
        if known is None:
            content = self.content(node)
            known = BlobFacts(stored=len(content), pointer=Pointer.from_bytes(content))
            if len(self._facts) >= _CACHED_FACTS:
                self._facts.clear()
            self._facts[node.oid] = known
        return known

    def history(self, commit: Commit) -> Iterator[Commit]:
        """Yield the commit and its ancestors, newest first; this Hub makes no merge commits."""
        while True:
            yield commit
            if not commit.parents:
                return
            commit = self._peeled(commit.parents[0])

    def last_changes(self, commit: Commit, paths: list[str]) -> dict[str, Commit]:
        """Map each path to the newest commit that changed it."""

        def oid(commit: Commit, path: str) -> str | None:
            node = self.find(commit, path)
            return node.oid if node else None

        present = {path: oid(commit, path) for path in paths}
        found: dict[str, Commit] = {}
        for newer in self.history(commit):
            older = self._peeled(newer.parents[0]) if newer.parents else None
            for path in [path for path in present if path not in found]:
                if older is None or oid(older, path) != present[path]:
                    found[path] = newer
            if len(found) == len(present):
                break
        return found

    def _tree(self, oid: ObjectID) -> Tree:
        tree = self.git[oid]
        if not isinstance(tree, Tree):
            raise EntryNotFoundError(f"{oid.decode()} is not a folder")
        return tree


def commit_message(commit: Commit) -> tuple[str, str]:
    """Return title and description."""
    title, _, description = commit.message.decode(errors="replace").partition("\n")
    return title, description.strip()


@dataclass(frozen=True, kw_only=True)
class UploadRules:
    """A repository's `.gitattributes` and `.gitignore`."""

    attributes: GitAttributes
    ignored: IgnoreFilter

    def is_large(self, path: str, *, size: int, sample: bytes) -> bool:
        """Whether the file belongs in LFS, by the repository's rules, its size, suffix or first bytes."""
        if size == 0:
            return False
        if size > REGULAR_LIMIT or tracks(self.attributes, path):
            return True
        opted_out = self.attributes.match_path(path.encode()).get(b"filter") is False
        return not opted_out and (PurePosixPath(path).suffix.casefold() in LFS_SUFFIXES or is_binary(sample))

    def ignores(self, path: str) -> bool:
        """Whether `.gitignore` keeps the file out."""
        return bool(self.ignored.is_ignored(path))


def upload_rules(repository: Repository, commit: Commit, *, gitignore: str | None = None) -> UploadRules:
    """Read the rules of a repository at a commit; `gitignore` replaces the one it holds."""
    ignore = repository.read_file(commit, ".gitignore") if gitignore is None else gitignore.encode()
    return UploadRules(
        attributes=parse_attributes(repository.read_file(commit, ".gitattributes")),
        ignored=IgnoreFilter(read_ignore_patterns(BytesIO(ignore))),
    )


def parse_attributes(content: bytes) -> GitAttributes:
    """Parse a `.gitattributes`, such as `*.parquet filter=lfs -text`, skipping lines that git could not read."""
    return GitAttributes(compile_gitattributes_patterns(parse_git_attributes(BytesIO(content))))


def tracks(attributes: GitAttributes, path: str) -> bool:
    """Whether `.gitattributes` sends the file to LFS."""
    return attributes.match_path(path.encode()).get(b"filter") == b"lfs"


def attribute_line(path: str) -> bytes:
    """Return the line that sends one file to LFS; the Hub adds it when no pattern covers the file.

    `data/my [1].bin` gives `/data/my[[:space:]]\\[1].bin filter=lfs diff=lfs merge=lfs -text`.
    """
    escaped = "".join(f"\\{letter}" if letter in "*?[" else letter for letter in path)
    return f"/{escaped.replace(' ', '[[:space:]]')} {_LFS_ATTRIBUTES}".encode()


def is_binary(sample: bytes) -> bool:
    """Whether the first bytes of a file are not UTF-8 text; a character cut off at their end does not count."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data" or error.start < len(sample) - 3
    return b"\x00" in sample
