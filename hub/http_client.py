"""Configure huggingface_hub's HTTP client: idle timeouts, which it lacks by default, and the way past proxies.

Import this only after the Hub is chosen (`target.resolve_hub`): huggingface_hub reads its settings when imported.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from bonsai.hub.errors import HubError
from bonsai.hub.server.serve import direct_loopback, is_loopback, unusable_proxies

if TYPE_CHECKING:
    import httpx2

    httpx = httpx2
else:  # huggingface_hub 1 speaks HTTP by httpx, 2 by httpx2; both may be installed, so its own error says which
    httpx = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])

IDLE_SECONDS = 60.0
"""without a byte in either direction; a large file may take as long as it likes"""


def set_idle_timeout(seconds: float = IDLE_SECONDS) -> None:
    """Make every request of huggingface_hub in this process fail after ``seconds`` without a byte.

    Many of its calls pass ``timeout=None``, which outranks a client's default, so the limit is set on each request.
    """

    def limit_request(request: httpx.Request) -> None:
        if constants.is_offline_mode():
            raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set, so the Hub cannot be reached; unset it and try again")
        timeout = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: min(timeout.get(kind) or seconds, seconds) for kind in ("connect", "read", "write", "pool")
        }

    set_client_factory(lambda: _client([limit_request], timeout=seconds))


def reach_loopback(host: str) -> None:
    """Let huggingface_hub reach a server on this machine past any proxy; do nothing for other hosts."""
    if not is_loopback(host) and host != "0.0.0.0":
        return
    os.environ.update(direct_loopback(os.environ, host))
    if unusable_proxies(os.environ):
        set_client_factory(lambda: _client([], timeout=None))


def _client(hooks: list[Callable[[httpx.Request], None]], **options: Any) -> httpx.Client:
    """Return a client with the environment's proxies; if it cannot use one of them, a client for this machine only."""
    unusable = unusable_proxies(os.environ)

    def refuse_remote(request: httpx.Request) -> None:
        if not is_loopback(request.url.host) and request.url.host != "0.0.0.0":
            raise HubError(
                f"{unusable[0]} is {os.environ.get(unusable[0], '')!r}, a proxy that httpx cannot use; "
                "for SOCKS run `pip install socksio`, else write http://HOST:PORT, or unset it"
            )

    if unusable:
        hooks, options = [*hooks, refuse_remote], {**options, "trust_env": False}
    return httpx.Client(event_hooks={"request": hooks}, follow_redirects=True, **options)
