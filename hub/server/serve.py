"""A Hub for as long as a block of code runs: what publishing, training and the tests use.

A user's token is known to all, unless the environment gives a secret one: BONSAI_HUB_USERS="NAME:TOKEN NAME:TOKEN".
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from bonsai.hub.errors import HubError, ServeError
from bonsai.hub.server.request import DEFAULT_USERS, USERS

DEFAULT_PORT = 8888
_HINT = """\
Set these before Python starts / Python を起動する前に設定してください:
  export HF_ENDPOINT={endpoint}
  export HF_TOKEN={token}
  export HF_HUB_DISABLE_XET=1
Stop with Ctrl-C; the repositories stay in {root} / Ctrl-C で停止します。リポジトリは {root} に残ります。
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return serve(arguments.root, host=arguments.host, port=arguments.port, users=_users(arguments.user))
    except HubError as error:
        sys.stderr.write(f"hub: {error}\n")
        return 2


def serve(root: Path, *, host: str, port: int, users: Mapping[str, str]) -> int:
    """Serves until the process is told to stop; returns the exit status.

    Raises:
        ServeError: if the address is not this machine's own or is taken.
    """
    import uvicorn

    from bonsai.hub.server.app import create_app

    try:
        app = create_app(root.absolute(), users)
    except OSError as error:
        raise ServeError(f"the repositories cannot be kept in {root}: {error.strerror}") from error
    with _listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        endpoint = f"http://{name}:{listener.getsockname()[1]}"
        hint = _HINT.format(endpoint=endpoint, token=_shown(*next(iter(users.items()))), root=root)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may have no Japanese letters
        sys.stdout.write(f"HF_ENDPOINT={endpoint}\n{hint}")
        sys.stdout.flush()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=3,
        )
        # uvicorn stops in order and then raises the signal again for its caller; for us that is the end, not an error.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return 0
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or host not in ("127.0.0.1", "localhost", "::1"):
        raise ServeError(f"'{host}' is refused: this Hub is for this machine only; use 127.0.0.1, localhost or ::1")
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


def _users(names: Sequence[str]) -> Mapping[str, str]:
    from bonsai.hub.server.request import DEFAULT_USERS, USERS, default_token, parse_users

    for name in names:
        if ":" in name:
            raise ServeError(f"--user takes a name alone; a token goes into the environment variable {USERS}")
    users = {name: default_token(name) for name in names} | dict(parse_users(os.environ.pop(USERS, "")))
    return users or DEFAULT_USERS


def _shown(name: str, token: str) -> str:
    from bonsai.hub.server.request import default_token

    return token if token == default_token(name) else f"<the token of {name}>"


def _parser() -> argparse.ArgumentParser:
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
        help="a user with a token known to all; repeat it for several (default: qeu). Secret tokens: see above",
    )
    return parser


LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_START_SECONDS, _STOP_SECONDS = 30.0, 10.0


def is_loopback(host: str | None) -> bool:
    """Whether a host of an address is this machine itself."""
    return host is not None and (host in LOOPBACK or host.startswith("127."))


def direct_loopback(environment: Mapping[str, str], *hosts: str) -> dict[str, str]:
    """The variables by which every client reaches this machine without a proxy; what they name already stays named.

    Args:
        hosts: more names of this machine.
    """
    named = ",".join(environment.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    told = ",".join(dict.fromkeys([*filter(None, re.split(r"[,\s]+", named)), *LOOPBACK, *hosts]))
    return {"NO_PROXY": told, "no_proxy": told}


def unusable_proxies(environment: Mapping[str, str]) -> list[str]:
    """The variables that name a proxy the Hub's client cannot speak to.

    It reads all of them when it begins, and fails even if it is to talk to this machine only.
    """
    return [name for name, value in environment.items() if name.lower() in _PROXIES and not _speaks_to(value.strip())]


def _speaks_to(proxy: str) -> bool:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = not proxy or bool(parts.hostname and (parts.port is None or parts.port))
    except ValueError:
        return False
    if parts.scheme in ("socks5", "socks5h"):
        return importlib.util.find_spec("socksio") is not None
    return usable and parts.scheme in ("http", "https")


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
            **on_this_machine(os.environ),
        }


def on_this_machine(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a client that talks to this machine alone: no proxy is in its way, and it is never offline."""
    return {
        **direct_loopback(environment),
        **dict.fromkeys(unusable_proxies(environment), ""),
        **{name: "0" for name in _OFFLINE if environment.get(name)},
    }


@contextmanager
def run_hub(root: Path, *, users: Mapping[str, str] | None = None, port: int = 0) -> Iterator[HubAddress]:
    """Starts a Hub over `root` in a process of its own, waits until it answers, and stops it afterwards.

    The server writes its complaints to `root/hub.log`.

    Raises:
        ServeError: if it does not come up; the message says what the server said.
    """
    accounts = users or DEFAULT_USERS
    root.mkdir(parents=True, exist_ok=True)
    told = " ".join(f"{name}:{token}" for name, token in accounts.items())
    log = root / "hub.log"
    command = [sys.executable, "-m", "bonsai.hub.server.serve", "--root", str(root), "--port", str(port)]
    # The child must find this very package, also where the parent found it by way of pytest or a notebook.
    search_path = os.pathsep.join(entry for entry in sys.path if entry)
    with log.open("ab") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, "PYTHONPATH": search_path, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", USERS: told},
        )
    try:
        yield HubAddress(endpoint=_endpoint(process, log), token=next(iter(accounts.values())))
    finally:
        _stop(process)


def _endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode(errors="replace").strip()
    if not line.startswith("HF_ENDPOINT="):
        process.wait(_STOP_SECONDS)
        last_words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
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


if __name__ == "__main__":
    sys.exit(main())
