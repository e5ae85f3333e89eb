"""Compare two versions of the dataset: rows added, changed word by word, and removed; and write the CHANGELOG.

A version is a mapping of row ids to rows, read from a release on a Hub or made from the records. Only columns that a
reader sees are compared, under today's names, so that a renamed column changes no row. Example, as a table:

    rows   added  changed  removed  unchanged
    ja       398       12        0        864
"""

from __future__ import annotations

import difflib
import itertools
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bonsai.builder.assets import html_environment, load_text, render_page
from bonsai.builder.errors import ReleaseError
from bonsai.builder.records import SourcedGroup
from bonsai.builder.rows import group_to_rows
from bonsai.builder.schema import CATEGORIES

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CHANGELOG = "CHANGELOG.md"
CARD_PLACE = "<!-- changes -->"
"""The line of the built card whose place the changes take when it is published."""
COMPARED = (
    *("topic", "history", "instruction", "input", "reasoning", "output", "reasoning_original", "input_original"),
    *("language", "source_language", "chain", "step", "skills", "source", "license", "generator"),
)
_EARLIER_NAMES = {"license": "licence"}
_HEADER = "# Changes\n\nWhat moved from version to version, by group. 版ごとの変更。\n"
_WORD = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’][a-z]+)?|\d+|\s+|.", re.DOTALL)
"""A word of Latin letters, a number, or one character of any other script."""

Rows = Mapping[str, Mapping[str, Any]]
"""By id."""
Kind = Literal["added", "changed", "removed"]
KINDS: tuple[Kind, ...] = ("added", "changed", "removed")


class FieldChange(NamedTuple):
    """A column of a row before and after, as text; empty where there is nothing."""

    name: str
    before: str
    after: str

    def words(self) -> Iterator[tuple[Literal["same", "removed", "added"], str]]:
        """Yield the text in pieces: what stayed, what went and what came."""
        old, new = _WORD.findall(self.before), _WORD.findall(self.after)
        for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind == "equal":
                yield "same", "".join(old[a:b])
                continue
            if b > a:
                yield "removed", "".join(old[a:b])
            if d > c:
                yield "added", "".join(new[c:d])


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """A row that is not as it was."""

    id: str
    group_id: str
    language: str
    kind: Kind
    fields: tuple[FieldChange, ...]
    """of a changed row, those that differ; of another, its texts"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What changed from one version to another, in the order of the groups."""

    before: str
    after: str
    rows: Sequence[RowChange]
    unchanged: Mapping[str, int]
    """rows by language"""
    kept: frozenset[str]
    """groups of which at least one row is unchanged"""

    def counts(self) -> dict[str, Counter[str]]:
        """Count added, changed, removed and unchanged rows by language."""
        found = {language: Counter({"unchanged": number}) for language, number in self.unchanged.items()}
        for row in self.rows:
            found.setdefault(row.language, Counter())[row.kind] += 1
        return dict(sorted(found.items()))

    def groups(self) -> dict[str, tuple[Kind, list[RowChange]]]:
        """Return the rows by group; a group is new or gone if all of its rows are, and changed otherwise."""
        found: dict[str, tuple[Kind, list[RowChange]]] = {}
        for group_id, rows in itertools.groupby(self.rows, key=lambda row: row.group_id):
            members = list(rows)
            kinds = {row.kind for row in members}
            whole = kinds == {"added"} or kinds == {"removed"}
            found[group_id] = (kinds.pop() if whole and group_id not in self.kept else "changed", members)
        return found


def compare_versions(before: Rows, after: Rows, *, names: tuple[str, str]) -> Difference:
    """Compare two versions row by row; ``names`` are what they are called."""
    changes: list[RowChange] = []
    unchanged: Counter[str] = Counter()
    kept: set[str] = set()
    groups = {row["group_id"] for row in itertools.chain(after.values(), before.values())}
    ids: dict[str, list[str]] = {group: [] for group in sorted(groups, key=_group_key)}
    for row_id, row in {**after, **{name: row for name, row in before.items() if name not in after}}.items():
        ids[row["group_id"]].append(row_id)
    for group_id, row_ids in ids.items():
        for row_id in row_ids:
            old, new = before.get(row_id), after.get(row_id)
            row = new if new is not None else before[row_id]
            fields = [FieldChange(name, _as_text(old, name), _as_text(new, name)) for name in COMPARED]
            differing = tuple(field for field in fields if field.before != field.after)
            if old is not None and new is not None and not differing:
                unchanged[row["language"]] += 1
                kept.add(group_id)
                continue
            kind: Kind = "added" if old is None else "removed" if new is None else "changed"
            changes.append(
                RowChange(id=row_id, group_id=group_id, language=row["language"], kind=kind, fields=differing)
            )
    return Difference(before=names[0], after=names[1], rows=changes, unchanged=unchanged, kept=frozenset(kept))


def _group_key(group_id: str) -> tuple[int, str]:
    category = group_id.rpartition("-")[0]
    return (CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES), group_id)


def _as_text(row: Mapping[str, Any] | None, name: str) -> str:
    value = None if row is None else row.get(name, row.get(_EARLIER_NAMES.get(name, name)))
    if name == "history":
        return "\n".join("\n".join(turn) for turn in value or ())
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def rows_of_records(groups: Iterable[SourcedGroup]) -> dict[str, Mapping[str, Any]]:
    """Make the rows that a build of these groups would have."""
    return {row["id"]: row for located in groups for row in group_to_rows(located.group)}


def rows_of_release(api: HfApi, repo_id: str, tag: str) -> dict[str, Mapping[str, Any]]:
    """Fetch the rows of a release.

    Raises:
        ReleaseError: the dataset has no such release; those that it has are named.
    """
    from pyarrow import parquet

    known = releases(api, repo_id)
    if tag not in known:
        there = f"it has {', '.join(known)}" if known else "it has none yet; publish one first"
        raise ReleaseError(f"{repo_id} has no release {tag!r}; {there}")
    with tempfile.TemporaryDirectory() as folder:
        api.snapshot_download(
            repo_id, repo_type="dataset", revision=tag, local_dir=folder, allow_patterns="default/*.parquet"
        )
        # the order of the splits, not of the alphabet
        paths = sorted(Path(folder).rglob("*.parquet"), key=lambda path: ("train" not in path.name, path.name))
        found = [row for path in paths for row in parquet.read_table(path).to_pylist()]
    return {row["id"]: row for row in found}


def releases(api: HfApi, repo_id: str) -> list[str]:
    """Return the tags of a dataset that are versions, oldest first; none if it is not on this Hub."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        refs = api.list_repo_refs(repo_id, repo_type="dataset")
    except RepositoryNotFoundError:
        return []
    tags = [ref.name for ref in refs.tags if re.fullmatch(r"v\d+(?:\.\d+)*", ref.name)]
    return sorted(tags, key=version_key)


def version_key(tag: str) -> tuple[int, ...]:
    """Return what sorts tags by version: ``v0.10.0`` -> (0, 10, 0)."""
    return tuple(int(number) for number in tag.removeprefix("v").split("."))


def changes_json(difference: Difference) -> dict[str, Any]:
    """Return the difference as plain data for machines."""
    return {
        "from": difference.before,
        "to": difference.after,
        "rows": {language: dict(counted) for language, counted in difference.counts().items()},
        "groups": [
            {
                "id": group_id,
                "change": kind,
                "rows": [
                    {
                        "id": row.id,
                        "language": row.language,
                        "change": row.kind,
                        "fields": {field.name: {"before": field.before, "after": field.after} for field in row.fields},
                    }
                    for row in rows
                ],
            }
            for group_id, (kind, rows) in difference.groups().items()
        ],
    }


def changes_html(difference: Difference) -> str:
    """Render the difference as one self-contained page in English and Japanese."""
    return render_page(
        html_environment(__package__).get_template("changes.html.j2"),
        style=load_text(__package__, "changes.css"),
        difference=difference,
        counts=difference.counts(),
        groups=difference.groups(),
        kinds=KINDS,
    )


def changelog_entry(difference: Difference, *, released: str, with_groups: bool = True) -> str:
    """Write the Markdown entry of a version: counts by language, and the groups by what happened to them."""
    by_kind: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for group_id, (kind, _) in difference.groups().items():
        by_kind[kind].append(group_id)
    numbers = ", ".join(f"{len(ids)} {kind}" for kind, ids in by_kind.items())
    lines = [f"## {difference.after} ({released})", "", f"Since {difference.before}: groups {numbers}.", ""]
    lines += ["| rows | added | changed | removed | unchanged |", "|---|--:|--:|--:|--:|"]
    for language, counted in difference.counts().items():
        lines.append(f"| {language} | " + " | ".join(str(counted[kind]) for kind in (*KINDS, "unchanged")) + " |")
    for kind, ids in by_kind.items():
        if ids and with_groups:
            lines += ["", f"Groups {kind}: {', '.join(id_ranges(ids))}."]
    return "\n".join(lines) + "\n"


def id_ranges(ids: Sequence[str]) -> Iterator[str]:
    """Yield ids with runs drawn together: ``open_qa-0101 to -0103``."""
    numbered = [(*one.rpartition("-")[::2], one) for one in ids]
    # neighbours in a run have the same difference between number and place
    keyed = itertools.groupby(
        enumerate(numbered), key=lambda item: (item[1][0], int(item[1][1]) - item[0] if item[1][1].isdigit() else -1)
    )
    for _, run in keyed:
        members = [entry for _, (_, _, entry) in run]
        yield members[0] if len(members) == 1 else f"{members[0]} to -{members[-1].rpartition('-')[2]}"


def changelog(entry: str, earlier: str) -> str:
    """Put an entry above those of the CHANGELOG of the release before, which may be empty."""
    return "\n\n".join(filter(None, (_HEADER.strip(), entry.strip(), earlier.removeprefix(_HEADER).strip()))) + "\n"
