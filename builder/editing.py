"""Change records on disk, the one way in which it is done: single lines, several at once, with undo.

A group is one line of ``<category>.jsonl``. A change rewrites that line and no other byte of the file: unchanged values
keep their spelling, keys their order, the line its end. It names the digest of the line as it was read, and is refused
if the line is another one now. Lines that somebody moved or added in between do not matter.

All changes of one call are made or none, though they may lie in several files: what is to be done is written to a
journal first, and whoever comes next finishes or takes back what a killed process left. The journal lies beside the
folder, hidden and ignored by git (``.records.journal``); undo reads it, newest first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_open, atomic_write_text, exclusive
from bonsai.builder.records import display_path, parse_group
from bonsai.builder.schema import ID_PATTERN

KEY_ORDER = (
    *("id", "category", "topic", "history", "instruction", "input", "text", "reasoning", "output", "ja", "en", "zh"),
    *("original", "skills", "chain", "source", "licence", "license", "generator", "read"),
)
"""Where a key goes that a line did not have yet: before the first of its keys that comes later here."""

STEPS_KEPT = 500
"""that can be undone; a step is some 5 kB"""

_WAIT = 5.0
"""seconds for another process to finish its change, which takes milliseconds"""
_BOM = "\ufeff"
_LEAD = re.compile(r'\s*,?\s*(?=")')
_COLON = re.compile(r"\s*:\s*")
_DECODER = json.JSONDecoder()


class EditConflictError(RecordError):
    """A line is not what it was when it was read; nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class GroupLine:
    """A group as it lies in a file: its line, byte for byte, without the line feed."""

    id: str
    path: Path
    number: int
    raw: bytes

    @cached_property
    def record(self) -> dict[str, Any]:
        """The JSON object of the line."""
        return dict(json.loads(self.raw.decode("utf-8-sig")))

    @property
    def digest(self) -> str:
        """SHA-256 of the line, in hex; a change of the group names it."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def location(self) -> str:
        """``path:line``, as findings and errors name it."""
        return f"{display_path(self.path)}:{self.number}"


@dataclass(frozen=True, kw_only=True)
class GroupChange:
    """What becomes of one group.

    With ``read`` and ``record`` its line is replaced; if the record has another category, and so another id, it moves
    to the end of that category's file. Without ``read`` the record is new. Without ``record`` the group is removed.
    """

    read: GroupLine | None = None
    """the group as it was read"""
    record: Mapping[str, Any] | None = None
    drafts: Path | None = None
    """file to whose end the line of a removed group is added"""


class EditStep(NamedTuple):
    """Changes that were made together."""

    note: str
    """what was done, as the caller said it"""
    groups: tuple[str, ...]
    """their ids"""


@dataclass(kw_only=True)
class _Splice:
    """At one place of a file some lines taken out and others put in; those before it in a step are done already."""

    path: Path
    at: int
    old: list[bytes]
    new: list[bytes]


def read_lines(directory: Path) -> dict[str, GroupLine]:
    """Read the groups of a folder with their lines, by id, in the order of the files and lines.

    A line that is no JSON object with an id is left out here (and told by `records.read_groups`); changes keep it.
    """
    if _pending(directory).exists():
        with _locked(directory):
            _recover(directory)
    found: dict[str, GroupLine] = {}
    for path in sorted(directory.glob("*.jsonl")):
        for line in read_file_lines(path):
            found.setdefault(line.id, line)
    return found


def read_file_lines(path: Path) -> Iterator[GroupLine]:
    """Read the groups of one file with their lines."""
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        if (name := _id_of(raw)) is not None:
            yield GroupLine(id=name, path=path, number=number, raw=raw)


def change_groups(directory: Path, changes: Sequence[GroupChange], *, note: str) -> dict[str, GroupLine]:
    """Make all of the changes or none; return the lines of the folder as they are then.

    Args:
        note: what is done, as `undo` will tell it: ``edit open_qa-0007``.

    Raises:
        EditConflictError: with every group whose line is another one now, or whose id is taken.
        RecordError: with every fault of the new records; nothing is written then.
        FolderInUseError: another process has been writing for seconds.
    """
    with _locked(directory):
        _recover(directory)
        now = read_lines(directory)
        conflicts: list[str] = []
        faults: list[str] = []
        splices: list[_Splice] = []
        files: dict[Path, list[bytes]] = {}
        taken = set(now)
        for change in changes:
            # 1. Find the line as it was read, wherever it is now.
            old = change.read
            here = now.get(old.id) if old is not None else None
            if old is not None and (here is None or here.raw != old.raw):
                place = "is gone" if here is None else f"was changed since it was read (now {here.location})"
                conflicts.append(f"{old.location}: {old.id}: the line {place}; read it again and repeat the change")
                continue
            # 2. Spell the new line: the old one where nothing changed.
            new, name = None, ""
            if change.record is not None:
                name = str(change.record.get("id"))
                if (here is None or here.id != name) and name in taken:
                    conflicts.append(f"{display_path(directory)}: {name}: this id is taken; give it the next free one")
                    continue
                target = directory / f"{change.record.get('category')}.jsonl"
                location = here.location if here is not None else display_path(target)
                try:
                    new = spell(change.record, here.raw if here is not None else b"")
                    parse_group(new.decode("utf-8-sig"), location)
                except UnicodeEncodeError:
                    faults.append(f"{location}: {name}: a text holds half of a character; write it anew")
                except RecordError as error:
                    faults.extend(error.faults)
                if faults:
                    continue
            # 3. Say what that is in lines of files.
            assert new is not None or here is not None, "a change has a line, a record or both"
            if here is not None:
                lines = _load(here.path, files)
                stays = new is not None and here.id == name
                splice = _Splice(path=here.path, at=lines.index(here.raw), old=[here.raw], new=[])
                splice.new = [new] if stays and new is not None else []
                _apply(splice, files)
                splices.append(splice)
            if new is not None and (here is None or here.id != name):
                splices.append(_append(target, new, files))
            if new is None and here is not None and change.drafts is not None:
                splices.append(_append(change.drafts, here.raw, files))
            taken = (taken - ({here.id} if here is not None else set())) | ({name} if name else set())
        if conflicts:
            raise EditConflictError(conflicts)
        if faults:
            raise RecordError(faults)
        # 4. Write: the plan, the files, and that it is done.
        if any(splice.old != splice.new for splice in splices):
            _write(directory, splices, files, note)
        return read_lines(directory)


def spell(record: Mapping[str, Any], line: bytes = b"") -> bytes:
    """Return the line of a record, spelled like the ``line`` it replaces wherever the two agree.

    Example:
        >>> spell({"id": "a", "topic": "tea"}, b'{"id":"a",  "topic":"food"}').decode()
        '{"id":"a",  "topic":"tea"}'

    Raises:
        UnicodeEncodeError: a text holds half of a surrogate pair.
    """
    text = line.decode("utf-8")
    body = text.removeprefix(_BOM).strip()
    if not body:
        return json.dumps(record, ensure_ascii=False).encode()
    before, _, after = text.partition(body)
    # The first separators speak for the line; a line of nothing but ASCII with escapes wants to stay ASCII.
    colon = re.search(r'"(\s*:\s*)', body)
    comma = re.search(r'["\]}](,\s*)"', body)
    style = {
        "separators": (comma[1] if comma else ", ", colon[1] if colon else ": "),
        "ensure_ascii": body.isascii() and re.search(r"\\u(?!00[01])", body) is not None,
    }
    return (before + _respell(body, dict(record), style) + after).encode()


def _respell(text: str, value: Any, style: Mapping[str, Any]) -> str:
    old = json.loads(text)
    if json.dumps(old) == json.dumps(value):  # == would take True for 1
        return text
    if not (isinstance(old, dict) and isinstance(value, dict) and old.keys() & value.keys()):
        return json.dumps(value, **style)
    # 1. The members as they are spelled: what is before a key, the key with its colon, the value.
    members: dict[str, tuple[str, str, str]] = {}
    at = 1
    while (lead := _LEAD.match(text, at)) is not None:
        key, after = _DECODER.raw_decode(text, lead.end())
        start = after + len(_COLON.match(text, after)[0])  # type: ignore[index]  # `json.loads` has read it
        _, end = _DECODER.raw_decode(text, start)
        members[key] = (lead[0], text[lead.end() : start], text[start:end])
        at = end
    # 2. Old keys in their order, new ones where they belong.
    keys = [key for key in old if key in value]
    rank = {key: number for number, key in enumerate(KEY_ORDER)}
    for key in value:
        if key not in old:
            later = (n for n, other in enumerate(keys) if rank.get(other, len(rank)) > rank.get(key, len(rank)))
            keys.insert(next(later, len(keys)), key)
    # 3. Put them together; whichever is first gets what followed the brace.
    comma, colon = style["separators"]
    opening = next(iter(members.values()))[0]
    spelled = "{"
    for key in keys:
        before, name, was = members.get(key, (comma, json.dumps(key, ensure_ascii=style["ensure_ascii"]) + colon, ""))
        before = opening if spelled == "{" else comma if before == opening else before
        spelled += before + name + (_respell(was, value[key], style) if was else json.dumps(value[key], **style))
    return spelled + text[at:]


def next_free_id(category: str, ids: Sequence[str]) -> str:
    """Return the id after the highest that the category has among ``ids``, which may hold others."""
    numbers = [
        int(found["number"])
        for name in ids
        if (found := re.fullmatch(ID_PATTERN, name)) and found["category"] == category
    ]
    return f"{category}-{max(numbers, default=0) + 1:04d}"


def undo(directory: Path) -> EditStep | None:
    """Take back the newest step; return it, or None if there is none.

    Raises:
        EditConflictError: a line that the step wrote is another one now; nothing was changed.
    """
    with _locked(directory):
        _recover(directory)
        newest = max(_journal(directory).glob("[0-9]*.json"), default=None)
        if newest is None:
            return None
        plan = json.loads(newest.read_text(encoding="utf-8"))
        step = EditStep(note=plan["note"], groups=tuple(plan["groups"]))
        files: dict[Path, list[bytes]] = {}
        back = _inverse(_load_splices(directory, plan))
        for splice in back:
            lines = _load(splice.path, files)
            if lines[splice.at : splice.at + len(splice.old)] != splice.old:
                # somebody added or removed lines above: look for it elsewhere
                places = [at for at in range(len(lines)) if lines[at : at + len(splice.old)] == splice.old]
                if not splice.old:
                    splice.at = min(splice.at, len(lines) - 1)
                elif len(places) == 1:
                    splice.at = places[0]
                else:
                    raise EditConflictError(
                        [
                            f"{display_path(splice.path)}: {', '.join(step.groups)}: the line was changed after "
                            f"“{step.note}”, so that step cannot be undone; edit the group instead"
                        ]
                    )
            _apply(splice, files)
        _write(directory, back, files, f"undo {step.note}", undoes=newest.name)
        return step


def _id_of(raw: bytes) -> str | None:
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    name = record.get("id") if isinstance(record, dict) else None
    return name if isinstance(name, str) else None


def _load(path: Path, files: dict[Path, list[bytes]]) -> list[bytes]:
    """Return the lines of a file as changed so far; the last one is empty if the file ends with a line feed."""
    if path not in files:
        files[path] = (path.read_bytes() if path.exists() else b"").split(b"\n")
    return files[path]


def _append(path: Path, line: bytes, files: dict[Path, list[bytes]]) -> _Splice:
    lines = _load(path, files)
    ends = lines[-1] == b""
    line = line.removeprefix(_BOM.encode()).removesuffix(b"\r") + (b"\r" if lines[0].endswith(b"\r") else b"")
    splice = _Splice(path=path, at=len(lines) - ends, old=[], new=[line] if ends else [line, b""])
    _apply(splice, files)
    return splice


def _apply(splice: _Splice, files: dict[Path, list[bytes]]) -> None:
    _load(splice.path, files)[splice.at : splice.at + len(splice.old)] = splice.new


def _inverse(splices: Sequence[_Splice]) -> list[_Splice]:
    return [_Splice(path=s.path, at=s.at, old=s.new, new=s.old) for s in reversed(splices)]


# The journal: one file for each step that was made, and one for the step that is being made.


def _journal(directory: Path) -> Path:
    real = directory.resolve()
    return real.with_name(f".{real.name}.journal")


def _pending(directory: Path) -> Path:
    return _journal(directory) / "pending.json"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with exclusive(
        directory, wait=_WAIT, remedy="wait until it has ended and repeat the change. 終わってからやり直してください。"
    ):
        yield


def _write(
    directory: Path,
    splices: Sequence[_Splice],
    files: Mapping[Path, list[bytes]],
    note: str,
    *,
    undoes: str | None = None,
) -> None:
    """Write files in one step that a killed process cannot leave half done."""
    journal = _journal(directory)
    journal.mkdir(exist_ok=True)
    if not (journal / ".gitignore").exists():
        atomic_write_text(journal / ".gitignore", "*\n")
    contents = {path: b"\n".join(lines) for path, lines in files.items()}
    ids = [name for splice in splices for line in (*splice.old, *splice.new) if (name := _id_of(line)) is not None]
    plan = {
        "note": note,
        "groups": list(dict.fromkeys(ids)),
        "undoes": undoes,
        "splices": [
            {
                "file": _name(directory, splice.path),
                "at": splice.at,
                "old": [line.decode("utf-8", "surrogateescape") for line in splice.old],
                "new": [line.decode("utf-8", "surrogateescape") for line in splice.new],
            }
            for splice in splices
        ],
        "after": {_name(directory, path): hashlib.sha256(data).hexdigest() for path, data in contents.items()},
    }
    _replace(_pending(directory), json.dumps(plan).encode())
    for path, data in contents.items():
        _replace(path, data)
    _finish(directory, plan)


def _name(directory: Path, path: Path) -> str:
    """Name a file relative to the folder, so that a checkout may be moved."""
    return os.path.relpath(path.resolve(), directory.resolve())


def _replace(path: Path, data: bytes) -> None:
    """Write a file for good: unlike what a build makes, nobody can make records again after a power cut."""
    real = path.resolve()  # an editable installation links each file
    if not data:
        real.unlink(missing_ok=True)
        return
    real.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(real) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if real.exists():
            os.chmod(file.name, real.stat().st_mode & 0o7777)


def _finish(directory: Path, plan: Mapping[str, Any]) -> None:
    """Put the step that was made among those that can be undone, or take the undone one from there."""
    journal = _journal(directory)
    if plan["undoes"] is not None:
        (journal / plan["undoes"]).unlink(missing_ok=True)
        _pending(directory).unlink()
        return
    made = sorted(journal.glob("[0-9]*.json"))
    _pending(directory).replace(journal / f"{int(made[-1].stem) + 1 if made else 1:06d}.json")
    for oldest in made[: max(0, len(made) + 1 - STEPS_KEPT)]:
        oldest.unlink()


def _recover(directory: Path) -> None:
    """Finish a step whose files were all written before its process was killed; take any other one back."""
    if not _pending(directory).exists():
        return
    plan = json.loads(_pending(directory).read_text(encoding="utf-8"))
    written = set()
    for name, after in plan["after"].items():
        path = directory.resolve() / name
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest() == after:
            written.add(path)
    if len(written) == len(plan["after"]):
        _finish(directory, plan)
        return
    files: dict[Path, list[bytes]] = {}
    for splice in _inverse(_load_splices(directory, plan)):
        if splice.path in written:
            _apply(splice, files)
    for path, lines in files.items():
        _replace(path, b"\n".join(lines))
    _pending(directory).unlink()


def _load_splices(directory: Path, plan: Mapping[str, Any]) -> list[_Splice]:
    return [
        _Splice(
            path=directory.resolve() / kept["file"],
            at=kept["at"],
            old=[line.encode("utf-8", "surrogateescape") for line in kept["old"]],
            new=[line.encode("utf-8", "surrogateescape") for line in kept["new"]],
        )
        for kept in plan["splices"]
    ]
