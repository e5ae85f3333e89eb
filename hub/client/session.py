"""An end to silence: huggingface_hub asks most of its questions without a time limit and would wait for ever."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from bonsai.hub.errors import HubError
from bonsai.hub.running import direct_loopback, is_loopback, unusable_proxies

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
