"""One writer at a time, also among several servers, and also after one of them was killed.

The lock is the operating system's, which frees it with the process. Git's own lock files outlive theirs; a mark that a
writer leaves in the repository while it works tells the next one to look for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bonsai.hub.errors import ConflictError

_WAIT_SECONDS = 120.0
_MARK = "bonsai.writing"


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Holds the lock in the file `path`; `what` it guards is named if it cannot be had.

    Raises:
        ConflictError: after two minutes of waiting.
    """
    guard = FileLock(path, timeout=_WAIT_SECONDS, poll_interval=0.005)
    try:
        guard.acquire()
    except Timeout:
        raise ConflictError(f"{what} is being written by somebody else; try again") from None
    try:
        yield
    finally:
        guard.release()


@contextmanager
def marked(repository: Path) -> Iterator[None]:
    """Marks a git repository as being written to; whoever holds its lock finds no mark unless a writer came to grief.

    One that was killed leaves git's lock files behind, and so does one whose disk was full.
    """
    mark = repository / _MARK
    if mark.exists():
        _remove_stale_locks(repository)
    mark.touch()
    yield
    mark.unlink()


def _remove_stale_locks(repository: Path) -> None:
    for pattern in ("*.lock", "refs/**/*.lock", "objects/*/*.lock"):
        for path in repository.glob(pattern):
            path.unlink()
