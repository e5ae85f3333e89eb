"""Read and write bare git repositories, and decide which files go to LFS."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
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
_HEX_DIGITS = frozenset("0123456789abcdef")
_FACTS_KEPT = 200_000


@dataclass(frozen=True, kw_only=True)
class TreeEntry:
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

    def node(self, commit: Commit, path: str) -> TreeEntry:
        """The file or folder at `path`, where the empty path is the root.

        Raises:
            EntryNotFoundError: if there is nothing.
        """
        if not path:
            return TreeEntry(path="", oid=commit.tree.decode(), is_folder=True)
        try:
            mode, oid = self._tree(commit.tree).lookup_path(
                self.git.object_store.__getitem__, path.encode(errors="replace")
            )
        except (KeyError, NotTreeError, ValueError):
            raise EntryNotFoundError(
                f"{path!r} does not exist at {commit.id.decode()}", commit=commit.id.decode()
            ) from None
        return TreeEntry(path=path, oid=oid.decode(), is_folder=stat.S_ISDIR(mode))

    def children(self, folder: TreeEntry, *, recursive: bool = False) -> Iterator[TreeEntry]:
        """What a folder holds, folders first as on the Hub, each followed by its own content if `recursive`."""
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
        """The bytes git keeps for a file: the pointer, if the file is large."""
        blob = self.git[ObjectID(node.oid.encode())]
        if not isinstance(blob, Blob):
            raise EntryNotFoundError(f"{node.path!r} is a folder, not a file")
        return blob.data

    def facts(self, node: TreeEntry) -> BlobFacts:
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


REGULAR_LIMIT = 10_000_000
"""Bytes. The Hub refuses larger files in git."""
_SUFFIXES = """
.7z .arrow .avro .bin .bz2 .ckpt .flac .ftz .gguf .gif .gz .h5 .jpeg .jpg .joblib .lz4 .mds .mlmodel .model .mp3 .mp4
.msgpack .npy .npz .ogg .onnx .ot .parquet .pb .pcm .pickle .pkl .png .pt .pth .rar .raw .safetensors .sam .tar
.tflite .tgz .wasm .wav .webm .webp .xz .zip .zst
"""
LFS_SUFFIXES = tuple(_SUFFIXES.split())
_TRACKED = "filter=lfs diff=lfs merge=lfs -text\n"
FIRST_ATTRIBUTES = "".join(
    f"{pattern} {_TRACKED}"
    for pattern in (*(f"*{suffix}" for suffix in LFS_SUFFIXES), "*tfevents*", "saved_model/**/*")
).encode()
"""The `.gitattributes` of a new repository: the patterns the Hub writes into a new dataset or model."""


@dataclass(frozen=True, kw_only=True)
class UploadRules:
    """A repository's `.gitattributes` and `.gitignore`."""

    attributes: GitAttributes
    ignored: IgnoreFilter

    def is_large(self, path: str, *, size: int, sample: bytes) -> bool:
        """Whether the file goes to the large-file store: by the repository's rules, its suffix, size or first bytes."""
        if size == 0:
            return False
        if size > REGULAR_LIMIT or tracks(self.attributes, path):
            return True
        opted_out = self.attributes.match_path(path.encode()).get(b"filter") is False
        return not opted_out and (PurePosixPath(path).suffix.casefold() in LFS_SUFFIXES or _is_binary(sample))

    def ignores(self, path: str) -> bool:
        """Whether `.gitignore` keeps the file out."""
        return bool(self.ignored.is_ignored(path))


def upload_rules(repository: Repository, commit: Commit, *, gitignore: str | None = None) -> UploadRules:
    """The rules of a repository at a commit; `gitignore` replaces the one it holds."""
    ignore = _content(repository, commit, ".gitignore") if gitignore is None else gitignore.encode()
    return UploadRules(
        attributes=parse_attributes(_content(repository, commit, ".gitattributes")),
        ignored=IgnoreFilter(read_ignore_patterns(BytesIO(ignore))),
    )


def parse_attributes(content: bytes) -> GitAttributes:
    """The content of a `.gitattributes`; lines git could not read are passed over."""
    return GitAttributes(compile_gitattributes_patterns(parse_git_attributes(BytesIO(content))))


def tracks(attributes: GitAttributes, path: str) -> bool:
    """Whether `.gitattributes` sends the file to the large-file store."""
    return attributes.match_path(path.encode()).get(b"filter") == b"lfs"


def attribute_line(path: str) -> bytes:
    """The line that makes git itself treat one file as large; the Hub adds it when no pattern covers the file."""
    escaped = "".join(f"\\{letter}" if letter in "*?[" else letter for letter in path)
    return f"/{escaped.replace(' ', '[[:space:]]')} {_TRACKED}".encode()


def _content(repository: Repository, commit: Commit, path: str) -> bytes:
    try:
        return repository.content(repository.node(commit, path))
    except EntryNotFoundError:
        return b""


def _is_binary(sample: bytes) -> bool:
    """The sample may end in the middle of a character, so a character cut short at its end says nothing."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data" or error.start < len(sample) - 3
    return b"\x00" in sample
