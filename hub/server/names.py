"""Validate the names in a request: repositories, users, file paths, branches and tags.

Everything that later becomes part of a path on disk is checked here, once, and refused rather than sanitized:
`qeu/bonsai` is a repository, `qeu/..` is not; `data/a.jsonl` is a path, `../a`, `.git/config` and `a\\b` are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from dulwich.refs import Ref, check_ref_format

from bonsai.hub.errors import BadRequestError, RefusedPathError, RepoNotFoundError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_RESERVED_NAMESPACES = frozenset({"api", "datasets", "models", "spaces"})
_REFUSED_SEGMENTS = frozenset({"", ".", "..", ".git", ".cache"})
"""`.cache`: the clients keep their download state in it and refuse to upload it."""


class RepoKind(StrEnum):
    """The type of a repository, as in `repo_type`."""

    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"

    @property
    def plural(self) -> str:
        """As in `/api/datasets`."""
        return f"{self}s"

    @property
    def url_prefix(self) -> str:
        """The prefix of `namespace/name` outside of `/api`: none for models."""
        return "" if self is RepoKind.MODEL else f"{self}s/"

    @classmethod
    def parse(cls, text: object) -> RepoKind:
        """Parse a JSON field, whose absence means a model.

        Raises:
            BadRequestError: for an unknown type.
        """
        try:
            return cls(str(text or cls.MODEL))
        except ValueError:
            raise BadRequestError(f"type {text!r} is unknown; use model, dataset or space") from None


@dataclass(frozen=True, kw_only=True)
class RepoName:
    """A repository's full name, safe to be a path on disk."""

    kind: RepoKind
    namespace: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.namespace, self.name):
            if not is_plain_name(part) or part.endswith(".git"):
                raise RepoNotFoundError(f"'{self.id}' cannot be the name of a repository")

    @property
    def id(self) -> str:
        """`namespace/name`, which is unique only together with the kind."""
        return f"{self.namespace}/{self.name}"

    @property
    def url_path(self) -> str:
        """The path of its URL outside of `/api`."""
        return f"{self.kind.url_prefix}{self.id}"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


def is_plain_name(text: str) -> bool:
    """Whether the Hub accepts `text` as the name of a user or repository."""
    return bool(_NAME.fullmatch(text)) and "--" not in text and ".." not in text and not text.endswith((".", "-"))


def check_user_name(text: str) -> str:
    """Return `text` if it may be the name of a user.

    Raises:
        BadRequestError: if not; `datasets`, for example, would be ambiguous in a URL.
    """
    if not is_plain_name(text) or text in _RESERVED_NAMESPACES:
        raise BadRequestError(f"'{text}' cannot be a user's name; use letters, digits, '-', '_' and '.'")
    return text


def check_path(path: object) -> str:
    """Return `path`, of a file in a repository, if it is safe on every machine that downloads it.

    Raises:
        RefusedPathError: for an absolute path, `..`, `.git`, control characters or backslashes.
    """
    if not isinstance(path, str) or not path or len(path.encode(errors="replace")) > 4096:
        raise RefusedPathError("a path in a repository is a text of 1 to 4096 bytes")
    segments = path.split("/")
    # 255 bytes is what ext4, APFS and NTFS take as the name of one file.
    if any(part.casefold() in _REFUSED_SEGMENTS or len(part.encode(errors="replace")) > 255 for part in segments):
        raise RefusedPathError(f"path {path!r} is refused; it must be relative, without '..', '.git' or empty parts")
    if "\\" in path or any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in path):
        raise RefusedPathError(f"path {path!r} is refused; it holds a backslash or a control character")
    return path


def branch_ref(name: str) -> Ref:
    """Return the git ref of a branch; raise BadRequestError if git would not take the name."""
    return _checked_ref(f"refs/heads/{name}", name)


def tag_ref(name: str) -> Ref:
    """Return the git ref of a tag; raise BadRequestError if git would not take the name."""
    return _checked_ref(f"refs/tags/{name}", name)


def _checked_ref(ref: str, name: str) -> Ref:
    encoded = Ref(ref.encode(errors="replace"))
    if name.startswith(("refs/", "-")) or len(encoded) > 200 or not check_ref_format(encoded):
        raise BadRequestError(f"{name!r} cannot be the name of a branch or tag")
    return encoded
