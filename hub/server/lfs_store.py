"""Store Git LFS objects by their SHA-256.

Each repository has its own store, in the folder where git-lfs itself looks for it. So knowing a hash never gives access
to another repository's file, and a repository is deleted or renamed together with its objects.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bonsai.hub.errors import BadRequestError

_OID = re.compile(r"[0-9a-f]{64}")
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n")


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """The text that git stores in place of a large file (git-lfs spec v1): version, `oid sha256:…`, `size …`."""

    oid: str
    """SHA-256 of the content, 64 hexadecimal digits."""
    size: int

    def to_bytes(self) -> bytes:
        """Return the pointer as git-lfs writes it, byte for byte."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Pointer | None:
        """Parse a git blob; None if it is an ordinary file."""
        match = _POINTER.fullmatch(content) if len(content) < 200 else None
        return cls(oid=match[1].decode(), size=int(match[2])) if match else None


def check_oid(oid: object) -> str:
    """Return `oid` if it is a SHA-256 in hexadecimal.

    Raises:
        BadRequestError: if not, because it becomes part of a path on disk.
    """
    if not isinstance(oid, str) or not _OID.fullmatch(oid):
        raise BadRequestError(f"oid {oid!r} is not a SHA-256 in 64 lower-case hexadecimal digits")
    return oid


class IncomingObject:
    """An upload in progress: hashed while it is written, and invisible until `keep` has verified it."""

    def __init__(self, folder: Path, target: Path, pointer: Pointer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor, self._draft = tempfile.mkstemp(dir=folder)
        self._target = target
        self._pointer = pointer
        self._hash = hashlib.sha256()
        self._received = 0

    def write(self, chunk: bytes) -> None:
        """Write the next bytes; raise BadRequestError as soon as there are more than were announced."""
        self._received += len(chunk)
        if self._received > self._pointer.size:
            raise BadRequestError(f"more than the announced {self._pointer.size} bytes arrived; nothing was kept")
        self._hash.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def keep(self) -> None:
        """Verify length and hash, sync the object to disk and move it into the store.

        Raises:
            BadRequestError: if length or hash differ from those announced.
        """
        if self._received != self._pointer.size:
            raise BadRequestError(
                f"{self._received} of the announced {self._pointer.size} bytes arrived; send it again"
            )
        if self._hash.hexdigest() != self._pointer.oid:
            raise BadRequestError(
                f"the content has SHA-256 {self._hash.hexdigest()}, not the announced {self._pointer.oid}"
            )
        os.fsync(self._descriptor)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._draft, self._target)

    def close(self) -> None:
        """Discard the object unless it was kept."""
        os.close(self._descriptor)
        with suppress(FileNotFoundError):
            os.unlink(self._draft)


class LfsStore:
    """The objects of one repository."""

    def __init__(self, repository: Path) -> None:
        self._objects = repository / "lfs" / "objects"
        self._incoming = repository / "lfs" / "tmp"

    def path(self, oid: str) -> Path:
        """Return where the object is stored, or would be."""
        return self._objects / oid[:2] / oid[2:4] / oid

    def size(self, oid: str) -> int | None:
        """Return the size of the object in bytes, or None if it is not stored."""
        try:
            return self.path(oid).stat().st_size
        except FileNotFoundError:
            return None

    def receive(self, pointer: Pointer) -> IncomingObject:
        """Start an upload; the caller closes it."""
        return IncomingObject(self._incoming, self.path(pointer.oid), pointer)
