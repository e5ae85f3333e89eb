"""List and compare the files of a revision, and mark releases as withdrawn."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

Files = Mapping[str, Path | bytes]
"""content by its path in the repository"""

CARD = "README.md"
HUB_MANAGED = frozenset({".gitattributes"})
"""Files the Hub itself puts into a repository; a release neither deletes nor compares them."""

_WITHDRAWAL_TITLE = re.compile(r"Withdraw (\S+)(?:, make \S+ current again)?")
_WITHDRAWAL_NOTE = re.compile(r"<!-- withdrawn (\S+) -->\n.*?<!-- /withdrawn -->\n\n?", re.DOTALL)
_FRONT_MATTER = re.compile(r"---\n.*?\n---\n+", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class FileDiff:
    """The changes a commit would make, as sorted paths in the repository."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def written(self) -> tuple[str, ...]:
        """Paths to be sent."""
        return tuple(sorted((*self.added, *self.changed)))


def list_files(api: HfApi, repo_id: str, repo_type: str, revision: str) -> dict[str, RepoFile]:
    """Return every file of a revision by its path."""
    return {
        entry.path: entry
        for entry in api.list_repo_tree(repo_id, repo_type=repo_type, revision=revision, recursive=True)
        if isinstance(entry, RepoFile)
    }


def download_card(api: HfApi, repo_id: str, repo_type: str, revision: str) -> str:
    """Return the text of a revision's README.md; empty if it has none."""
    if not api.file_exists(repo_id, CARD, repo_type=repo_type, revision=revision):
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo_id, CARD, repo_type=repo_type, revision=revision, local_dir=folder)
        return Path(path).read_bytes().decode("utf-8")


def diff_files(files: Files, remote: Mapping[str, RepoFile]) -> FileDiff:
    """Return the changes that make a repository with ``remote`` hold ``files`` and nothing else."""

    def is_same(name: str) -> bool:
        content, entry = files[name], remote[name]
        return digest(content) == entry.lfs.sha256 if entry.lfs is not None else blob_id(content) == entry.blob_id

    return _diff(files, remote, is_same)


def diff_revisions(wanted: Mapping[str, RepoFile], remote: Mapping[str, RepoFile]) -> FileDiff:
    """Return the changes that make a repository with ``remote`` hold the files of another revision."""
    return _diff(set(wanted) - HUB_MANAGED, remote, lambda name: wanted[name].blob_id == remote[name].blob_id)


def _diff(names: Iterable[str], remote: Mapping[str, RepoFile], is_same: Callable[[str], bool]) -> FileDiff:
    wanted, present = set(names), set(remote)
    return FileDiff(
        added=tuple(sorted(wanted - present)),
        changed=tuple(sorted(name for name in wanted & present if not is_same(name))),
        removed=tuple(sorted(present - wanted - HUB_MANAGED)),
    )


def mismatched_paths(folder: Path, files: Files) -> Iterator[str]:
    """Yield paths at which a downloaded folder differs, by a single byte or more, from the files to be published."""
    downloads = folder_files(folder)
    for name in sorted((set(files) | set(downloads)) - HUB_MANAGED):
        if name not in downloads or name not in files or digest(files[name]) != digest(downloads[name]):
            yield name


def folder_files(folder: Path) -> dict[str, Path]:
    """Return every file below a folder by its path in the repo, hidden ones excepted."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def size(content: Path | bytes) -> int:
    """Return the number of bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def read(content: Path | bytes) -> bytes:
    """Return the bytes themselves."""
    return content if isinstance(content, bytes) else content.read_bytes()


def digest(content: Path | bytes) -> str:
    """Return the SHA-256 by which LFS names a file."""
    return _hexdigest(content, hashlib.sha256())


def blob_id(content: Path | bytes) -> str:
    """Return the SHA-1 by which git names a file: its header goes first."""
    return _hexdigest(content, hashlib.sha1(b"blob %d\0" % size(content), usedforsecurity=False))


def _hexdigest(content: Path | bytes, state: hashlib._Hash) -> str:
    if isinstance(content, bytes):
        state.update(content)
    else:
        with content.open("rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    return state.hexdigest()


def withdrawal_title(tag: str, *, instead: str | None = None) -> str:
    """Return the title of the commit that withdraws ``tag``."""
    return f"Withdraw {tag}" + (f", make {instead} current again" if instead else "")


def withdrawn_tags(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """Map each withdrawn tag to the commit of its newest withdrawal."""
    found: dict[str, str] = {}
    for commit in api.list_repo_commits(repo_id, repo_type=repo_type):
        if withdrawal := _WITHDRAWAL_TITLE.fullmatch(commit.title):
            found.setdefault(withdrawal[1], commit.commit_id)
    return found


def add_withdrawal_note(card: str, tag: str, reason: str, *, instead: str | None) -> str:
    """Return the card with a withdrawal note at its head, below the metadata."""
    use = f" Use {instead}.　{instead} を使ってください。" if instead else ""
    note = (
        f"<!-- withdrawn {tag} -->\n> **{tag} was withdrawn.** {tag} は取り下げました。 {reason}{use}\n"
        "<!-- /withdrawn -->\n\n"
    )
    metadata = _FRONT_MATTER.match(card)
    end = metadata.end() if metadata else 0
    return card[:end] + note + card[end:]


def strip_withdrawal_notes(card: str) -> str:
    """Return the card as it was released."""
    return _WITHDRAWAL_NOTE.sub("", card)
