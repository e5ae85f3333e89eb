"""Answer range requests and paginated listings.

For a file of 10 bytes, `Range: bytes=2-4` means the bytes [2, 5), `bytes=-3` the last three, and `bytes=12-` is 416.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from bonsai.hub.errors import BadRequestError

CHUNK = 1 << 20
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Body:
    """The content of a file: bytes in memory, or a file on disk that is opened while it is sent."""

    size: int
    source: bytes | Path


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Parse a `Range` header into its first byte and end (exclusive).

    Returns:
        None for the whole file: without a header, and for ranges that a server may ignore (RFC 9110, 14.2). Two equal
        numbers for a range that cannot be satisfied.
    """
    match = _RANGE.fullmatch(header) if header else None
    if not match or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        return (size - length, size) if length else (size, size)
    start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    if match[2] and end <= start:
        return None
    return (start, min(end, size)) if start < size else (size, size)


def send(request: Request, body: Body, headers: Mapping[str, str]) -> Response:
    """Return the response to a GET or HEAD: 200, 206, 304 or 416."""
    etag = headers.get("ETag", "")
    if etag and etag in {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers=dict(headers))
    if_range = request.headers.get("if-range")
    part = wanted_range(request.headers.get("range"), body.size) if if_range in (None, etag) else None
    start, end = part or (0, body.size)
    common = {**headers, "Accept-Ranges": "bytes"}
    if part and start == end:
        return Response(status_code=416, headers={**common, "Content-Range": f"bytes */{body.size}"})
    common["Content-Length"] = str(end - start)
    if part:
        common["Content-Range"] = f"bytes {start}-{end - 1}/{body.size}"
    status = 206 if part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=common)
    if isinstance(body.source, bytes):
        return Response(body.source[start:end], status_code=status, headers=common)
    return StreamingResponse(_chunks(body.source, start, end), status_code=status, headers=common)


async def _chunks(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(start)
        while start < end:
            chunk = await file.read(min(CHUNK, end - start))
            if not chunk:
                raise EOFError(f"{path} is shorter than it was")
            start += len(chunk)
            yield chunk


def page_of(items: Iterable[_Item], *, start: int, size: int) -> tuple[list[_Item], bool]:
    """Return the items of a page, and whether more follow."""
    found = list(islice(items, start, start + size + 1))
    return found[:size], len(found) > size


def number_parameter(request: Request, name: str, default: int, *, largest: int = 2**53) -> int:
    """Return a query parameter, at most `largest`; raise BadRequestError unless it is a whole number."""
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 18:
        raise BadRequestError(f"'{name}' must be a whole number, not {text!r}")
    return min(int(text), largest)


def flag_parameter(request: Request, name: str) -> bool:
    """Whether a boolean query parameter is set to a true value."""
    return request.query_params.get(name, "").casefold() in ("1", "true", "yes")


def page_response(request: Request, items: Iterable[Any], *, cursor: str | None) -> JSONResponse:
    """Return a page as JSON with a `Link` to the next one; a `cursor` of None marks the last page."""
    headers = {}
    if cursor is not None:
        parameters = [(key, value) for key, value in parse_qsl(request.url.query) if key != "cursor"]
        url = request.url.replace(query=urlencode([*parameters, ("cursor", cursor)]))
        headers["Link"] = f'<{url}>; rel="next"'
    return JSONResponse(list(items), headers=headers)
