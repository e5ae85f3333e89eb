"""Parse a commit request, stage its files, and commit them by compare-and-swap.

A request is one JSON object per line, a header and then operations (`_prepare_commit_payload` of huggingface_hub;
`copyFile` comes from the Hub's web client):

    {"key": "header", "value": {"summary": "Add records", "parentCommit": "0123456789"}}
    {"key": "file", "value": {"path": "a.txt", "content": "eA==", "encoding": "base64"}}
    {"key": "lfsFile", "value": {"path": "b.bin", "algo": "sha256", "oid": "…64 digits…", "size": 5000}}
    {"key": "deletedFile", "value": {"path": "c.txt"}}

A failure before the swap leaves the branch as it was; the objects already written are unreferenced and harmless. The
caller holds the repository's lock (`Storage.writing`), so of two commits without `parentCommit` the later one is made
on top of the earlier one and neither is lost.
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
from dulwich.objects import Blob, Commit, ObjectID
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
"""Bytes of one line: base64 makes four bytes of three."""
FILE_MODE = 0o100644
# Blobs are written once they are this many or this large. Up to 16 are written one by one; more go into one pack, which
# costs one fsync instead of thousands.
_BATCH_BYTES, _BATCH_OBJECTS, _LOOSE_OBJECTS = 32_000_000, 2_000, 16
_STALE = "The branch was updated since you opened this page. Please refresh and try again."
"""The Hub's own text, which some clients look for."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Message and parent of a commit."""

    summary: str
    description: str = ""
    parent: str | None = None
    """The commit that the client has seen; the branch must still be there."""


@dataclass(frozen=True, kw_only=True)
class AddFile:
    """A file small enough for git."""

    path: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class AddLargeFile:
    """A file whose content was uploaded before as an LFS object."""

    path: str
    oid: str
    size: int | None
    """None if the client knows only the hash, as for a copy."""


@dataclass(frozen=True, kw_only=True)
class Delete:
    """A file or a whole folder to be removed."""

    path: str
    is_folder: bool


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A file to be copied from a revision, by default the parent."""

    source: str
    revision: str | None
    path: str


Operation = AddFile | AddLargeFile | Delete | Copy


def read_commit(lines: IO[bytes]) -> tuple[Header, Iterator[Operation]]:
    """Parse a commit request into its header and an iterator of operations.

    Raises:
        BadRequestError: naming the invalid line; the iterator raises it too.
    """

    # 1. Each line is a JSON object with a key and a value; blank lines are skipped.
    def numbered_lines() -> Iterator[tuple[int, str, dict[str, Any]]]:
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
            if not (isinstance(entry, dict) and isinstance(entry.get("key"), str)) or not isinstance(
                entry.get("value"), dict
            ):
                raise BadRequestError(f'line {number} of the commit must be {{"key": …, "value": {{…}}}}')
            yield number, entry["key"], entry["value"]

    # 2. The first is the header.
    entries = numbered_lines()
    number, key, value = next(entries, (0, "", {}))
    if not number:
        raise BadRequestError("the commit is empty; send a header and at least one operation, one JSON object a line")
    if key != "header":
        raise BadRequestError(f"line {number} of the commit is '{key}'; the first line must be the header")
    summary, description, parent = value.get("summary"), value.get("description") or "", value.get("parentCommit")
    if not isinstance(summary, str) or not summary.strip():
        raise BadRequestError("the header of the commit needs a 'summary'")
    if not isinstance(description, str) or not isinstance(parent, str | None):
        raise BadRequestError("'description' and 'parentCommit' in the header of the commit must be texts")
    if parent is not None and not _COMMIT_ID.fullmatch(parent):
        raise BadRequestError(f"'parentCommit' {parent!r} is not a commit id")
    header = Header(summary=summary, description=description, parent=parent)

    # 3. The rest are operations, parsed one at a time: a commit may be larger than memory.
    return header, (_operation(number, key, value) for number, key, value in entries)


def _operation(number: int, key: str, value: dict[str, Any]) -> Operation:
    path = value.get("path")
    match key:
        case "file":
            path = check_path(path)
            content, encoding = value.get("content"), value.get("encoding", "utf-8")
            if not isinstance(content, str) or encoding not in ("base64", "utf-8"):
                raise BadRequestError(f"line {number} of the commit needs 'content' in base64 or utf-8")
            try:
                data = base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
            except (binascii.Error, ValueError):
                raise BadRequestError(f"line {number} of the commit: 'content' is not {encoding}") from None
            if len(data) > REGULAR_LIMIT:
                raise TooLargeError(f"{path!r} has {len(data)} bytes; above {REGULAR_LIMIT} it must be uploaded as LFS")
            return AddFile(path=path, content=data)
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


class StagingArea:
    """The files of a commit in the making: those of its parent, changed by `apply` and written by `tree`."""

    def __init__(self, repository: Repository, parent: Commit, kind: RepoKind) -> None:
        self._repository = repository
        self._parent = parent
        self._kind = kind
        self._large: list[str] = []
        self._batch: dict[ObjectID, Blob] = {}
        self._batch_bytes = 0
        self._files = {
            entry.path.decode(errors="replace"): (entry.mode, entry.sha)
            for entry in repository.git.object_store.iter_tree_contents(parent.tree)
        }

    def apply(self, operation: Operation) -> None:
        """Apply one operation to the result of the earlier ones.

        Raises:
            BadRequestError: if the content is not accepted.
            EntryNotFoundError: if there is nothing to delete or copy.
        """
        match operation:
            case AddFile(path=path, content=content):
                # 1. A pointer sent as text must point to an uploaded object, and a card must be valid.
                if pointer := Pointer.from_bytes(content):
                    self._uploaded(AddLargeFile(path=path, oid=pointer.oid, size=pointer.size))
                if path == "README.md" and (errors := check_card(content.decode(errors="replace"), self._kind).errors):
                    raise BadRequestError("Invalid metadata in README.md: " + "; ".join(errors))
                self._files[path] = (FILE_MODE, self._add(content))
            case AddLargeFile(path=path):
                # 2. Of a large file git stores only the pointer.
                self._files[path] = (FILE_MODE, self._add(self._uploaded(operation).to_bytes()))
                self._large.append(path)
            case Copy(source=source, revision=revision, path=path):
                # 3. A copy shares the blob of its source.
                commit = self._repository.commit(revision) if revision else self._parent
                node = self._repository.node(commit, source)
                if node.is_folder:
                    raise BadRequestError(f"{source!r} is a folder; copy its files one by one")
                self._files[path] = (FILE_MODE, ObjectID(node.oid.encode()))
                if self._repository.facts(node).pointer:
                    self._large.append(path)
            case Delete(path=path, is_folder=is_folder):
                # 4. The Hub's clients delete a folder by either operation.
                if not is_folder and path in self._files:
                    del self._files[path]
                    return
                inside = [name for name in self._files if name.startswith(f"{path}/")]
                if not inside:
                    kind = "folder" if is_folder else "file"
                    raise EntryNotFoundError(f"A {kind} with this name doesn't exist: {path}")
                for name in inside:
                    del self._files[name]

    def tree(self) -> ObjectID:
        """Write the staged files; return the id of their tree.

        Raises:
            BadRequestError: if the path of a file is also the folder of another.
        """
        # 1. Add large files that no pattern of .gitattributes covers, as the Hub does, so that git itself handles them.
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
        self._flush()

        # 2. Git cannot store a file and a folder of the same name.
        for path in self._files:
            folder = path
            while "/" in folder:
                folder = folder.rpartition("/")[0]
                if folder in self._files:
                    raise BadRequestError(f"{path!r} cannot be added: {folder!r} is a file")

        # 3. Write the trees.
        entries = [(path.encode(), oid, mode) for path, (mode, oid) in self._files.items()]
        return commit_tree(self._repository.git.object_store, entries)

    def _uploaded(self, operation: AddLargeFile) -> Pointer:
        """Return the pointer of a large file; raise BadRequestError unless its object was uploaded."""
        size = self._repository.lfs.size(operation.oid)
        if size is None or operation.size not in (None, size):
            raise BadRequestError(
                f"{operation.path!r} points to the LFS object {operation.oid}, which was not uploaded"
            )
        return Pointer(oid=operation.oid, size=size)

    def _add(self, content: bytes) -> ObjectID:
        blob = Blob.from_string(content)
        self._batch[blob.id] = blob
        self._batch_bytes += len(content)
        if self._batch_bytes > _BATCH_BYTES or len(self._batch) >= _BATCH_OBJECTS:
            self._flush()
        return blob.id

    def _flush(self) -> None:
        if len(self._batch) <= _LOOSE_OBJECTS:
            for blob in self._batch.values():
                self._repository.git.object_store.add_object(blob)
        else:
            self._repository.git.object_store.add_objects([(blob, None) for blob in self._batch.values()])
        self._batch.clear()
        self._batch_bytes = 0


def write_commit(repository: Repository, lines: IO[bytes], *, branch: str, author: str, kind: RepoKind) -> Commit:
    """Parse a commit request, write its commit, and move the branch to it.

    Raises:
        RevisionNotFoundError: if there is no such branch.
        StaleParentError: if the client has not seen the branch's newest commit.
        BadRequestError: if any part of the request is invalid; nothing is committed then.
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
    """Return the head of a branch; raise RevisionNotFoundError for a tag or commit id, which cannot be written to."""
    ref = branch_ref(branch)
    if repository.git.refs.read_ref(ref) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {ref.decode()}")
    return repository.commit(ref.decode())


def make_commit(git: Repo, tree: ObjectID, header: Header, *, author: str, parent: Commit | None) -> Commit:
    """Write a commit object, to which no branch points yet."""
    commit = Commit()
    commit.tree = tree
    commit.parents = [parent.id] if parent else []
    commit.author = commit.committer = f"{author} <{author}@users.noreply.localhost>".encode()
    # Never before its parent, even if the clock was set back: listings sort by this time.
    commit.author_time = commit.commit_time = max(int(time.time()), parent.commit_time if parent else 0)
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    title = " ".join(header.summary.splitlines())
    commit.message = (f"{title}\n\n{header.description}" if header.description else title).encode(errors="replace")
    git.object_store.add_object(commit)
    return commit


def swap(repository: Repository, ref: Ref, expected: Commit, commit: Commit) -> None:
    """Move a branch from `expected` to `commit`; raise StaleParentError if it is no longer there."""
    if not repository.git.refs.set_if_equals(ref, expected.id, commit.id):
        raise StaleParentError(_STALE)


def first_commit(git: Repo, author: str) -> ObjectID:
    """Write the first commit of every repository, which holds a `.gitattributes`."""
    attributes = Blob.from_string(FIRST_ATTRIBUTES)
    git.object_store.add_object(attributes)
    tree = commit_tree(git.object_store, [(b".gitattributes", attributes.id, FILE_MODE)])
    return make_commit(git, tree, Header(summary="initial commit"), author=author, parent=None).id
