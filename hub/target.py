"""Choose the Hub to talk to, and run Python in a clean environment against it.

Nothing here imports huggingface_hub: its clients read HF_ENDPOINT and the caches once, when they are imported, and that
must be after a command has chosen its Hub. What needs the client is in `http_client.py`.

Only a token in the environment selects the real Hub. A login stored on the machine does not count as consent: trying
out the README must never publish anything.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bonsai.hub.errors import BadRequestError, HubError
from bonsai.hub.server.accounts import default_token
from bonsai.hub.server.names import check_user_name
from bonsai.hub.server.serve import HubAddress, direct_loopback, run_hub

DEFAULT_NAMESPACE = "qeu"
REAL_ENDPOINT = "https://huggingface.co"
CACHE_VARIABLES = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ASSETS_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "HF_XET_CACHE",
    "TRANSFORMERS_CACHE",
)
"""each of them outranks HF_HOME"""
VERIFY_SECONDS = 900
_OUTER = "BONSAI_OUTER_ENDPOINT"
"""Set by `HubTarget.settle` to the address that it replaces; child processes see it, too."""


class VerificationError(HubError):
    """A published release that does not work in a clean environment."""


@dataclass(frozen=True, kw_only=True)
class HubTarget:
    """A Hub and a token that may write to it."""

    endpoint: str
    token: str = field(repr=False)
    is_local: bool

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of the clients, which read them when imported: set them before, or pass them to a child process."""
        if self.is_local:
            return HubAddress(endpoint=self.endpoint, token=self.token).environment()
        return {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token}

    def settle(self, home: Path) -> None:
        """Point clients that this process has yet to import at this Hub, with their caches below ``home``."""
        for name in CACHE_VARIABLES:
            os.environ.pop(name, None)
        os.environ.setdefault(_OUTER, outer_endpoint())
        os.environ.update({**direct_loopback(os.environ), **self.environment, "HF_HOME": str(home.resolve())})

    def __str__(self) -> str:
        return f"the local Hub on this machine ({self.endpoint})" if self.is_local else f"the Hub ({self.endpoint})"


def outer_endpoint() -> str:
    """Return the address of the Hub that the user chose, even while this process talks to the one of this machine."""
    return os.environ.get(_OUTER) or os.environ.get("HF_ENDPOINT", "").rstrip("/") or REAL_ENDPOINT


def namespace() -> str:
    """Return the user or organisation that publishes: BONSAI_NAMESPACE, or qeu.

    Raises:
        HubError: BONSAI_NAMESPACE is not a valid name.
    """
    name = os.environ.get("BONSAI_NAMESPACE", "").strip() or DEFAULT_NAMESPACE
    try:
        return check_user_name(name)
    except BadRequestError:
        raise HubError(
            f"BONSAI_NAMESPACE is {name!r}, which is not a valid name on the Hub; give the user or organisation alone, "
            "in letters, digits, '-', '_' and '.'. ユーザー名か組織名だけを入れてください。"
        ) from None


def check_cache() -> None:
    """Check that the Hub's clients can write to their cache.

    Raises:
        HubError: they cannot; the message names the variable that sets the folder.
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
            f"{name} is {os.environ[name]!r}, which is not writable ({error.strerror}); set it to a folder of yours, "
            "or unset it"
        ) from error


def with_namespace(repo_id: str) -> str:
    """Move ``qeu/bonsai`` to the namespace in use; leave the repos of others alone."""
    owner, _, name = repo_id.rpartition("/")
    return f"{namespace()}/{name}" if owner == DEFAULT_NAMESPACE else repo_id


@contextlib.contextmanager
def local_hub(root: Path) -> Iterator[HubTarget]:
    """Run the local Hub with its storage in ``root`` until the block ends."""
    token = default_token(namespace())
    with run_hub(root, users={namespace(): token}) as address:
        yield HubTarget(endpoint=address.endpoint, token=token, is_local=True)


@contextlib.contextmanager
def resolve_hub(root: Path) -> Iterator[HubTarget]:
    """Yield the real Hub if HF_TOKEN is set, else a `local_hub`."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token:
        yield HubTarget(
            endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or REAL_ENDPOINT, token=token, is_local=False
        )
    else:
        with local_hub(root) as target:
            yield target


def run_in_clean_environment(arguments: Sequence[str], target: HubTarget, *, python: str = sys.executable) -> str:
    """Run ``python *arguments`` with empty caches and working directory, and only the Hub's address and token set.

    Returns:
        Its standard output.

    Raises:
        VerificationError: it failed; the message holds the last lines of its output.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
    }
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [python, *arguments],
            cwd=home,
            env={
                **inherited,
                **target.environment,
                "HF_HOME": f"{home}/hf",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "PYTHONIOENCODING": "utf-8",  # whatever this terminal's is: answers are Japanese and Chinese too
            },
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=VERIFY_SECONDS,
            check=False,
        )
    if done.returncode:
        output = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise VerificationError(f"what was published does not load:\n{output.replace(target.token, '(token)')}")
    return done.stdout
