"""Trying again, with bounds: so many times, so long in all, and as long a pause as the Hub asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bonsai.hub.client.trouble import PushError, TryAgainError, asked_to_wait, passes, told
from bonsai.hub.errors import HubError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one step of a release is tried."""

    tries: int = 6
    first_wait: float = 1.0
    """seconds before the second try; doubled each time"""
    longest_wait: float = 30.0
    total: float = 300.0
    """seconds after which no further try is begun, and the longest pause the Hub may ask for"""

    def run(self, step: Callable[[], T], *, state: Callable[[], str]) -> T:
        """Do ``step``, which must be safe to do twice, until it succeeds.

        Args:
            state: asked when all is in vain: how the repository stands and what to do.

        Raises:
            PushError: what did not pass, or not in time.
            HubError, OSError: of this machine or of ours, as they are.
        """
        started = time.monotonic()
        pause = self.first_wait
        for count in range(1, self.tries + 1):
            try:
                return step()
            except Exception as error:
                if not passes(error):
                    if _is_ours(error):
                        raise
                    raise PushError(f"{told(error)}; {state()}") from error
                wait = asked_to_wait(error)
                wait = pause if wait is None else wait
                spent = time.monotonic() - started
                if count == self.tries or spent + wait > self.total:
                    asked = f" and asked for a pause of {wait:.0f} s" if wait > self.total else ""
                    raise PushError(f"{told(error)}{asked} ({_times(count)}, {spent:.0f} s); {state()}") from error
                if not isinstance(error, TryAgainError):
                    time.sleep(wait)
                    pause = min(pause * 2, self.longest_wait)
        raise AssertionError("unreachable: the last try returns or raises")


PATIENCE = Patience()


def _is_ours(error: Exception) -> bool:
    """A sentence already, or a fault in this program, whose traceback is wanted."""
    return isinstance(error, HubError) or not _from_the_clients(error)


def _from_the_clients(error: Exception) -> bool:
    return isinstance(error, OSError | RuntimeError) or type(error).__module__.startswith(("httpx", "huggingface_hub"))


def _times(count: int) -> str:
    return "tried once" if count == 1 else f"tried {count} times"
