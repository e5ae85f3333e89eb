"""Which Hub a command talks to: the real one if HF_TOKEN is in the environment, else the one on this machine.

The token in the environment is the consent. A login stored on the machine is not asked for: trying out the README must
never publish anything.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bonsai.hub.accounts import public_token
from bonsai.hub.errors import BadRequestError, HubError
from bonsai.hub.names import check_user_name
from bonsai.hub.running import direct_loopback, on_this_machine, running_hub

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
class Destination:
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


def in_namespace(repo_id: str) -> str:
    """``qeu/bonsai`` under the namespace in force; repos of others stay as they are."""
    owner, _, name = repo_id.rpartition("/")
    return f"{namespace()}/{name}" if owner == DEFAULT_NAMESPACE else repo_id


def local_token() -> str:
    """The token of the Hub on this machine: known to all, for it opens a door that only loopback reaches."""
    return public_token(namespace())


@contextlib.contextmanager
def local_hub(root: Path) -> Iterator[Destination]:
    """The Hub on this machine, stored in ``root``, for as long as the block lasts."""
    token = local_token()
    with running_hub(root, users={namespace(): token}) as address:
        yield Destination(endpoint=address.endpoint, token=token, is_local=True)


@contextlib.contextmanager
def chosen_hub(root: Path) -> Iterator[Destination]:
    """The real Hub if HF_TOKEN is set, else `local_hub`."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token:
        yield Destination(
            endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or REAL_ENDPOINT, token=token, is_local=False
        )
    else:
        with local_hub(root) as destination:
            yield destination
