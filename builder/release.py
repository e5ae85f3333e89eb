"""Release the dataset: check what would be published, then publish it as one commit and a tag.

Looked for in the very bytes that would go out, whatever was checked before: a card is rendered and a log is written
after the records were checked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi

from bonsai.builder.bonsai import VERSION
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.privacy import find_secrets, personal_data_issues
from bonsai.builder.errors import BonsaiError
from bonsai.builder.records import display_path, read_groups
from bonsai.builder.rows import Row, group_to_rows
from bonsai.builder.schema import Language
from bonsai.hub.publish import PreflightCheck, PublishResult, publish_files
from bonsai.hub.repo_files import Files, folder_files, read, size

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


def find_unsafe_weights(files: Files) -> Iterator[str]:
    """Reasons why a stranger had better not load these files."""
    for name, content in sorted(files.items()):
        head = _head(content)
        if PurePosixPath(name).suffix in PICKLED or _PICKLE.match(head) or _ARCHIVED_PICKLE.match(head):
            yield f"{name} is a pickle, which runs code where it is loaded; save it as safetensors, or leave it out"
        elif name.endswith(WEIGHTS) and (fault := _fault_of(content)):
            yield f"{name} is not whole safetensors ({fault}); make it again"


def find_private_text(files: Files) -> Iterator[str]:
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
            yield from _limited(name, sorted(_strings(data)), check_personal=True)
        elif suffix in _TEXTS:
            text = data.decode("utf-8", errors="replace")
            yield from _limited(name, text.splitlines(), check_personal=suffix in _PROSE)
            if path := _HOME.search(text):
                yield f"{name} holds {path.group()!r}, a path of this machine; name it as others can find it"


def _limited(name: str, texts: Iterable[str], *, check_personal: bool) -> Iterator[str]:
    count = 0
    for reason in _private_spans(texts, check_personal=check_personal):
        count += 1
        if count <= _TOLD:
            yield f"{name} holds {reason}"
    if count > _TOLD:
        yield f"{name} holds {count - _TOLD} more of the kind"


def _private_spans(texts: Iterable[str], *, check_personal: bool) -> Iterator[str]:
    for text in texts:
        secret = next(find_secrets(text), None)  # several detectors may know one and the same
        if secret is not None:
            kind, value = secret
            yield f"{kind} ({value[:4]}…); take it out, and make a new one: this one was written down"
        elif check_personal:
            for fault in personal_data_issues(text, Language.EN):
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


TAG = f"v{VERSION}"
_NAMED = 5
"""groups named in a reason before it says how many more there are"""


class ReleaseError(BonsaiError):
    """Something stands in the way of a release; nothing was published."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What is to be published as one commit: a dataset, or an adapter with its card."""

    repo_id: str
    repo_type: str
    files: Files
    message: str
    tag: str

    def push(self, api: HfApi, *, may_move_tag: bool, loads: Callable[[str], None] | None = None) -> PublishResult:
        """Publish it; see `bonsai.hub.publish.publish_files`."""
        return publish_files(
            api,
            repo_id=self.repo_id,
            repo_type=self.repo_type,
            files=self.files,
            message=self.message,
            tag=self.tag,
            may_move_tag=may_move_tag,
            verify=loads,
        )

    def checks(self) -> list[PreflightCheck]:
        """What must be in order in anything that goes out."""
        return [
            PreflightCheck("private", lambda: find_private_text(self.files)),
            PreflightCheck("weights", lambda: find_unsafe_weights(self.files)),
        ]


def dataset_release(dataset: Path, repo_id: str) -> Release:
    """What lies in ``dataset``, to be published.

    Raises:
        ReleaseError: there is no build, or it was built for another namespace.
    """
    card = dataset / "README.md"
    if not card.is_file():
        raise ReleaseError(f"{dataset}: no dataset is built here; run `nox -s build` first")
    if not (dataset / "report.json").is_file():
        raise ReleaseError(f"{dataset}: built without the checks; run `nox -s build`, which checks and reports")
    if f'load_dataset("{repo_id}")' not in card.read_text(encoding="utf-8"):
        raise ReleaseError(f"{card}: built for another repo than {repo_id}; run `nox -s build` in this namespace")
    return Release(repo_id=repo_id, repo_type="dataset", files=folder_files(dataset), message=f"BONSAI {TAG}", tag=TAG)


def dataset_preflight(release: Release, dataset: Path, records: Path) -> list[PreflightCheck]:
    """What must be in order before a dataset is published; ``records`` is the working copy it was built from."""
    return [
        PreflightCheck("checks", lambda: _check_errors(dataset)),
        PreflightCheck("records", lambda: _stale_records(dataset, records)),
        *release.checks(),
    ]


def release_dataset(
    api: HfApi, dataset: Path, repo_id: str, *, may_move_tag: bool, loads: Callable[[str], None] | None = None
) -> PublishResult:
    """Publish what lies in ``dataset``.

    Raises:
        ReleaseError: there is no build, or it was built for another namespace.
        PushError: the version is published with other content, or somebody committed meanwhile.
    """
    return dataset_release(dataset, repo_id).push(api, may_move_tag=may_move_tag, loads=loads)


def _check_errors(dataset: Path) -> Iterator[str]:
    path = dataset / "report.json"
    try:
        errors = json.loads(path.read_text(encoding="utf-8"))["counts"]["findings"]["error"]
    except (OSError, ValueError, KeyError, TypeError):
        yield f"{path} cannot be read; run `nox -s build`, which checks and reports"
        return
    if errors:
        yield f"{path} counts {errors} errors in the records; mend them and build again"


def _stale_records(dataset: Path, records: Path) -> Iterator[str]:
    """Compares rows, not files: another order of keys or another machine's packages change nothing for a reader."""
    built: dict[str, dict[str, object]] = {}
    for path in sorted((dataset / "default").glob("*.parquet")):
        built |= {row["id"]: row for row in pq.read_table(path).to_pylist()}
    groups = {located.group.id: located.group for located in read_groups(records)}
    now = {row["id"]: row for group in groups.values() for row in group_to_rows(group)}
    changed = {row["group_id"] for name, row in now.items() if not _same(row, built.get(name))}
    changed |= {str(row["group_id"]) for name, row in built.items() if name not in now}
    if changed:
        named = ", ".join(sorted(changed)[:_NAMED])
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        yield f"{display_path(records)} differ from what was built, in {named}{more}; run `nox -s build` again"


def _same(row: Row, built: dict[str, object] | None) -> bool:
    """The category is a number in the table, and part of the id in both."""
    return built is not None and all(built.get(name) == value for name, value in row.items() if name != "category")
