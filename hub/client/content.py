"""What is to lie in a repository, what lies there, and how the two differ, told by hashes without a download."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

Files = Mapping[str, Path | bytes]
"""content by its path in the repository"""

KEPT = frozenset({".gitattributes"})
"""Files the Hub itself puts into a repository; a release neither deletes nor compares them."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a commit would do, as paths in the repository."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def written(self) -> tuple[str, ...]:
        """What has to be sent."""
        return tuple(sorted((*self.added, *self.changed)))


def tree(api: HfApi, repo_id: str, repo_type: str, revision: str) -> dict[str, RepoFile]:
    """Every file of a revision by its path."""
    return {
        entry.path: entry
        for entry in api.list_repo_tree(repo_id, repo_type=repo_type, revision=revision, recursive=True)
        if isinstance(entry, RepoFile)
    }


def difference(files: Files, there: Mapping[str, RepoFile]) -> Difference:
    """What makes a repository that holds ``there`` hold ``files`` and nothing else."""
    return Difference(
        added=tuple(sorted(set(files) - set(there))),
        changed=tuple(sorted(name for name in set(files) & set(there) if not _same(files[name], there[name]))),
        removed=tuple(sorted(set(there) - set(files) - KEPT)),
    )


def tree_difference(wanted: Mapping[str, RepoFile], there: Mapping[str, RepoFile]) -> Difference:
    """The same between two revisions."""
    wanted = {name: entry for name, entry in wanted.items() if name not in KEPT}
    return Difference(
        added=tuple(sorted(set(wanted) - set(there))),
        changed=tuple(sorted(n for n in set(wanted) & set(there) if wanted[n].blob_id != there[n].blob_id)),
        removed=tuple(sorted(set(there) - set(wanted) - KEPT)),
    )


def departures(folder: Path, files: Files) -> Iterator[str]:
    """Paths at which a downloaded folder is not, byte for byte, what was to be published."""
    there = folder_files(folder)
    for name in sorted((set(files) | set(there)) - KEPT):
        if name not in there or name not in files or digest(files[name]) != digest(there[name]):
            yield name


def folder_files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path in the repo; hidden ones stay at home."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def size(content: Path | bytes) -> int:
    """Bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def read(content: Path | bytes) -> bytes:
    """The bytes themselves."""
    return content if isinstance(content, bytes) else content.read_bytes()


def digest(content: Path | bytes) -> str:
    """SHA-256, as LFS names a file."""
    return _hashed(content, hashlib.sha256())


def blob_id(content: Path | bytes) -> str:
    """SHA-1 with git's header, as git names a file."""
    return _hashed(content, hashlib.sha1(b"blob %d\0" % size(content), usedforsecurity=False))


def _same(content: Path | bytes, there: RepoFile) -> bool:
    return digest(content) == there.lfs.sha256 if there.lfs is not None else blob_id(content) == there.blob_id


def _hashed(content: Path | bytes, hashed: hashlib._Hash) -> str:
    if isinstance(content, bytes):
        hashed.update(content)
    else:
        with content.open("rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
    return hashed.hexdigest()
