"""An end to silence: huggingface_hub asks most of its questions without a time limit and would wait for ever."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

if TYPE_CHECKING:
    import httpx2 as httpx
else:  # huggingface_hub 1 speaks HTTP by httpx, 2 by httpx2; both may be installed, so its own error says which
    httpx = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])

__all__ = ["SILENCE_SECONDS", "httpx", "limit_silence"]
SILENCE_SECONDS = 60.0
"""without a byte in either direction; a large file may take as long as it likes"""


def limit_silence(seconds: float = SILENCE_SECONDS) -> None:
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

    set_client_factory(lambda: httpx.Client(event_hooks={"request": [look_at]}, follow_redirects=True, timeout=seconds))
