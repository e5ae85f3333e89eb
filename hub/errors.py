"""What the Hub answers when it says no: each error knows its HTTP status and the `X-Error-Code` clients look for."""

from __future__ import annotations

import errno


class HubError(Exception):
    """The base of every error raised in this package."""


class RefusedError(HubError):
    """A request that is answered with an error; the message is a sentence for the person at the client."""

    status = 400
    code: str | None = None

    def __init__(self, message: str, *, commit: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.commit = commit
        """Which commit was looked at: clients cache "this file does not exist" by it."""


class BadRequestError(RefusedError, ValueError):
    """The request itself makes no sense, whoever sends it."""


class UnauthorizedError(RefusedError, PermissionError):
    """No token where one is needed, or a token nobody has."""

    status = 401


class ForbiddenError(RefusedError, PermissionError):
    """A good token whose owner may not do this."""

    status = 403


class RepoNotFoundError(RefusedError, LookupError):
    """No such repository, or a private one seen from outside: the answer is the same, so that names do not leak."""

    status = 404
    code = "RepoNotFound"


class RevisionNotFoundError(RefusedError, LookupError):
    """No branch, tag or commit of this name."""

    status = 404
    code = "RevisionNotFound"


class EntryNotFoundError(RefusedError, LookupError):
    """No file or folder of this name at this revision."""

    status = 404
    code = "EntryNotFound"


class ConflictError(RefusedError):
    """The thing to be made is there already, or somebody else holds the repository."""

    status = 409


class StaleParentError(RefusedError):
    """`parentCommit` is no longer the head of the branch."""

    status = 412


class RefusedPathError(BadRequestError):
    """A file that could not be kept, or would be dangerous to whoever downloads it, under this name."""

    status = 422


class TooLargeError(RefusedError, ValueError):
    """A body beyond what this endpoint reads into memory."""

    status = 413


class HubDiskFullError(RefusedError, OSError):
    """There is no room for what was sent."""

    status = 507


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""what the machine says when a disk or somebody's share of it is full"""


class ServeError(HubError):
    """The server cannot start, or its command line cannot be read."""
