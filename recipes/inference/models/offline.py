"""A machine without a Hub in reach: known at once, and what was fetched before is used.

The clients find out too, each request for itself, after some twenty seconds of trying again.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from bonsai.hub.client.session import httpx

SECONDS = 10.0


def reachable() -> bool:
    """Whether a Hub answers at all."""
    try:
        get_session().head(HfApi().endpoint, timeout=SECONDS)
    except (httpx.HTTPError, OfflineModeIsEnabled):
        return False
    return True


def cached(repo: str, name: str, revision: str | None) -> Path | None:
    """A file of a repo that was fetched before; None: it was not."""
    try:
        found = try_to_load_from_cache(repo, name, revision=revision or constants.DEFAULT_REVISION)
    except HFValidationError:  # a folder that is gone
        return None
    return Path(found) if isinstance(found, str) else None
