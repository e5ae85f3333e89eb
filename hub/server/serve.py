"""Serve the local Hub until Ctrl-C: the repositories below --root, for this machine only.

A user's token is local-NAME, unless the environment gives a secret one: BONSAI_HUB_USERS="NAME:TOKEN NAME:TOKEN".
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from bonsai.hub.errors import HubError, ServeError
from bonsai.hub.server.accounts import DEFAULT_USERS, USERS, default_token, parse_users

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DEFAULT_PORT = 8888
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_START_SECONDS, _STOP_SECONDS = 30.0, 10.0
_HINT = """\
Set these before Python starts / Python を起動する前に設定してください:
  export HF_ENDPOINT={endpoint}
  export HF_TOKEN={token}
  export HF_HUB_DISABLE_XET=1
Stop with Ctrl-C; the repositories stay in {root} / Ctrl-C で停止します。リポジトリは {root} に残ります。
"""


def is_loopback(host: str | None) -> bool:
    """Whether a URL's host is this machine itself."""
    return host is not None and (host in LOOPBACK or host.startswith("127."))


def direct_loopback(environment: Mapping[str, str], *hosts: str) -> dict[str, str]:
    """Return the variables that let every client reach this machine without a proxy, added to those already set.

    Args:
        environment: its NO_PROXY may name other hosts, which stay exempt.
        hosts: more names of this machine.
    """
    exempt = ",".join(environment.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    exempt = ",".join(dict.fromkeys([*filter(None, re.split(r"[,\s]+", exempt)), *LOOPBACK, *hosts]))
    return {"NO_PROXY": exempt, "no_proxy": exempt}


def unusable_proxies(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that name a proxy which httpx cannot use.

    It reads all of them when a client is made, and fails even if that client talks to this machine only.
    """

    def is_usable(proxy: str) -> bool:
        try:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            usable = not proxy or bool(parts.hostname and (parts.port is None or parts.port))
        except ValueError:
            return False
        if parts.scheme in ("socks5", "socks5h"):
            return importlib.util.find_spec("socksio") is not None
        return usable and parts.scheme in ("http", "https")

    return [name for name, value in environment.items() if name.lower() in _PROXIES and not is_usable(value.strip())]


def on_this_machine(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a client that talks to this machine alone: no proxy in its way, and never offline."""
    return {
        **direct_loopback(environment),
        **dict.fromkeys(unusable_proxies(environment), ""),
        **{name: "0" for name in _OFFLINE if environment.get(name)},
    }


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """The address of a running Hub, and a token for it."""

    endpoint: str
    """For `HF_ENDPOINT`, or the `endpoint` of `HfApi`."""
    token: str = field(repr=False)
    """Of the first user."""

    def environment(self) -> dict[str, str]:
        """Return the variables that a child process needs; the clients read them when they are imported."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            **on_this_machine(os.environ),
        }


@contextmanager
def run_hub(root: Path, *, users: Mapping[str, str] | None = None, port: int = 0) -> Iterator[HubAddress]:
    """Run a Hub over `root` in a process of its own; yield when it answers, and stop it afterwards.

    The server writes its log to `root/hub.log`.

    Raises:
        ServeError: if it does not come up, with the last line of the log.
    """
    accounts = users or DEFAULT_USERS
    root.mkdir(parents=True, exist_ok=True)
    log = root / "hub.log"

    # 1. Start it. The child must find this very package, also where pytest or a notebook put it on the path.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": "utf-8",
        USERS: " ".join(f"{name}:{token}" for name, token in accounts.items()),
    }
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "bonsai.hub.server.serve", "--root", str(root), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
        )
    assert process.stdout is not None
    try:
        # 2. Read the address, which it prints once it listens.
        line = process.stdout.readline().decode(errors="replace").strip()
        if not line.startswith("HF_ENDPOINT="):
            process.wait(_STOP_SECONDS)
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ServeError(f"the Hub did not start: {lines[-1] if lines else 'it printed nothing'}")
        endpoint = line.removeprefix("HF_ENDPOINT=")

        # 3. Wait for the first answer.
        opener = build_opener(ProxyHandler({}))
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                opener.open(endpoint, timeout=_START_SECONDS).close()
                break
            except (URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ServeError(f"the Hub at {endpoint} does not answer; see {log}") from None
                time.sleep(0.02)
        yield HubAddress(endpoint=endpoint, token=next(iter(accounts.values())))
    finally:
        # 4. Stop it, by force if it does not end by itself.
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            process.stdout.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bonsai.hub.server.serve", description=__doc__)
    parser.add_argument(
        "--root", type=Path, default=Path("out/hub"), metavar="DIR", help="where the repositories are kept"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="127.0.0.1 (default), localhost or ::1; nothing else is served"
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, metavar="N", help="0 picks a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="NAME",
        help="a user with the token local-NAME; repeat it for several (default: qeu). Secret tokens: see above",
    )
    arguments = parser.parse_args(argv)
    try:
        if any(":" in name for name in arguments.user):
            raise ServeError(f"--user takes a name alone; a token goes into the environment variable {USERS}")
        # `pop`, so that no child process inherits the secret tokens.
        secret = parse_users(os.environ.pop(USERS, ""))
        users = {name: default_token(name) for name in arguments.user} | dict(secret)
        return serve(arguments.root, host=arguments.host, port=arguments.port, users=users or DEFAULT_USERS)
    except HubError as error:
        sys.stderr.write(f"hub: {error}\n")
        return 2


def serve(root: Path, *, host: str, port: int, users: Mapping[str, str]) -> int:
    """Serve until the process is told to stop; return the exit status.

    Raises:
        ServeError: if the address is not this machine's own or is taken, or `root` cannot be written.
    """
    from bonsai.hub.server.app import create_app  # here, because `run_hub` does not need it

    try:
        app = create_app(root.absolute(), users)
    except OSError as error:
        raise ServeError(f"the repositories cannot be kept in {root}: {error.strerror}") from error
    with listen(host, port) as listener:
        # 1. Print the address first: `run_hub` reads it from the first line. A secret token is not shown.
        endpoint = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        name, token = next(iter(users.items()))
        shown = token if token == default_token(name) else f"<the token of {name}>"
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may have no Japanese letters
        hint = _HINT.format(endpoint=endpoint, token=shown, root=root)
        sys.stdout.write(f"HF_ENDPOINT={endpoint}\n{hint}")
        sys.stdout.flush()

        return serve_app(app, listener)


def serve_app(app: ASGIApp, listener: socket.socket) -> int:
    """Serve an application on an open socket until the process is told to stop; return the exit status."""
    import uvicorn

    # uvicorn stops in order and then raises the signal again for its caller; for us that is the end, not an error
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=3,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Open a socket on this machine only.

    Raises:
        ServeError: the host is not this machine, or the port is taken or none.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or host not in LOOPBACK:
        raise ServeError(f"'{host}' is refused: this server is for this machine only; use 127.0.0.1, localhost or ::1")
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OverflowError:
        raise ServeError(f"port {port} does not exist; choose 1 to 65535, or 0 for a free one") from None
    except OSError as error:
        raise ServeError(
            f"port {port} cannot be used ({error.strerror}); stop the other program, or choose another port with"
            " --port, or --port 0 for a free one"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
