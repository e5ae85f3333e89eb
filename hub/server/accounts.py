"""Identify users by their tokens, and check what they own.

Kept apart from `request`, because `run_hub` and every command import it: it must need neither starlette nor filelock.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from bonsai.hub.errors import BadRequestError, ForbiddenError, UnauthorizedError
from bonsai.hub.server.names import check_user_name

USERS = "BONSAI_HUB_USERS"
"""environment variable: `NAME:TOKEN`, several separated by spaces; argv would be readable by everybody"""


def default_token(name: str) -> str:
    """Return the token of a user without a secret one: no protection, but it makes clients behave as on the Hub."""
    return f"local-{name}"


DEFAULT_USERS: Mapping[str, str] = {"qeu": default_token("qeu")}


def parse_users(text: str) -> Mapping[str, str]:
    """Parse the environment variable `USERS` into tokens by name, such as `"qeu:secret"` into `{"qeu": "secret"}`.

    Raises:
        BadRequestError: a name without a token.
    """
    users = {}
    for number, entry in enumerate(text.split(), 1):
        name, _, token = entry.partition(":")
        if not token:
            raise BadRequestError(
                f"{USERS}: entry {number} has no token; write NAME:TOKEN, several separated by spaces"
            )
        users[name] = token
    return users


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """The users of a Hub."""

    users: Mapping[str, str] = field(repr=False)
    """Token by user name. A user's namespace is its own name; there are no organisations."""

    def __post_init__(self) -> None:
        if not self.users:
            raise BadRequestError("a Hub needs at least one user; give NAME:TOKEN")
        for name, token in self.users.items():
            check_user_name(name)
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise BadRequestError(f"the token of '{name}' must be printable ASCII without spaces")

    def identify(self, authorization: str | None) -> str | None:
        """Return the user of an `Authorization` header, or None without a header.

        Raises:
            UnauthorizedError: for an unknown token, which the Hub refuses even where none is needed.
        """
        if not authorization:
            return None
        scheme, _, token = authorization.partition(" ")
        found = None
        for name, expected in self.users.items():
            if scheme.casefold() == "bearer" and hmac.compare_digest(token.strip().encode(), expected.encode()):
                found = name
        if found is None:
            raise UnauthorizedError("Invalid credentials in Authorization header")
        return found


def require_user(user: str | None) -> str:
    """Return `user`, or raise UnauthorizedError if the request carries no token."""
    if user is None:
        raise UnauthorizedError("Invalid username or password.")
    return user


def require_owner(user: str | None, namespace: str) -> str:
    """Return `namespace` if it belongs to `user`.

    Raises:
        UnauthorizedError: without a token.
        ForbiddenError: with somebody else's.
    """
    if require_user(user) != namespace:
        raise ForbiddenError(f"you are '{user}' and have no right to write into the namespace '{namespace}'")
    return namespace
