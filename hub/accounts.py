"""Who is asking: users and their tokens."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from bonsai.hub.errors import BadRequestError, ForbiddenError, UnauthorizedError
from bonsai.hub.names import check_user_name

USERS = "BONSAI_HUB_USERS"
"""environment variable: `NAME:TOKEN`, several with a space between; what stands in argv is everybody's to read"""


def public_token(name: str) -> str:
    """The token of a user who has no secret one: it guards nothing, it only makes the clients behave as on the Hub."""
    return f"local-{name}"


DEFAULT_USERS: Mapping[str, str] = {"qeu": public_token("qeu")}


def users_of(text: str) -> Mapping[str, str]:
    """Token by name, as the environment variable gives them.

    Raises:
        BadRequestError: a name without a token.
    """
    users = {}
    for number, entry in enumerate(text.split(), 1):
        name, _, token = entry.partition(":")
        if not token:
            raise BadRequestError(
                f"{USERS}: entry {number} has no token; write NAME:TOKEN, several with spaces between"
            )
        users[name] = token
    return users


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """The users of a Hub, checked once."""

    users: Mapping[str, str] = field(repr=False)
    """Token by user name. A user's namespace is its own name; there are no organisations."""

    def __post_init__(self) -> None:
        if not self.users:
            raise BadRequestError("a Hub without users can be read by nobody's token; give at least one NAME:TOKEN")
        for name, token in self.users.items():
            check_user_name(name)
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise BadRequestError(f"the token of '{name}' must be printable ASCII without spaces")

    def identify(self, authorization: str | None) -> str | None:
        """The user behind an `Authorization` header, or None if there is no header.

        Raises:
            UnauthorizedError: for a token nobody has; as on the Hub it is refused even where none was needed.
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
    """`user`, for what nobody may do without a name.

    Raises:
        UnauthorizedError: without a token.
    """
    if user is None:
        raise UnauthorizedError("Invalid username or password.")
    return user


def require_owner(user: str | None, namespace: str) -> str:
    """`user`, if the namespace is theirs.

    Raises:
        UnauthorizedError: without a token.
        ForbiddenError: with somebody else's.
    """
    if require_user(user) != namespace:
        raise ForbiddenError(f"you are '{user}' and have no right to write into the namespace '{namespace}'")
    return namespace
