"""Lay out the repositories on disk, lock them, and recover from writers that crashed.

The operating system frees a lock when its process ends. Git's own lock files outlive their process; a writer therefore
marks the repository while it works, and a leftover mark tells the next writer to remove them.

    ROOT/repos/models/NAMESPACE/NAME.git    a bare git repository, its LFS objects and `bonsai.json`
    ROOT/locks/                             one file a repository
    ROOT/incoming/                          unfinished or deleted repositories; safe to delete while nothing runs
    ROOT/secret                             the key that signs upload URLs

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
_LEFTOVER_SECONDS = 24 * 3600.0
_MARKER = "bonsai.writing"
_SETTINGS_FILE = "bonsai.json"


@contextmanager
def lock(path: Path, resource: str) -> Iterator[None]:
    """Hold the lock file `path`, which guards `resource`.

    Raises:
        ConflictError: after two minutes of waiting.
    """
    file_lock = FileLock(path, timeout=_WAIT_SECONDS, poll_interval=0.005)
    try:
        file_lock.acquire()
    except Timeout:
        raise ConflictError(f"{resource} is being written by somebody else; try again") from None
    try:
        yield
    finally:
        file_lock.release()


@contextmanager
def write_marker(repository: Path) -> Iterator[None]:
    """Mark a repository as being written; a leftover mark means the last writer crashed.

    A writer that was killed, or whose disk was full, leaves git's lock files behind. They are safe to remove, because
    the caller holds the repository's lock.
    """
    marker = repository / _MARKER
    if marker.exists():
        for pattern in ("*.lock", "refs/**/*.lock", "objects/*/*.lock"):
            for path in repository.glob(pattern):
                path.unlink()
    marker.touch()
    yield
    marker.unlink()  # not in a `finally`: an error leaves the mark on purpose


@dataclass(frozen=True, kw_only=True)
class RepoSettings:
    """The settings of a repository, stored beside its files."""

    created: str
    """ISO 8601, UTC."""
    private: bool = False
    sdk: str | None = None
    """Of a space; stored because the client asks for it, although nothing runs here."""


class Storage:
    """All repositories below one folder, `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._facts: dict[str, BlobFacts] = {}
        for folder in ("repos", "locks", "incoming"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        # Remove what a killed server left behind, once it is too old to belong to a running one.
        folders = [root / "incoming", *root.glob("repos/*/*/*.git/lfs/tmp")]
        for path in (path for folder in folders for path in folder.iterdir()):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def exists(self, repo: RepoName) -> bool:
        """Whether there is such a repository, private or not."""
        return (self._path(repo) / _SETTINGS_FILE).is_file()

    def settings(self, repo: RepoName) -> RepoSettings:
        """Return the settings; raise RepoNotFoundError if there is no such repository."""
        try:
            return RepoSettings(**json.loads((self._path(repo) / _SETTINGS_FILE).read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            raise RepoNotFoundError("Repository not found") from None

    def open(self, repo: RepoName) -> Repository:
        """Open a repository for reading; readers never wait for a writer."""
        self.settings(repo)
        try:
            return Repository(self._path(repo), self._facts)
        except NotGitRepository:
            raise RepoNotFoundError("Repository not found") from None

    @contextmanager
    def writing(self, repo: RepoName) -> Iterator[Repository]:
        """Open a repository for writing, locked against writers of this and of other processes."""
        with self._lock(repo), self.open(repo) as repository, write_marker(self._path(repo)):
            yield repository

    def canonical_name(self, repo: RepoName) -> RepoName:
        """Return the name as its creator wrote it: URLs of the Hub ignore upper and lower case, the disk may not."""
        if not self.exists(repo):
            wanted = (repo.namespace.casefold(), repo.name.casefold())
            for other in self.list(repo.kind):
                if (other.namespace.casefold(), other.name.casefold()) == wanted:
                    return other
        return repo

    def list(self, kind: RepoKind) -> Iterator[RepoName]:
        """Yield all repositories of a kind, by name."""
        for path in sorted((self.root / "repos" / kind.plural).glob(f"*/*.git/{_SETTINGS_FILE}")):
            yield RepoName(kind=kind, namespace=path.parent.parent.name, name=path.parent.name.removesuffix(".git"))

    def create(self, repo: RepoName, *, author: str, private: bool, sdk: str | None = None) -> None:
        """Create a repository with the Hub's first commit, a `.gitattributes`.

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
                self._move_into_place(unfinished, repo)
        except ConflictError:
            shutil.rmtree(unfinished)
            raise

    def change(self, repo: RepoName, *, private: bool) -> None:
        """Make a repository private or public."""
        with self._lock(repo):
            settings = self.settings(repo)
            _write_settings(self._path(repo), RepoSettings(created=settings.created, private=private, sdk=settings.sdk))

    def delete(self, repo: RepoName) -> None:
        """Remove the repository at once; its space on disk is freed afterwards."""
        with self._lock(repo):
            self.settings(repo)
            trash = self._incoming()
            os.rename(self._path(repo), trash)
        shutil.rmtree(trash)

    def move(self, source: RepoName, target: RepoName) -> None:
        """Rename a repository; raise ConflictError if the new name is taken."""
        # Lock both in one order, so that two moves in opposite directions cannot wait for each other.
        first, second = sorted((source, target), key=lambda repo: str(repo).casefold())
        if str(first).casefold() == str(second).casefold():
            raise ConflictError(f"A {target.kind} repository called {target.id} already exists")
        with self._lock(first), self._lock(second):
            self.settings(source)
            self._move_into_place(self._path(source), target)

    def secret(self) -> bytes:
        """Return the key that signs upload URLs, shared by all servers of this storage."""
        path = self.root / "secret"
        if not path.exists():
            with lock(self.root / "locks" / "secret.lock", "the secret"):
                if not path.exists():
                    draft = self._incoming()
                    draft.touch(mode=0o600)
                    draft.write_bytes(secrets.token_bytes(32))
                    os.replace(draft, path)
        return path.read_bytes()

    def temp_dir(self) -> Path:
        """Return a folder for what is too large for memory, on the same disk as the repositories."""
        return self.root / "incoming"

    def _refuse_taken(self, repo: RepoName) -> None:
        if self.exists(self.canonical_name(repo)):
            raise ConflictError(f"A {repo.kind} repository called {repo.id} already exists")

    def _move_into_place(self, folder: Path, repo: RepoName) -> None:
        self._refuse_taken(repo)
        self._path(repo).parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, self._path(repo))

    def _path(self, repo: RepoName) -> Path:
        return self.root / "repos" / repo.kind.plural / repo.namespace / f"{repo.name}.git"

    def _incoming(self) -> Path:
        return self.root / "incoming" / secrets.token_hex(16)

    def _lock(self, repo: RepoName) -> AbstractContextManager[None]:
        return lock(self.root / "locks" / f"{repo.kind}--{repo.namespace}--{repo.name}.lock".casefold(), str(repo))


def _write_settings(repository: Path, settings: RepoSettings) -> None:
    draft = repository / f"{_SETTINGS_FILE}.{secrets.token_hex(4)}"
    draft.write_bytes(json.dumps(asdict(settings)).encode())
    os.replace(draft, repository / _SETTINGS_FILE)
