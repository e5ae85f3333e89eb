"""Serves the local Hub until Ctrl-C: `python -m bonsai.hub.serve --root DIR --port 8888 --user NAME`.

A user's token is known to all, unless the environment gives a secret one: BONSAI_HUB_USERS="NAME:TOKEN NAME:TOKEN".
"""

from __future__ import annotations

import argparse
import io
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bonsai.hub.errors import HubError, ServeError

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

    from bonsai.hub.app import create_app

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
    from bonsai.hub.accounts import DEFAULT_USERS, USERS, public_token, users_of

    for name in names:
        if ":" in name:
            raise ServeError(f"--user takes a name alone; a token goes into the environment variable {USERS}")
    users = {name: public_token(name) for name in names} | dict(users_of(os.environ.pop(USERS, "")))
    return users or DEFAULT_USERS


def _shown(name: str, token: str) -> str:
    from bonsai.hub.accounts import public_token

    return token if token == public_token(name) else f"<the token of {name}>"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bonsai.hub.serve", description=__doc__)
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


if __name__ == "__main__":
    sys.exit(main())
