"""Which files go to git itself and which to the large-file store, and which are not to be uploaded at all."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

from dulwich.attrs import GitAttributes, compile_gitattributes_patterns, parse_git_attributes
from dulwich.ignore import IgnoreFilter, read_ignore_patterns
from dulwich.objects import Commit

from bonsai.hub.errors import EntryNotFoundError
from bonsai.hub.repository import Repository

REGULAR_LIMIT = 10_000_000
"""Bytes. The Hub refuses larger files in git."""
_SUFFIXES = """
.7z .arrow .avro .bin .bz2 .ckpt .flac .ftz .gguf .gif .gz .h5 .jpeg .jpg .joblib .lz4 .mds .mlmodel .model .mp3 .mp4
.msgpack .npy .npz .ogg .onnx .ot .parquet .pb .pcm .pickle .pkl .png .pt .pth .rar .raw .safetensors .sam .tar
.tflite .tgz .wasm .wav .webm .webp .xz .zip .zst
"""
LFS_SUFFIXES = tuple(_SUFFIXES.split())
_TRACKED = "filter=lfs diff=lfs merge=lfs -text\n"
FIRST_ATTRIBUTES = "".join(
    f"{pattern} {_TRACKED}"
    for pattern in (*(f"*{suffix}" for suffix in LFS_SUFFIXES), "*tfevents*", "saved_model/**/*")
).encode()
"""The `.gitattributes` of a new repository: the patterns the Hub writes into a new dataset or model."""


@dataclass(frozen=True, kw_only=True)
class UploadRules:
    """A repository's `.gitattributes` and `.gitignore`."""

    attributes: GitAttributes
    ignored: IgnoreFilter

    def is_large(self, path: str, *, size: int, sample: bytes) -> bool:
        """Whether the file goes to the large-file store: by the repository's rules, its suffix, size or first bytes."""
        if size == 0:
            return False
        if size > REGULAR_LIMIT or tracks(self.attributes, path):
            return True
        opted_out = self.attributes.match_path(path.encode()).get(b"filter") is False
        return not opted_out and (PurePosixPath(path).suffix.casefold() in LFS_SUFFIXES or _is_binary(sample))

    def ignores(self, path: str) -> bool:
        """Whether `.gitignore` keeps the file out."""
        return bool(self.ignored.is_ignored(path))


def upload_rules(repository: Repository, commit: Commit, *, gitignore: str | None = None) -> UploadRules:
    """The rules of a repository at a commit; `gitignore` replaces the one it holds."""
    ignore = _content(repository, commit, ".gitignore") if gitignore is None else gitignore.encode()
    return UploadRules(
        attributes=parse_attributes(_content(repository, commit, ".gitattributes")),
        ignored=IgnoreFilter(read_ignore_patterns(BytesIO(ignore))),
    )


def parse_attributes(content: bytes) -> GitAttributes:
    """The content of a `.gitattributes`; lines git could not read are passed over."""
    return GitAttributes(compile_gitattributes_patterns(parse_git_attributes(BytesIO(content))))


def tracks(attributes: GitAttributes, path: str) -> bool:
    """Whether `.gitattributes` sends the file to the large-file store."""
    return attributes.match_path(path.encode()).get(b"filter") == b"lfs"


def attribute_line(path: str) -> bytes:
    """The line that makes git itself treat one file as large; the Hub adds it when no pattern covers the file."""
    escaped = "".join(f"\\{letter}" if letter in "*?[" else letter for letter in path)
    return f"/{escaped.replace(' ', '[[:space:]]')} {_TRACKED}".encode()


def _content(repository: Repository, commit: Commit, path: str) -> bytes:
    try:
        return repository.content(repository.node(commit, path))
    except EntryNotFoundError:
        return b""


def _is_binary(sample: bytes) -> bool:
    """The sample may end in the middle of a character, so a character cut short at its end says nothing."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data" or error.start < len(sample) - 3
    return b"\x00" in sample
