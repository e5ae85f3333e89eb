"""Parse a commit request, stage its files, and commit them by compare-and-swap.

The format is huggingface_hub's `_prepare_commit_payload`; `copyFile` is known from the Hub's own web client.

Whatever stops the writer before the swap leaves the branch as it was; the objects already written belong to nobody and
do no harm. The caller holds the repository's lock (`Storage.writing`), so of two commits without `parentCommit` the
later one is built on the earlier one and neither is lost.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit, ObjectID, ShaFile
from dulwich.refs import Ref
from dulwich.repo import Repo

from bonsai.hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    RevisionNotFoundError,
    StaleParentError,
    TooLargeError,
)
from bonsai.hub.server.card_validation import check_card
from bonsai.hub.server.git import FIRST_ATTRIBUTES, REGULAR_LIMIT, Repository, attribute_line, parse_attributes, tracks
from bonsai.hub.server.lfs_store import Pointer, check_oid
from bonsai.hub.server.names import RepoKind, branch_ref, check_path

_COMMIT_ID = re.compile(r"[0-9a-f]{7,40}")
LINE_LIMIT = 2 * REGULAR_LIMIT
"""Bytes of one line: base64 makes four of three."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the commit is called and where it is to stand."""

    summary: str
    description: str = ""
    parent: str | None = None
    """Which commit the client has seen; the branch must still be there."""


@dataclass(frozen=True, kw_only=True)
class AddFile:
    """A file small enough for git."""

    path: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class AddLargeFile:
    """A file whose content was uploaded before, as an LFS object."""

    path: str
    oid: str
    size: int | None
    """None in a copy: the client knows only the hash then."""


@dataclass(frozen=True, kw_only=True)
class Delete:
    """A file or a whole folder to be removed."""

    path: str
    is_folder: bool


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A file to be had twice."""

    source: str
    revision: str | None
    path: str


Operation = AddFile | AddLargeFile | Delete | Copy


def read_commit(lines: IO[bytes]) -> tuple[Header, Iterator[Operation]]:
    """The header, and the operations one after the other.

    Raises:
        BadRequestError: naming the line that cannot be understood; the operations raise it while they are read.
    """
    numbered = _numbered_lines(lines)
    for number, key, value in numbered:
        if key != "header":
            raise BadRequestError(f"line {number} of the commit is '{key}'; the first line must be the header")
        return _header(value), (_operation(number, key, value) for number, key, value in numbered)
    raise BadRequestError("the commit is empty; send a header and at least one operation, one JSON object a line")


def _numbered_lines(lines: IO[bytes]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    number = 0
    while line := lines.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise TooLargeError(
                f"line {number} of the commit is longer than {LINE_LIMIT} bytes; upload the file as LFS"
            )
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise BadRequestError(f"line {number} of the commit is not JSON") from None
        if not (isinstance(entry, dict) and isinstance(entry.get("key"), str) and isinstance(entry.get("value"), dict)):
            raise BadRequestError(f'line {number} of the commit must be {{"key": …, "value": {{…}}}}')
        yield number, entry["key"], entry["value"]


def _header(value: dict[str, Any]) -> Header:
    summary, description, parent = value.get("summary"), value.get("description") or "", value.get("parentCommit")
    if not isinstance(summary, str) or not summary.strip():
        raise BadRequestError("the header of the commit needs a 'summary'")
    if not isinstance(description, str) or not isinstance(parent, str | None):
        raise BadRequestError("'description' and 'parentCommit' in the header of the commit must be texts")
    if parent is not None and not _COMMIT_ID.fullmatch(parent):
        raise BadRequestError(f"'parentCommit' {parent!r} is not a commit id")
    return Header(summary=summary, description=description, parent=parent)


def _operation(number: int, key: str, value: dict[str, Any]) -> Operation:
    path = value.get("path")
    match key:
        case "file":
            return AddFile(path=check_path(path), content=_content(number, value))
        case "lfsFile":
            size = value.get("size")
            if value.get("algo", "sha256") != "sha256" or not isinstance(size, int | None):
                raise BadRequestError(f"line {number} of the commit: 'algo' must be sha256 and 'size' a number")
            return AddLargeFile(path=check_path(path), oid=check_oid(value.get("oid")), size=size)
        case "deletedFile":
            return Delete(path=check_path(path), is_folder=False)
        case "deletedFolder":
            return Delete(path=check_path(path.rstrip("/") if isinstance(path, str) else path), is_folder=True)
        case "copyFile":
            revision = value.get("srcRevision")
            if not isinstance(revision, str | None):
                raise BadRequestError(f"line {number} of the commit: 'srcRevision' must be a text")
            return Copy(source=check_path(value.get("srcPath")), revision=revision, path=check_path(path))
    raise BadRequestError(f"line {number} of the commit: the operation '{key}' is unknown")


def _content(number: int, value: dict[str, Any]) -> bytes:
    content, encoding = value.get("content"), value.get("encoding", "utf-8")
    if not isinstance(content, str) or encoding not in ("base64", "utf-8"):
        raise BadRequestError(f"line {number} of the commit needs 'content' in base64 or utf-8")
    try:
        data = base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
    except (binascii.Error, ValueError):
        raise BadRequestError(f"line {number} of the commit: 'content' is not {encoding}") from None
    if len(data) > REGULAR_LIMIT:
        raise TooLargeError(
            f"{value.get('path')!r} has {len(data)} bytes; above {REGULAR_LIMIT} it must be uploaded as LFS"
        )
    return data


FILE_MODE = 0o100644
_BATCH_BYTES, _BATCH_OBJECTS, _LOOSE_OBJECTS = 32_000_000, 2_000, 16


class StagingArea:
    """Starts as the files of the parent commit; `apply` changes them, `tree` writes them."""

    def __init__(self, repository: Repository, parent: Commit, kind: RepoKind) -> None:
        self._repository = repository
        self._parent = parent
        self._kind = kind
        self._large: list[str] = []
        self._batch: list[tuple[ShaFile, None]] = []
        self._batch_bytes = 0
        self._files = {
            entry.path.decode(errors="replace"): (entry.mode, entry.sha)
            for entry in repository.git.object_store.iter_tree_contents(parent.tree)
        }

    def apply(self, operation: Operation) -> None:
        """Carries out one operation; later ones see its result.

        Raises:
            BadRequestError: if the content cannot be taken.
            EntryNotFoundError: if there is nothing to delete or copy.
        """
        match operation:
            case AddFile(path=path, content=content):
                self._check_content(path, content)
                self._files[path] = (FILE_MODE, self._add(content))
            case AddLargeFile(path=path):
                self._files[path] = (FILE_MODE, self._add(self._pointer(operation).to_bytes()))
                self._large.append(path)
            case Copy(source=source, revision=revision, path=path):
                commit = self._repository.commit(revision) if revision else self._parent
                node = self._repository.node(commit, source)
                if node.is_folder:
                    raise BadRequestError(f"{source!r} is a folder; copy its files one by one")
                self._files[path] = (FILE_MODE, ObjectID(node.oid.encode()))
                if self._repository.facts(node).pointer:
                    self._large.append(path)
            case Delete(path=path, is_folder=is_folder):
                if not is_folder and path in self._files:
                    del self._files[path]
                    return
                inside = [name for name in self._files if name.startswith(f"{path}/")]
                if not inside:
                    what = "folder" if is_folder else "file"
                    raise EntryNotFoundError(f"A {what} with this name doesn't exist: {path}")
                for name in inside:
                    del self._files[name]

    def tree(self) -> ObjectID:
        """Writes what is staged and returns the id of its tree.

        Raises:
            BadRequestError: if a file stands where another one needs a folder.
        """
        self._track_large_files()
        self._flush()
        for path in self._files:
            folder = path
            while "/" in folder:
                folder = folder.rpartition("/")[0]
                if folder in self._files:
                    raise BadRequestError(f"{path!r} cannot be added: {folder!r} is a file")
        entries = [(path.encode(), oid, mode) for path, (mode, oid) in self._files.items()]
        return commit_tree(self._repository.git.object_store, entries)

    def _check_content(self, path: str, content: bytes) -> None:
        pointer = Pointer.from_bytes(content)
        if pointer:
            self._pointer(AddLargeFile(path=path, oid=pointer.oid, size=pointer.size))
        if path == "README.md" and (errors := check_card(content.decode(errors="replace"), self._kind).errors):
            raise BadRequestError("Invalid metadata in README.md: " + "; ".join(errors))

    def _pointer(self, operation: AddLargeFile) -> Pointer:
        size = self._repository.lfs.size(operation.oid)
        if size is None or operation.size not in (None, size):
            raise BadRequestError(
                f"{operation.path!r} points to the LFS object {operation.oid}, which was not uploaded"
            )
        return Pointer(oid=operation.oid, size=size)

    def _track_large_files(self) -> None:
        content = b""
        if ".gitattributes" in self._files:
            self._flush()
            blob = self._repository.git[self._files[".gitattributes"][1]]
            content = blob.data if isinstance(blob, Blob) else b""
        attributes = parse_attributes(content)
        missing = [path for path in self._large if path in self._files and not tracks(attributes, path)]
        if missing:
            lines = b"".join(attribute_line(path) for path in dict.fromkeys(missing))
            separator = b"" if not content or content.endswith(b"\n") else b"\n"
            self._files[".gitattributes"] = (FILE_MODE, self._add(content + separator + lines))

    def _add(self, content: bytes) -> ObjectID:
        blob = Blob.from_string(content)
        self._batch.append((blob, None))
        self._batch_bytes += len(content)
        if self._batch_bytes > _BATCH_BYTES or len(self._batch) >= _BATCH_OBJECTS:
            self._flush()
        return blob.id

    def _flush(self) -> None:
        """Few objects are written one by one; many as one pack, which is one fsync instead of thousands."""
        if len(self._batch) <= _LOOSE_OBJECTS:
            for blob, _ in self._batch:
                self._repository.git.object_store.add_object(blob)
        else:
            self._repository.git.object_store.add_objects(
                list({blob.id: (blob, None) for blob, _ in self._batch}.values())
            )
        self._batch.clear()
        self._batch_bytes = 0


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
    stage = StagingArea(repository, head, kind)
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
