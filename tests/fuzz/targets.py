"""What bytes from strangers may meet, each as a function of bytes: a refusal is a sentence, anything else an error.

hypothesis feeds them in test_bad_input.py, atheris in benchmarks/fuzz.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.import_file import import_file
from bonsai.builder.records import read_groups
from bonsai.dataset_card.card import blockquote, fenced, inline
from bonsai.hub.errors import RefusedError
from bonsai.hub.server.app import create_app
from bonsai.hub.server.card_validation import check_card
from bonsai.hub.server.commits import read_commit
from bonsai.hub.server.names import RepoKind
from bonsai.hub.server.responses import wanted_range
from bonsai.model_card.card import render
from bonsai.model_card.linter import lint_card
from tests.model_card.facts import FULL

Target = Callable[[bytes], None]
_AT_HOME = {"host": "127.0.0.1:8420", "authorization": "Bearer local-qeu"}


def records(data: bytes) -> None:
    """A file of records, as a maintainer's editor may leave it."""
    (_folder() / "records").mkdir(exist_ok=True)
    (_folder() / "records" / "open_qa.jsonl").write_bytes(data)
    try:
        read_groups(_folder() / "records")
    except RecordError as error:
        _sentence(str(error))


def imported(suffix: str, data: bytes) -> None:
    """A file to import: read, understood and paired, not written."""
    path = _folder() / f"rows{suffix}"
    path.write_bytes(data)
    try:
        import_file(path, _folder() / "none", source="s", license="MIT", records=_nothing(), dry_run=True)
    except RecordError as error:
        _sentence(str(error))


def card(data: bytes) -> None:
    """Text of a record or an answer on both cards: it stays inside its block, and the metadata stays as it was."""
    text = data.decode("utf-8", errors="replace")
    evaluation = FULL.evaluation
    assert evaluation is not None
    probe = evaluation.probes[0]._replace(question=text, before=text, after=text)
    facts = dataclasses.replace(
        FULL, samples=(text, "after"), evaluation=dataclasses.replace(evaluation, probes=(probe,))
    )
    made = render(facts)
    assert yaml.safe_load(made.split("\n---\n")[0]) == _metadata()
    lint_card(made, facts)
    for shown in (fenced(text), blockquote(text), inline(text)):
        assert isinstance(shown, str)


def readme(data: bytes) -> None:
    """A card that a client sends to the Hub."""
    for kind in RepoKind:
        try:
            check_card(data.decode("utf-8", errors="replace"), kind)
        except RefusedError as error:
            _sentence(error.message)


def commit(data: bytes) -> None:
    """The body of a commit, with the numbers of a range in front."""
    first, _, body = data.partition(b"\n")
    part = wanted_range(first.decode("latin-1"), 1000)
    assert part is None or 0 <= part[0] <= part[1] <= 1000
    try:
        for _ in read_commit(io.BytesIO(body))[1]:
            pass
    except RefusedError as error:
        _sentence(error.message)


def request(data: bytes) -> None:
    """A whole request: method and address, headers, an empty line, a body."""
    head, _, body = data.partition(b"\n\n")
    first, *rest = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = {**_AT_HOME, **dict(_header(line) for line in rest if b":" in line)}
    status = asyncio.run(
        _asked(method.decode("latin-1").upper() or "GET", b"/" + path.lstrip(b"/"), query, headers, body)
    )
    assert status < 500, status


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "records": records,
        **{f"import{suffix}": partial(imported, suffix) for suffix in (".csv", ".json", ".jsonl", ".xlsx", ".parquet")},
        "card": card,
        "readme": readme,
        "commit": commit,
        "request": request,
    }
)


def _sentence(told: str) -> None:
    assert told.strip()
    assert "Traceback" not in told


@cache
def _folder() -> Path:
    """One a process, in memory where there is such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix=f"fuzz-{os.getpid()}-", dir=memory if memory.is_dir() else None))


@cache
def _nothing() -> Path:
    empty = _folder() / "empty"
    empty.mkdir()
    return empty


@cache
def _metadata() -> Any:
    return yaml.safe_load(render(FULL).split("\n---\n")[0])


@cache
def _app() -> Any:
    return create_app(_folder() / "hub", {"qeu": "local-qeu"})


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.decode("latin-1").strip().lower(), value.decode("latin-1").strip()


async def _asked(method: str, path: bytes, query: bytes, headers: Mapping[str, str], body: bytes) -> int:
    """The status of the answer; the application sees what a server would hand it."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8420),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await _app()(scope, receive, send)
    return int(sent[0]["status"])
