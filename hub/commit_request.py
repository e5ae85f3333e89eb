"""The body of a commit: one JSON object a line, a header and then the operations, never all of them in memory.

The format is huggingface_hub's `_prepare_commit_payload`; `copyFile` is known from the Hub's own web client.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from bonsai.hub.errors import BadRequestError, TooLargeError
from bonsai.hub.names import check_path
from bonsai.hub.objects import check_oid
from bonsai.hub.upload_mode import REGULAR_LIMIT

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
