"""Which Hub a command talks to: the real one if HF_TOKEN is in the environment, else the one on this machine.

The token in the environment is the consent. A login stored on the machine is not asked for: trying out the README must
never publish anything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bonsai.hub.accounts import public_token
from bonsai.hub.errors import HubError
from bonsai.hub.running import running_hub

DEFAULT_NAMESPACE = "qeu"
REAL_ENDPOINT = "https://huggingface.co"


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
        return settings | {"HF_HUB_DISABLE_XET": "1"} if self.is_local else settings

    def __str__(self) -> str:
        return f"the local Hub on this machine ({self.endpoint})" if self.is_local else f"the Hub ({self.endpoint})"


def namespace() -> str:
    """The user or organisation that publishes: BONSAI_NAMESPACE, or qeu."""
    name = os.environ.get("BONSAI_NAMESPACE", "").strip() or DEFAULT_NAMESPACE
    if "/" in name:
        raise HubError(f"BONSAI_NAMESPACE is {name!r}; give the user or organisation alone, without a slash")
    return name


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
