"""A proxy between the real clients and a Hub that breaks one request, or all from one on.

Requests are counted from 0 as they come in. Every answer is read whole from the Hub first, so that what the Hub did and
what the client heard of it can be told apart. Addresses in answers are rewritten, or uploads would go round the proxy.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


class Act(Enum):
    """What happens to a request."""

    ANSWER = auto()
    """an answer of the proxy's own, with `Fault.status`"""
    RESET_BEFORE_BODY = auto()
    RESET_IN_BODY = auto()
    RESET_AFTER_BODY = auto()
    TRUNCATE = auto()
    """half of the answer's body, then the connection closes"""
    SILENCE = auto()
    """no answer, for as long as the client waits"""
    INTRUDE = auto()
    """something else happens first; the request itself goes through"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of harm."""

    name: str
    act: Act
    status: int = 0
    reaches_hub: bool = False
    """the Hub carries the request out, only its answer is lost"""
    lasts: bool = False
    """all later requests too"""
    headers: tuple[tuple[str, str], ...] = ()
    intrusion: Callable[[], None] = field(default=lambda: None, compare=False)


@dataclass(kw_only=True)
class Plan:
    """What the proxy is to do; counts what it saw."""

    upstream: str
    at: int = -1
    """number of the request that is harmed; -1: none"""
    fault: Fault | None = None
    seen: list[str] = field(default_factory=list)
    """method, path without its query, and bytes of each request"""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, fault: Fault | None = None, at: int = -1) -> None:
        """Start counting anew."""
        with self.lock:
            self.fault, self.at, self.seen = fault, at, []

    def next(self, line: str) -> Fault | None:
        """The fault for the request that has just come in."""
        with self.lock:
            number = len(self.seen)
            self.seen.append(line)
            fault = self.fault
        if fault is None or self.at < 0:
            return None
        return fault if number == self.at or (fault.lasts and number > self.at) else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: Plan

    def do_GET(self) -> None:
        fault = self.plan.next(f"{self.command} {urlsplit(self.path).path} {self.headers.get('Content-Length', 0)}")
        act = fault.act if fault else None
        if act is Act.RESET_BEFORE_BODY:
            return self._reset()
        if act is Act.RESET_IN_BODY:
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            return self._reset()
        body = self._body()
        if fault and act is Act.INTRUDE:
            fault.intrusion()
            fault = None
        if fault is None or fault.reaches_hub or act is Act.TRUNCATE:
            response, content = self._forward(body)
            if fault is None or act is Act.TRUNCATE:
                return self._pass_on(response, content, truncated=act is Act.TRUNCATE)
        if act is Act.ANSWER:
            assert fault is not None
            return self._answer(fault)
        if act is Act.SILENCE:
            with contextlib.suppress(OSError):
                self.connection.settimeout(30)
                self.connection.recv(1)  # returns when the client hangs up
        return self._reset()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _forward(self, body: bytes) -> tuple[HTTPResponse, bytes]:
        address = urlsplit(self.plan.upstream)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            connection.request(self.command, self.path, body=body or None, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def _pass_on(self, response: HTTPResponse, content: bytes, *, truncated: bool) -> None:
        here = f"http://{self.headers['Host']}"
        if "json" in response.headers.get("Content-Type", ""):
            content = content.replace(self.plan.upstream.encode(), here.encode())
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value.replace(self.plan.upstream, here))
        announced = response.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", announced)
        self.end_headers()
        if self.command == "HEAD":
            content = b""
        self.wfile.write(content[: len(content) // 2] if truncated else content)
        if truncated:
            self.wfile.flush()
            self.close_connection = True

    def _answer(self, fault: Fault) -> None:
        content = json.dumps({"error": f"the proxy says {fault.status}"}).encode()
        self.send_response_only(fault.status)
        for name, value in (*fault.headers, ("Content-Type", "application/json"), ("Content-Length", len(content))):
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())  # `close` would wait for the handler's two files and send no reset

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: what happens is what the tests look at."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is expected here."""

    def shutdown_request(self, request: object) -> None:
        """A connection that was reset is closed already."""
        with contextlib.suppress(OSError):
            super().shutdown_request(request)  # type: ignore[arg-type]


@contextlib.contextmanager
def faulty_way_to(endpoint: str) -> Iterator[tuple[str, Plan]]:
    """The address of a proxy before the Hub at ``endpoint``, and the plan that tells it what to do."""
    plan = Plan(upstream=endpoint)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"plan": plan}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", plan
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
