"""List and compare the files of a revision, and mark releases as withdrawn."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

Files = Mapping[str, Path | bytes]
"""content by its path in the repository"""

HUB_MANAGED = frozenset({".gitattributes"})
"""Files the Hub itself puts into a repository; a release neither deletes nor compares them."""


@dataclass(frozen=True, kw_only=True)
class FileDiff:
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


def list_files(api: HfApi, repo_id: str, repo_type: str, revision: str) -> dict[str, RepoFile]:
    """Every file of a revision by its path."""
    return {
        entry.path: entry
        for entry in api.list_repo_tree(repo_id, repo_type=repo_type, revision=revision, recursive=True)
        if isinstance(entry, RepoFile)
    }


def diff_files(files: Files, there: Mapping[str, RepoFile]) -> FileDiff:
    """What makes a repository that holds ``there`` hold ``files`` and nothing else."""
    return FileDiff(
        added=tuple(sorted(set(files) - set(there))),
        changed=tuple(sorted(name for name in set(files) & set(there) if not _same(files[name], there[name]))),
        removed=tuple(sorted(set(there) - set(files) - HUB_MANAGED)),
    )


def diff_revisions(wanted: Mapping[str, RepoFile], there: Mapping[str, RepoFile]) -> FileDiff:
    """The same between two revisions."""
    wanted = {name: entry for name, entry in wanted.items() if name not in HUB_MANAGED}
    return FileDiff(
        added=tuple(sorted(set(wanted) - set(there))),
        changed=tuple(sorted(n for n in set(wanted) & set(there) if wanted[n].blob_id != there[n].blob_id)),
        removed=tuple(sorted(set(there) - set(wanted) - HUB_MANAGED)),
    )


def mismatched_paths(folder: Path, files: Files) -> Iterator[str]:
    """Paths at which a downloaded folder is not, byte for byte, what was to be published."""
    there = folder_files(folder)
    for name in sorted((set(files) | set(there)) - HUB_MANAGED):
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


_TITLE = re.compile(r"Withdraw (\S+)(?:, make \S+ current again)?")
_NOTE = re.compile(r"<!-- withdrawn (\S+) -->\n.*?<!-- /withdrawn -->\n\n?", re.DOTALL)
_FRONT_MATTER = re.compile(r"---\n.*?\n---\n+", re.DOTALL)


def withdrawal_title(tag: str, *, instead: str | None = None) -> str:
    """The commit's title."""
    return f"Withdraw {tag}" + (f", make {instead} current again" if instead else "")


def withdrawn_tags(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """The commit of the newest withdrawal by tag."""
    found: dict[str, str] = {}
    for commit in api.list_repo_commits(repo_id, repo_type=repo_type):
        if withdrawal := _TITLE.fullmatch(commit.title):
            found.setdefault(withdrawal[1], commit.commit_id)
    return found


def add_withdrawal_note(card: str, tag: str, reason: str, *, instead: str | None) -> str:
    """The card with the withdrawal at its head, below the metadata."""
    use = f" Use {instead}.　{instead} を使ってください。" if instead else ""
    note = (
        f"<!-- withdrawn {tag} -->\n> **{tag} was withdrawn.** {tag} は取り下げました。 {reason}{use}\n"
        "<!-- /withdrawn -->\n\n"
    )
    metadata = _FRONT_MATTER.match(card)
    end = metadata.end() if metadata else 0
    return card[:end] + note + card[end:]


def strip_withdrawal_notes(card: str) -> str:
    """The card as it was released."""
    return _NOTE.sub("", card)
