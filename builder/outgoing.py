"""What must not leave this machine in a release: keys, personal data, paths of this machine, weights that run code.

Looked for in the very bytes that would go out, whatever was checked before: a card is rendered and a log is written
after the records were checked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.personal_data import personal
from bonsai.builder.checks.secrets import secrets
from bonsai.builder.schema import Language
from bonsai.hub.client.content import Files, read, size

PICKLED = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
WEIGHTS = ".safetensors"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_ARCHIVED_PICKLE = re.compile(rb"PK\x03\x04.{26,90}\.pkl", re.DOTALL)
"""what torch.save writes: a zip archive with data.pkl in it"""
_HEADER_LIMIT = 100_000_000
"""bytes; safetensors' own limit"""

_TEXTS = frozenset({".csv", ".html", ".jinja", ".json", ".jsonl", ".md", ".svg", ".txt", ".yaml", ".yml"})
_PROSE = frozenset({".csv", ".md", ".txt"})
"""written or rendered for readers; in a tokenizer's vocabulary a telephone number is an accident"""
_HOME = re.compile(r"(?:/(?:home|Users|content|kaggle|mnt|tmp|root)/|\b[A-Z]:\\+Users\\+)[\w.-]+")
_TOKEN_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)
_SHORTEST_TOKEN = 8
_TOLD = 5
"""reasons told of one file"""


def unsafe_weights(files: Files) -> Iterator[str]:
    """Reasons why a stranger had better not load these files."""
    for name, content in sorted(files.items()):
        head = _head(content)
        if PurePosixPath(name).suffix in PICKLED or _PICKLE.match(head) or _ARCHIVED_PICKLE.match(head):
            yield f"{name} is a pickle, which runs code where it is loaded; save it as safetensors, or leave it out"
        elif name.endswith(WEIGHTS) and (fault := _fault_of(content)):
            yield f"{name} is not whole safetensors ({fault}); make it again"


def private_texts(files: Files) -> Iterator[str]:
    """Keys, personal data and paths of this machine, each with its file."""
    tokens = {
        value.encode(): variable
        for variable, value in os.environ.items()
        if _TOKEN_NAME.search(variable) and len(value) >= _SHORTEST_TOKEN
    }
    for name, content in sorted(files.items()):
        data = read(content)
        yield from (f"{name} holds the value of {tokens[token]}; take it out" for token in tokens if token in data)
        suffix = PurePosixPath(name).suffix
        if suffix == ".parquet":
            yield from _told(name, sorted(_strings(data)), check_personal=True)
        elif suffix in _TEXTS:
            text = data.decode("utf-8", errors="replace")
            yield from _told(name, text.splitlines(), check_personal=suffix in _PROSE)
            if path := _HOME.search(text):
                yield f"{name} holds {path.group()!r}, a path of this machine; name it as others can find it"


def _told(name: str, texts: Iterable[str], *, check_personal: bool) -> Iterator[str]:
    count = 0
    for reason in _reasons(texts, check_personal=check_personal):
        count += 1
        if count <= _TOLD:
            yield f"{name} holds {reason}"
    if count > _TOLD:
        yield f"{name} holds {count - _TOLD} more of the kind"


def _reasons(texts: Iterable[str], *, check_personal: bool) -> Iterator[str]:
    for text in texts:
        secret = next(secrets(text), None)  # several detectors may know one and the same
        if secret is not None:
            kind, value = secret
            yield f"{kind} ({value[:4]}…); take it out, and make a new one: this one was written down"
        elif check_personal:
            for fault in personal(text, Language.EN):
                if fault.severity is Severity.ERROR:
                    yield f"personal data: {fault.what}; {fault.why}"


def _strings(parquet: bytes) -> set[str]:
    """Every distinct text of a table, also those in lists and structs."""
    found: set[str] = set()
    for column in pq.read_table(pa.BufferReader(parquet)).columns:
        for chunk in column.chunks:
            _collect(chunk, found)
    return found


def _collect(array: pa.Array, found: set[str]) -> None:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        found.update(value for value in array.unique().to_pylist() if value is not None)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        _collect(array.flatten(), found)
    elif pa.types.is_struct(array.type):
        for field in array.flatten():
            _collect(field, found)


def _fault_of(content: Path | bytes) -> str | None:
    """What is wrong with a safetensors file: eight bytes of length, a JSON header, and the tensors without a gap.

    Format: https://github.com/huggingface/safetensors#format.
    """
    head, whole = _head(content), size(content)
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > min(whole - 8, _HEADER_LIMIT):
        return "its header is longer than the file"
    try:
        header = json.loads(_head(content, 8 + length)[8:])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "its header cannot be read"
    if whole != 8 + length + max(ends, default=0):
        return f"{whole} bytes, where its header says {8 + length + max(ends, default=0)}"
    return None


def _head(content: Path | bytes, count: int = 256) -> bytes:
    if isinstance(content, bytes):
        return content[:count]
    with content.open("rb") as file:
        return file.read(count)
