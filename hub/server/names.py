"""The names a request may carry: repositories, paths inside them, branches and tags.

Everything that later becomes part of a path on disk is checked here, once, and refused rather than cleaned up.
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
"""`.cache` because the clients keep their download state in it and refuse to upload it."""


class RepoKind(StrEnum):
    """What a repository is for; its place in addresses follows."""

    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"

    @property
    def plural(self) -> str:
        """As in `/api/datasets`."""
        return f"{self}s"

    @property
    def url_prefix(self) -> str:
        """What stands before `namespace/name` outside of `/api`: nothing for models."""
        return "" if self is RepoKind.MODEL else f"{self}s/"

    @classmethod
    def parse(cls, text: object) -> RepoKind:
        """A kind from a JSON field, where nothing means a model.

        Raises:
            BadRequestError: for any other word.
        """
        try:
            return cls(str(text or cls.MODEL))
        except ValueError:
            raise BadRequestError(f"type {text!r} is unknown; use model, dataset or space") from None


@dataclass(frozen=True, kw_only=True)
class RepoName:
    """A repository's full name, fit to be a path on disk."""

    kind: RepoKind
    namespace: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.namespace, self.name):
            if not is_plain_name(part) or part.endswith(".git"):
                raise RepoNotFoundError(f"'{self.id}' cannot be the name of a repository")

    @property
    def id(self) -> str:
        """`namespace/name`, which only together with the kind is unique."""
        return f"{self.namespace}/{self.name}"

    @property
    def url_path(self) -> str:
        """The path of its address outside of `/api`."""
        return f"{self.kind.url_prefix}{self.id}"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


def is_plain_name(text: str) -> bool:
    """Whether the Hub would take `text` as a user's or repository's name."""
    return bool(_NAME.fullmatch(text)) and "--" not in text and ".." not in text and not text.endswith((".", "-"))


def check_user_name(text: str) -> str:
    """Returns `text` if a namespace may be called so.

    Raises:
        BadRequestError: if not; `datasets` would be ambiguous in an address.
    """
    if not is_plain_name(text) or text in _RESERVED_NAMESPACES:
        raise BadRequestError(f"'{text}' cannot be a user's name; use letters, digits, '-', '_' and '.'")
    return text


def check_path(path: object) -> str:
    """Returns `path`, the place of a file in a repository, if it is safe on every machine that downloads it.

    Raises:
        RefusedPathError: for an absolute path, `..`, `.git`, control characters or backslashes.
    """
    if not isinstance(path, str) or not path or len(path.encode(errors="replace")) > 4096:
        raise RefusedPathError("a path in a repository is a text of 1 to 4096 bytes")
    segments = path.split("/")
    if any(
        segment.casefold() in _REFUSED_SEGMENTS or len(segment.encode(errors="replace")) > 255 for segment in segments
    ):
        raise RefusedPathError(f"path {path!r} is refused; it must be relative, without '..', '.git' or empty parts")
    if "\\" in path or any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in path):
        raise RefusedPathError(f"path {path!r} is refused; it holds a backslash or a control character")
    return path


def branch_ref(name: str) -> Ref:
    """The git ref of a branch.

    Raises:
        BadRequestError: if git would not take the name.
    """
    return _checked_ref(f"refs/heads/{name}", name)


def tag_ref(name: str) -> Ref:
    """The git ref of a tag.

    Raises:
        BadRequestError: if git would not take the name.
    """
    return _checked_ref(f"refs/tags/{name}", name)


def _checked_ref(ref: str, name: str) -> Ref:
    encoded = Ref(ref.encode(errors="replace"))
    if name.startswith(("refs/", "-")) or len(encoded) > 200 or not check_ref_format(encoded):
        raise BadRequestError(f"{name!r} cannot be the name of a branch or tag")
    return encoded
