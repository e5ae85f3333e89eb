"""Lay out the repositories on disk, lock them, and recover from writers that crashed.

The lock is the operating system's, which frees it with the process. Git's own lock files outlive theirs; a mark that a
writer leaves in the repository while it works tells the next one to look for them.

    ROOT/repos/models/NAMESPACE/NAME.git    a bare git repository, its LFS objects and `bonsai.json`
    ROOT/locks/                             one file a repository; the operating system frees it if the holder dies
    ROOT/incoming/                          what is being made or thrown away; safe to delete while nothing runs
    ROOT/secret                             signs upload addresses

A repository appears and disappears by one rename, and several servers may share one ROOT.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.refs import HEADREF
from dulwich.repo import Repo
from filelock import FileLock, Timeout

from bonsai.hub.errors import ConflictError, RepoNotFoundError
from bonsai.hub.server.commits import first_commit
from bonsai.hub.server.git import DEFAULT_BRANCH, BlobFacts, Repository
from bonsai.hub.server.names import RepoKind, RepoName, branch_ref

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
def write_marker(repository: Path) -> Iterator[None]:
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


_LEFTOVER_SECONDS = 24 * 3600.0
_SETTINGS_FILE = "bonsai.json"


@dataclass(frozen=True, kw_only=True)
class RepoSettings:
    """What is known of a repository besides its files."""

    created: str
    """ISO 8601, UTC."""
    private: bool = False
    sdk: str | None = None
    """Of a space; kept because the client asks for it, nothing runs here."""


class Storage:
    """All repositories below one folder, `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._facts: dict[str, BlobFacts] = {}
        for folder in ("repos", "locks", "incoming"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()

    def exists(self, repo: RepoName) -> bool:
        """Whether there is such a repository, private or not."""
        return (self._path(repo) / _SETTINGS_FILE).is_file()

    def settings(self, repo: RepoName) -> RepoSettings:
        """Raises RepoNotFoundError if there is no such repository."""
        try:
            return RepoSettings(**json.loads((self._path(repo) / _SETTINGS_FILE).read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            raise RepoNotFoundError("Repository not found") from None

    def open(self, repo: RepoName) -> Repository:
        """A repository to read from; readers never wait for a writer."""
        self.settings(repo)
        try:
            return Repository(self._path(repo), self._facts)
        except NotGitRepository:
            raise RepoNotFoundError("Repository not found") from None

    @contextmanager
    def writing(self, repo: RepoName) -> Iterator[Repository]:
        """A repository nobody else writes to meanwhile, in this process or another."""
        with self._lock(repo), self.open(repo) as repository, write_marker(self._path(repo)):
            yield repository

    def canonical_name(self, repo: RepoName) -> RepoName:
        """The name as its maker wrote it: on the Hub, upper and lower case are the same in addresses, not on disk."""
        if not self.exists(repo):
            wanted = (repo.namespace.casefold(), repo.name.casefold())
            for other in self.list(repo.kind):
                if (other.namespace.casefold(), other.name.casefold()) == wanted:
                    return other
        return repo

    def list(self, kind: RepoKind) -> Iterator[RepoName]:
        """All repositories of a kind, by name."""
        for path in sorted((self.root / "repos" / kind.plural).glob(f"*/*.git/{_SETTINGS_FILE}")):
            yield RepoName(kind=kind, namespace=path.parent.parent.name, name=path.parent.name.removesuffix(".git"))

    def create(self, repo: RepoName, *, author: str, private: bool, sdk: str | None = None) -> None:
        """Makes a repository with the Hub's first commit, a `.gitattributes`.

        Raises:
            ConflictError: if it exists.
        """
        self._refuse_taken(repo)
        unfinished = self._incoming()
        unfinished.mkdir()
        with Repo.init_bare(unfinished) as git:
            git.refs.set_symbolic_ref(HEADREF, branch_ref(DEFAULT_BRANCH))
            git.refs[branch_ref(DEFAULT_BRANCH)] = first_commit(git, author)
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        _write_settings(unfinished, RepoSettings(created=created, private=private, sdk=sdk))
        try:
            with self._lock(repo):
                self._place(unfinished, repo)
        except ConflictError:
            shutil.rmtree(unfinished)
            raise

    def change(self, repo: RepoName, *, private: bool) -> None:
        """Makes a repository private or public."""
        with self._lock(repo):
            settings = self.settings(repo)
            _write_settings(self._path(repo), RepoSettings(created=settings.created, private=private, sdk=settings.sdk))

    def delete(self, repo: RepoName) -> None:
        """Takes the repository away at once; the space on disk follows."""
        with self._lock(repo):
            self.settings(repo)
            doomed = self._incoming()
            os.rename(self._path(repo), doomed)
        shutil.rmtree(doomed)

    def move(self, source: RepoName, target: RepoName) -> None:
        """Raises ConflictError if the new name is taken."""
        first, second = sorted((source, target), key=lambda repo: str(repo).casefold())
        if str(first).casefold() == str(second).casefold():
            raise ConflictError(f"A {target.kind} repository called {target.id} already exists")
        with self._lock(first), self._lock(second):
            self.settings(source)
            self._place(self._path(source), target)

    def secret(self) -> bytes:
        """The key of the signatures, the same for every server on this storage."""
        path = self.root / "secret"
        if not path.exists():
            draft = self._incoming()
            draft.touch(mode=0o600)
            draft.write_bytes(secrets.token_bytes(32))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            except OSError:  # a disk without links; the lock of the whole storage is not worth it for this one file
                if not path.exists():
                    os.replace(draft, path)
            draft.unlink(missing_ok=True)
        return path.read_bytes()

    def temp_dir(self) -> Path:
        """A folder for what is too large to be held in memory, on the same disk as the repositories."""
        return self.root / "incoming"

    def _refuse_taken(self, repo: RepoName) -> None:
        if self.exists(self.canonical_name(repo)):
            raise ConflictError(f"A {repo.kind} repository called {repo.id} already exists")

    def _place(self, folder: Path, repo: RepoName) -> None:
        self._refuse_taken(repo)
        self._path(repo).parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, self._path(repo))

    def _path(self, repo: RepoName) -> Path:
        return self.root / "repos" / repo.kind.plural / repo.namespace / f"{repo.name}.git"

    def _incoming(self) -> Path:
        return self.root / "incoming" / secrets.token_hex(16)

    def _lock(self, repo: RepoName) -> AbstractContextManager[None]:
        return lock(self.root / "locks" / f"{repo.kind}--{repo.namespace}--{repo.name}.lock".casefold(), str(repo))

    def _remove_leftovers(self) -> None:
        """Removes what a killed server left behind, once it is too old to belong to a living one."""
        places = [self.root / "incoming", *self.root.glob("repos/*/*/*.git/lfs/tmp")]
        for path in (path for place in places for path in place.iterdir()):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_settings(repository: Path, settings: RepoSettings) -> None:
    draft = repository / f"{_SETTINGS_FILE}.{secrets.token_hex(4)}"
    draft.write_text(json.dumps(asdict(settings)))
    os.replace(draft, repository / _SETTINGS_FILE)
