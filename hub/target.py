"""Choose the Hub to talk to, set timeouts on its client, and run Python in a clean environment against it.

The token in the environment is the consent. A login stored on the machine is not asked for: trying out the README must
never publish anything.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from bonsai.hub.errors import BadRequestError, HubError
from bonsai.hub.server.names import check_user_name
from bonsai.hub.server.request import default_token
from bonsai.hub.server.serve import direct_loopback, is_loopback, on_this_machine, run_hub, unusable_proxies

if TYPE_CHECKING:
    import httpx2 as httpx
else:  # huggingface_hub 1 speaks HTTP by httpx, 2 by httpx2; both may be installed, so its own error says which
    httpx = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])

__all__ = [
    "HubTarget",
    "VerificationError",
    "check_cache",
    "httpx",
    "local_hub",
    "local_token",
    "namespace",
    "reach_loopback",
    "resolve_hub",
    "run_in_clean_environment",
    "set_idle_timeout",
    "with_namespace",
]

DEFAULT_NAMESPACE = "qeu"
REAL_ENDPOINT = "https://huggingface.co"
CACHES = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ASSETS_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "HF_XET_CACHE",
    "TRANSFORMERS_CACHE",
)
"""variables that each outrank HF_HOME"""


@dataclass(frozen=True, kw_only=True)
class HubTarget:
    """A Hub and the right to write to it."""

    endpoint: str
    token: str = field(repr=False)
    is_local: bool

    @property
    def environment(self) -> Mapping[str, str]:
        """What the clients read; they read it when imported, so set it before, or give it to a child process."""
        settings = {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token}
        return settings | {"HF_HUB_DISABLE_XET": "1", **on_this_machine(os.environ)} if self.is_local else settings

    def settle(self, home: Path) -> None:
        """Point the clients that this process imports from now on to this Hub, with their caches below ``home``."""
        for name in CACHES:
            os.environ.pop(name, None)
        os.environ.update({**direct_loopback(os.environ), **self.environment, "HF_HOME": str(home.resolve())})

    def __str__(self) -> str:
        return f"the local Hub on this machine ({self.endpoint})" if self.is_local else f"the Hub ({self.endpoint})"


def namespace() -> str:
    """The user or organisation that publishes: BONSAI_NAMESPACE, or qeu."""
    name = os.environ.get("BONSAI_NAMESPACE", "").strip() or DEFAULT_NAMESPACE
    try:
        return check_user_name(name)
    except BadRequestError:
        raise HubError(
            f"BONSAI_NAMESPACE is {name!r}, which is no name on the Hub; give the user or organisation alone, in "
            "letters, digits, '-', '_' and '.'. ユーザー名か組織名だけを入れてください。"
        ) from None


def check_cache() -> None:
    """Look whether the Hub's clients can write what they fetch.

    Raises:
        HubError: they cannot; it names the variable that says where.
    """
    name = next((name for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME") if os.environ.get(name)), None)
    if name is None:
        return
    folder = Path(os.path.expandvars(os.environ[name])).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise HubError(
            f"{name} is {os.environ[name]!r}, where nothing can be written ({error.strerror}); set it to a folder of "
            "yours, or unset it"
        ) from error


def with_namespace(repo_id: str) -> str:
    """``qeu/bonsai`` under the namespace in force; repos of others stay as they are."""
    owner, _, name = repo_id.rpartition("/")
    return f"{namespace()}/{name}" if owner == DEFAULT_NAMESPACE else repo_id


def local_token() -> str:
    """The token of the Hub on this machine: known to all, for it opens a door that only loopback reaches."""
    return default_token(namespace())


@contextlib.contextmanager
def local_hub(root: Path) -> Iterator[HubTarget]:
    """The Hub on this machine, stored in ``root``, for as long as the block lasts."""
    token = local_token()
    with run_hub(root, users={namespace(): token}) as address:
        yield HubTarget(endpoint=address.endpoint, token=token, is_local=True)


@contextlib.contextmanager
def resolve_hub(root: Path) -> Iterator[HubTarget]:
    """The real Hub if HF_TOKEN is set, else `local_hub`."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token:
        yield HubTarget(
            endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or REAL_ENDPOINT, token=token, is_local=False
        )
    else:
        with local_hub(root) as destination:
            yield destination


SILENCE_SECONDS = 60.0
"""without a byte in either direction; a large file may take as long as it likes"""


def set_idle_timeout(seconds: float = SILENCE_SECONDS) -> None:
    """From now on every request of huggingface_hub in this process breaks off after so much silence.

    Many of its calls pass ``timeout=None``, which outranks a client's default, so each request is looked at on its way
    out.
    """

    def look_at(request: httpx.Request) -> None:
        if constants.is_offline_mode():
            raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set: nothing can be asked of the Hub; unset it and try again")
        asked = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: min(asked.get(kind) or seconds, seconds) for kind in ("connect", "read", "write", "pool")
        }

    set_client_factory(lambda: _client([look_at], timeout=seconds))


def reach_loopback(host: str) -> None:
    """Let huggingface_hub reach a server on this machine whatever proxy is set; of other hosts nothing changes."""
    if not is_loopback(host) and host != "0.0.0.0":
        return
    os.environ.update(direct_loopback(os.environ, host))
    if unusable_proxies(os.environ):
        set_client_factory(lambda: _client([], timeout=None))


def _client(hooks: list[Callable[[httpx.Request], None]], **options: Any) -> httpx.Client:
    """A client by the proxies in the environment; if it cannot speak to one of them, a client for this machine only."""
    unusable = unusable_proxies(os.environ)

    def stay_here(request: httpx.Request) -> None:
        if not is_loopback(request.url.host) and request.url.host != "0.0.0.0":
            raise HubError(
                f"{unusable[0]} is {os.environ.get(unusable[0], '')!r}, a proxy that cannot be spoken to from here; "
                "for SOCKS run `pip install socksio`, else write http://HOST:PORT, or unset it"
            )

    if unusable:
        return httpx.Client(
            event_hooks={"request": [*hooks, stay_here]}, follow_redirects=True, trust_env=False, **options
        )
    return httpx.Client(event_hooks={"request": hooks}, follow_redirects=True, **options)


TIMEOUT_SECONDS = 900


class VerificationError(HubError):
    """What was published does not work for somebody else."""


def run_in_clean_environment(arguments: Sequence[str], destination: HubTarget, *, python: str = sys.executable) -> str:
    """Run ``python *arguments``; its standard output.

    Raises:
        StrangerError: it failed; the last lines of what it said are in the message.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
    }
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [python, *arguments],
            cwd=home,
            env={
                **kept,
                **destination.environment,
                "HF_HOME": f"{home}/hf",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "PYTHONIOENCODING": "utf-8",  # whatever this terminal's is: answers are Japanese and Chinese too
            },
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    if done.returncode:
        told = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise VerificationError(f"what was published does not load:\n{told.replace(destination.token, '(token)')}")
    return done.stdout
