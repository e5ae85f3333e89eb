"""Send raw HTTP requests that no official client would send, and build commit bodies."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from bonsai.hub.server.serve import HubAddress

USERS = {"qeu": "hf_test_qeu", "guest": "hf_test_guest"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


@dataclass(frozen=True, kw_only=True)
class RawClient:
    """Paths and headers go out exactly as given."""

    hub: HubAddress

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = USERS["qeu"],
    ) -> Answer:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        sent |= headers or {}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        address = urlsplit(self.hub.endpoint)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
        try:
            connection.request(method, path, body=content, headers=sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=names, body=response.read())
        finally:
            connection.close()


def commit_body(*entries: object) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def header(summary: str = "change", **more: str) -> dict[str, object]:
    return {"key": "header", "value": {"summary": summary, **more}}


def file(path: str, content: bytes = b"x") -> dict[str, object]:
    encoded = base64.b64encode(content).decode()
    return {"key": "file", "value": {"path": path, "content": encoded, "encoding": "base64"}}
