"""A desk over a part of the real records, in this process and as a person opens it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from bonsai.builder.desk.app import create_app
from bonsai.builder.desk.desk import Desk
from bonsai.builder.desk.releases import Releases
from bonsai.builder.records import default_records_dir
from bonsai.cli.main import app

BASE = "http://127.0.0.1:8430"
Asked = Callable[..., Any]


def copy_part(folder: Path, groups: int) -> Path:
    """Copy the first groups of each category."""
    folder.mkdir(parents=True)
    for path in default_records_dir().glob("*.jsonl"):
        (folder / path.name).write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:groups]))
    return folder


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return copy_part(tmp_path / "somewhere" / "records", 8)


@pytest.fixture
def desk(records: Path, tmp_path: Path) -> Desk:
    return Desk(records, tmp_path / "drafts")


@pytest.fixture
def page(desk: Desk, tmp_path: Path) -> TestClient:
    desk_app = create_app(desk, Releases(tmp_path / "hub", "qeu/bonsai"), reader="Sato")
    return TestClient(desk_app, base_url=BASE, raise_server_exceptions=False)


@pytest.fixture
def ask(page: TestClient) -> Asked:
    """Ask as the page's script does; ``status`` is what is expected."""
    token = re.search(r'"token":"([^"]+)"', page.get("/").text)
    assert token is not None

    def ask(path: str, *, status: int = 200, **body: Any) -> Any:
        answer = page.post(f"/api/{path}", json=body, headers={"X-Desk-Token": token[1], "Origin": BASE})
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def check_everything(desk: Desk) -> None:
    """Start the checks beside the desk, and wait for them."""
    desk.start()
    until(lambda: desk.state()["ready"])


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for a condition."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def served(desk: Desk, tmp_path: Path) -> Iterator[str]:
    """The desk at an address of this machine."""
    desk_app = create_app(desk, Releases(tmp_path / "hub", "qeu/bonsai"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(desk_app, log_level="warning", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(30)


def run_tend(*arguments: str | Path) -> Result:
    """Run `bonsai tend` as far as it needs no browser."""
    return CliRunner().invoke(app, ["tend", *map(str, arguments)])
