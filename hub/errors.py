"""Define the Hub's errors with their HTTP status and the `X-Error-Code` that clients look for.

Adding an error: derive it from `RefusedError` and set `status`; set `code` only where huggingface_hub has an error of
its own for it. The message is a sentence for the user of the client.
"""

from __future__ import annotations

import errno

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""the disk, or a user's quota of it, is full"""


class HubError(Exception):
    """Base of every error raised in this package."""


class RefusedError(HubError):
    """A request that is answered with an error; the message is a sentence for the user of the client."""

    status = 400
    code: str | None = None

    def __init__(self, message: str, *, commit: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.commit = commit
        """The commit that was searched: clients cache "this file does not exist" by it."""


class BadRequestError(RefusedError, ValueError):
    """The request itself is invalid, whoever sends it."""


class UnauthorizedError(RefusedError, PermissionError):
    """No token where one is needed, or an unknown one."""

    status = 401


class ForbiddenError(RefusedError, PermissionError):
    """A valid token whose owner may not do this."""

    status = 403


class RepoNotFoundError(RefusedError, LookupError):
    """No such repository, or somebody else's private one: the answer is the same, so that names do not leak."""

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
    """The repository, branch or tag exists already, or another writer holds the repository."""

    status = 409


class StaleParentError(RefusedError):
    """`parentCommit` is no longer the head of the branch."""

    status = 412


class RefusedPathError(BadRequestError):
    """A path that cannot be stored, or is dangerous to whoever downloads it."""

    status = 422


class TooLargeError(RefusedError, ValueError):
    """A body larger than this endpoint accepts."""

    status = 413


class HubDiskFullError(RefusedError, OSError):
    """The disk of the Hub is full."""

    status = 507


class ServeError(HubError):
    """The server cannot start, or its command line cannot be read."""
