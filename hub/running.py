"""A Hub for as long as a block of code runs: what publishing, training and the tests use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from bonsai.hub.accounts import DEFAULT_USERS, USERS
from bonsai.hub.errors import ServeError

_START_SECONDS, _STOP_SECONDS = 30.0, 10.0


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """Where a running Hub is, and how to get in."""

    endpoint: str
    """For `HF_ENDPOINT`, or the `endpoint` of `HfApi`."""
    token: str = field(repr=False)
    """Of the first user."""

    def environment(self) -> dict[str, str]:
        """What a child process must have in its environment; the clients read it when they are imported."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }


@contextmanager
def running_hub(root: Path, *, users: Mapping[str, str] | None = None, port: int = 0) -> Iterator[HubAddress]:
    """Starts a Hub over `root` in a process of its own, waits until it answers, and stops it afterwards.

    The server writes its complaints to `root/hub.log`.

    Raises:
        ServeError: if it does not come up; the message says what the server said.
    """
    accounts = users or DEFAULT_USERS
    root.mkdir(parents=True, exist_ok=True)
    told = " ".join(f"{name}:{token}" for name, token in accounts.items())
    log = root / "hub.log"
    command = [sys.executable, "-m", "bonsai.hub.serve", "--root", str(root), "--port", str(port)]
    # The child must find this very package, also where the parent found it by way of pytest or a notebook.
    search_path = os.pathsep.join(entry for entry in sys.path if entry)
    with log.open("ab") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, "PYTHONPATH": search_path, "PYTHONUTF8": "1", USERS: told},
        )
    try:
        yield HubAddress(endpoint=_endpoint(process, log), token=next(iter(accounts.values())))
    finally:
        _stop(process)


def _endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if not line.startswith("HF_ENDPOINT="):
        process.wait(_STOP_SECONDS)
        last_words = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise ServeError(f"the Hub did not start: {last_words[0]}")
    endpoint = line.removeprefix("HF_ENDPOINT=")
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            opener.open(endpoint, timeout=_START_SECONDS).close()
            return endpoint
        except (URLError, ConnectionError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServeError(f"the Hub at {endpoint} does not answer; see {log}") from None
            time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
