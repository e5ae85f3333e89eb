"""Release the dataset: check what would be published, then publish it as one commit and a tag.

The checks read the very bytes that would be published, whatever was checked before: a card is rendered and a log is
written after the records were checked. A check yields reasons against the release, such as

    README.md holds an access token (hf_A…); take it out, and make a new one: this one was written down
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError

from bonsai.builder.bonsai import RELEASED, VERSION
from bonsai.builder.changes import (
    CARD_PLACE,
    CHANGELOG,
    changelog,
    changelog_entry,
    compare_versions,
    releases,
    rows_of_release,
    version_key,
)
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.privacy import find_secrets, machine_paths, personal_data_issues
from bonsai.builder.errors import ReleaseError
from bonsai.builder.records import display_path, read_groups
from bonsai.builder.rows import group_to_rows
from bonsai.builder.schema import Language
from bonsai.builder.signatures import reader_columns
from bonsai.hub.publish import PreflightCheck, PublishResult, publish_files
from bonsai.hub.repo_files import Files, folder_files, read, size

TAG = f"v{VERSION}"
PICKLED = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
WEIGHTS = ".safetensors"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_ARCHIVED_PICKLE = re.compile(rb"PK\x03\x04.{26,90}\.pkl", re.DOTALL)
"""What torch.save writes: a zip archive with data.pkl in it."""
_HEADER_LIMIT = 100_000_000
"""Bytes; safetensors' own limit."""

_TEXTS = frozenset({".csv", ".html", ".jinja", ".json", ".jsonl", ".md", ".svg", ".txt", ".yaml", ".yml"})
_PROSE = frozenset({".csv", ".md", ".txt"})
"""Written for readers, so personal data in them is real; in a tokenizer's vocabulary a telephone number is chance."""
_HOME = re.compile(r"(?:/(?:home|Users|content|kaggle|mnt|tmp|root)/|\b[A-Z]:\\+Users\\+)[\w.-]+")
_TOKEN_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)
_SHORTEST_TOKEN = 8
_REASONS_SHOWN = 5
"""Of one file."""
_GROUPS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Release:
    """Files to publish as one commit: a dataset, or an adapter with its card."""

    repo_id: str
    repo_type: str
    files: Files
    message: str
    tag: str
    quoted_paths: frozenset[str] = frozenset()
    """paths in the records' own texts, such as /home/taro in an answer about shells; not this machine's"""

    def push(self, api: HfApi, *, may_move_tag: bool, loads: Callable[[str], None] | None = None) -> PublishResult:
        """Publish it; see `bonsai.hub.publish.publish_files`.

        Raises:
            PushError: the version is published with other content, or somebody committed meanwhile.
        """
        wanted = {name: value for name, value in vars(self).items() if name != "quoted_paths"}
        return publish_files(api, **wanted, may_move_tag=may_move_tag, verify=loads)

    def checks(self) -> list[PreflightCheck]:
        """Return the checks that any release has to pass."""
        return [
            PreflightCheck("private", lambda: find_private_text(self.files, self.quoted_paths)),
            PreflightCheck("weights", lambda: find_unsafe_weights(self.files)),
        ]


def dataset_release(dataset: Path, repo_id: str, api: HfApi | None = None) -> Release:
    """Prepare the build in the folder ``dataset`` for publishing.

    Args:
        api: the Hub it goes to: CHANGELOG.md and a section of the card say what changed since its last release.

    Raises:
        ReleaseError: there is no checked build, or it was built for another namespace.
    """
    card = dataset / "README.md"
    if not card.is_file():
        raise ReleaseError(f"{dataset}: no dataset is built here; run `nox -s build` first")
    if not (dataset / "report.json").is_file():
        raise ReleaseError(f"{dataset}: built without the checks; run `nox -s build`, which checks and reports")
    if f'load_dataset("{repo_id}")' not in card.read_text(encoding="utf-8"):
        raise ReleaseError(f"{card}: built for another repo than {repo_id}; run `nox -s build` in this namespace")
    files: dict[str, Path | bytes] = dict(folder_files(dataset))
    if api is not None:
        files |= _describe_changes(api, repo_id, dataset, card.read_text(encoding="utf-8"))
    return Release(
        repo_id=repo_id,
        repo_type="dataset",
        files=files,
        message=f"BONSAI {TAG}",
        tag=TAG,
        quoted_paths=_quoted_paths(dataset),
    )


def _quoted_paths(dataset: Path) -> frozenset[str]:
    """Return the paths that the rows quote, as they stand in a text and as JSON escapes them."""
    texts: set[str] = set()
    for path in (dataset / "default").glob("*.parquet"):
        for column in pq.read_table(path).columns:
            for chunk in column.chunks:
                _collect_strings(chunk, texts)
    found = {path.group() for text in texts for path in _HOME.finditer(text)}
    own = machine_paths()
    quoted = {path for path in found if not path.startswith(own)}
    return frozenset(quoted | {path.replace("\\", "\\\\") for path in quoted})


def _describe_changes(api: HfApi, repo_id: str, dataset: Path, card: str) -> dict[str, bytes]:
    """Return CHANGELOG.md and the card with the changes since the release before this version."""
    # 1. The release before: of a version that is published again, not itself.
    earlier = [tag for tag in releases(api, repo_id) if version_key(tag) < version_key(TAG)]
    if not earlier:
        entry = section = f"## {TAG} ({RELEASED})\n\nThe first release. 最初の版です。\n"
        return _with_changes(card, section, changelog(entry, ""))
    # 2. What changed, and the log that it already has.
    built = [row for path in sorted((dataset / "default").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    difference = compare_versions(
        rows_of_release(api, repo_id, earlier[-1]), {row["id"]: row for row in built}, names=(earlier[-1], TAG)
    )
    try:
        path = api.hf_hub_download(repo_id, CHANGELOG, repo_type="dataset", revision=earlier[-1])
        log = Path(path).read_text(encoding="utf-8")
    except EntryNotFoundError:  # releases from before there was a log
        log = ""
    entry = changelog_entry(difference, released=RELEASED)
    return _with_changes(card, changelog_entry(difference, released=RELEASED, with_groups=False), changelog(entry, log))


def _with_changes(card: str, section: str, log: str) -> dict[str, bytes]:
    section = section.replace("## ", "## Changes in ", 1)
    text = card.replace(CARD_PLACE, f"{section}\nAll versions: [{CHANGELOG}]({CHANGELOG})")
    return {"README.md": text.encode(), CHANGELOG: log.encode()}


def dataset_preflight(release: Release, dataset: Path, records: Path) -> list[PreflightCheck]:
    """Return the checks that a dataset has to pass; ``records`` is the working copy it was built from."""
    return [
        PreflightCheck("checks", lambda: find_check_errors(dataset)),
        PreflightCheck("records", lambda: find_stale_records(dataset, records)),
        *release.checks(),
    ]


def find_check_errors(dataset: Path) -> Iterator[str]:
    """Yield a reason if the report of a build counts errors or cannot be read."""
    path = dataset / "report.json"
    try:
        errors = json.loads(path.read_text(encoding="utf-8"))["counts"]["findings"]["error"]
    except (OSError, ValueError, KeyError, TypeError):
        yield f"{path} cannot be read; run `nox -s build`, which checks and reports"
        return
    if errors:
        yield f"{path} counts {errors} errors in the records; fix them and build again"


def find_stale_records(dataset: Path, records: Path) -> Iterator[str]:
    """Yield a reason if the records have changed since the build.

    Rows are compared, not files: another order of keys or another machine's packages change nothing for a reader.
    """
    built: dict[str, dict[str, object]] = {}
    for path in sorted((dataset / "default").glob("*.parquet")):
        built |= {row["id"]: row for row in pq.read_table(path).to_pylist()}
    groups = {located.group.id: located.group for located in read_groups(records)}
    now: dict[str, dict[str, object]] = {
        row["id"]: {**row, **{name: readers for name, readers in reader_columns(group, row).items() if readers}}
        for group in groups.values()
        for row in group_to_rows(group)
    }
    changed = {str(row["group_id"]) for name, row in built.items() if name not in now}
    for name, row in now.items():
        before = built.get(name)
        # The category is a number in the table, and part of the id in both.
        if before is None or any(before.get(column) != value for column, value in row.items() if column != "category"):
            changed.add(str(row["group_id"]))
    if changed:
        named = ", ".join(sorted(changed)[:_GROUPS_SHOWN])
        more = f" and {len(changed) - _GROUPS_SHOWN} more" if len(changed) > _GROUPS_SHOWN else ""
        yield f"{display_path(records)} differ from what was built, in {named}{more}; run `nox -s build` again"


def find_private_text(files: Files, quoted_paths: Container[str] = ()) -> Iterator[str]:
    """Yield a reason for each key, personal data and path of this machine, with the file that holds it.

    Args:
        quoted_paths: paths that may stand in texts.
    """
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
            strings: set[str] = set()
            for column in pq.read_table(pa.BufferReader(data)).columns:
                for chunk in column.chunks:
                    _collect_strings(chunk, strings)
            reasons = _private_reasons(sorted(strings), check_personal=True)
        elif suffix in _TEXTS:
            text = data.decode("utf-8", errors="replace")
            reasons = _private_reasons(text.splitlines(), check_personal=suffix in _PROSE)
        else:
            continue
        yield from (f"{name} holds {reason}" for reason in islice(reasons, _REASONS_SHOWN))
        if more := sum(1 for _ in reasons):
            yield f"{name} holds {more} more of the kind"
        if suffix in _TEXTS:
            paths = (found.group() for found in _HOME.finditer(text))
            if path := next((path for path in paths if path not in quoted_paths), None):
                yield f"{name} holds {path!r}, a path of this machine; name it as others can find it"


def _private_reasons(texts: Iterable[str], *, check_personal: bool) -> Iterator[str]:
    for text in texts:
        secret = next(find_secrets(text), None)  # several detectors may know the same one
        if secret is not None:
            kind, value = secret
            yield f"{kind} ({value[:4]}…); take it out, and make a new one: this one was written down"
        elif check_personal:
            for issue in personal_data_issues(text, Language.EN):
                if issue.severity is Severity.ERROR:
                    yield f"personal data: {issue.message}; {issue.hint}"


def _collect_strings(array: pa.Array, found: set[str]) -> None:
    """Add every distinct text of an Arrow array, also those in lists and structs."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        found.update(value for value in array.unique().to_pylist() if value is not None)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        _collect_strings(array.flatten(), found)
    elif pa.types.is_struct(array.type):
        for field in array.flatten():
            _collect_strings(field, found)


def find_unsafe_weights(files: Files) -> Iterator[str]:
    """Yield a reason for each pickle, which runs code when loaded, and for each broken safetensors file."""
    for name, content in sorted(files.items()):
        head = _read_head(content, 256)
        if PurePosixPath(name).suffix in PICKLED or _PICKLE.match(head) or _ARCHIVED_PICKLE.match(head):
            yield f"{name} is a pickle, which runs code when it is loaded; save it as safetensors, or leave it out"
        elif name.endswith(WEIGHTS) and (reason := broken_safetensors_reason(content)):
            yield f"{name} is not a complete safetensors file ({reason}); create it again"


def broken_safetensors_reason(content: Path | bytes) -> str | None:
    """Explain what is wrong with a safetensors file: eight bytes of length, a JSON header, the tensors without a gap.

    Format: https://github.com/huggingface/safetensors#format.
    """
    head, total = _read_head(content, 8), size(content)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(total - 8, _HEADER_LIMIT):
        return "its header is longer than the file"
    try:
        header = json.loads(_read_head(content, 8 + length)[8:])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "its header cannot be read"
    expected = 8 + length + max(ends, default=0)
    return None if total == expected else f"{total} bytes, where its header says {expected}"


def _read_head(content: Path | bytes, count: int) -> bytes:
    if isinstance(content, bytes):
        return content[:count]
    with content.open("rb") as file:
        return file.read(count)
