"""Hold the records as the desk shows them, keep their findings up to date, and make the changes that the page asks for.

The files are the truth: before each answer the desk looks whether they changed, by whomever. Checking everything runs
beside it when it opens; after that only what changed is checked again.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.checks.form import count_marks
from bonsai.builder.checks.incremental import RelationIndex, check_alone
from bonsai.builder.desk.check_all import check_all_apart
from bonsai.builder.editing import (
    EditConflictError,
    GroupChange,
    GroupLine,
    change_groups,
    next_free_id,
    read_file_lines,
    read_lines,
    spell,
    undo,
)
from bonsai.builder.errors import RecordError
from bonsai.builder.records import SourcedGroup, default_probes, display_path, parse_group, read_file, read_probes
from bonsai.builder.report import public_location
from bonsai.builder.rows import assign_split
from bonsai.builder.samples import read_samples
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Category, Language, Text, TextGroup, TranslationText
from bonsai.builder.signatures import agreements, count_readings, digest_text, is_stale, sign

_MANY = 40
"""changed groups from which everything is checked anew: some 0.3 s each, against some ten seconds"""
_HEAD = 70
"""characters of a text that a row shows"""
_OWN = ("id", "category", "topic")
"""keys whose text no other group takes over"""
_GRAVITY = list(Severity)


class _File(NamedTuple):
    """A file of records as it was read, and the time and size by which a change of it is noticed."""

    stamp: tuple[int, int]
    lines: list[GroupLine]
    groups: list[SourcedGroup]
    faults: list[str]


class Refusal(NamedTuple):
    """What is on disk now in place of the group that the page wanted to change."""

    message: str
    record: dict[str, Any] | None
    digest: str | None


class Desk:
    """The records of one folder.

    Args:
        drafts: folder for the groups that are taken out.
    """

    def __init__(self, directory: Path, drafts: Path) -> None:
        self.directory = directory
        self._drafts = drafts
        self._probes = read_probes(default_probes())
        self._lock = threading.RLock()
        self._checking = threading.Lock()
        """held around checks, so that reading and saving need not wait for them; taken before the other one"""
        self._files: dict[Path, _File] = {}
        self._lines: dict[str, GroupLine] = {}
        self._groups: dict[str, SourcedGroup] = {}
        self._faults: list[str] = []
        self._findings: dict[str, list[Finding]] = {}
        self._index: RelationIndex | None = None
        self._haystacks: dict[str, str] = {}
        self._version = 0
        self._progress = ""
        self._waiting: queue.Queue[set[str] | None] = queue.Queue()
        self._refresh()

    def start(self) -> None:
        """Begin to check everything beside, and from then on what changes, for as long as the process lives."""
        self._waiting.put(None)
        threading.Thread(target=self._check_in_turn, daemon=True).start()

    # What the page shows

    def state(self) -> dict[str, Any]:
        """Return a number that changes with everything that is shown in the list, and which check is running."""
        with self._lock:
            self._refresh()
            return {"version": self._version, "checking": self._progress, "ready": self._index is not None}

    def rows(self, reader: str) -> dict[str, Any]:
        """Return a row for each group, those with faults first, with whether ``reader`` signed it."""
        with self._lock:
            self._refresh()
            broken = [name for name in self._lines if name not in self._groups]
            return {
                "rows": [*map(self._broken_row, broken), *(self._row(one, reader) for one in self._groups.values())],
                "faults": [self.hide(fault) for fault in self._faults],
                "version": self._version,
                "checking": self._progress,
            }

    def _row(self, located: SourcedGroup, reader: str) -> dict[str, Any]:
        group = located.group
        signed: dict[str, str] = dict.fromkeys(group.texts(), "")
        mine = []
        for reading in group.read:
            if is_stale(reading, group):
                signed[reading.language] = signed[reading.language] or "stale"
                continue
            if signed[reading.language] != "fault":  # one fault weighs more than any number of readers who saw none
                signed[reading.language] = reading.verdict
            if reading.reader == reader:
                mine.append(reading.language.value)
        heads = {
            language.value: text.instruction if isinstance(text, Text) else text.text
            for language, text in group.texts().items()
            if language in (Language.JA, Language.EN)  # the languages of the page
        }
        findings = sorted(self._findings.get(group.id, ()), key=lambda one: -_GRAVITY.index(one.severity))
        return {
            "id": group.id,
            "category": group.category.value,
            "topic": group.topic,
            "heads": {language: " ".join(text.split())[:_HEAD] for language, text in heads.items()},
            "signed": signed,
            "mine": mine,
            "findings": {finding.check: finding.severity.value for finding in findings},
        }

    def _broken_row(self, name: str) -> dict[str, Any]:
        record = self._lines[name].record
        about = {key: value if isinstance(value := record.get(key), str) else "" for key in ("category", "topic")}
        return {"id": name, **about, "heads": {}, "signed": {}, "mine": [], "findings": {"schema": "error"}}

    def search(self, words: str) -> list[str]:
        """Return the ids of the groups that hold all of the words, in any width and case."""
        with self._lock:
            self._refresh()
            for name, line in self._lines.items():
                if name not in self._haystacks:
                    self._haystacks[name] = _fold(json.dumps(line.record, ensure_ascii=False))
            wanted = _fold(words).split()
            return [name for name in self._lines if all(word in self._haystacks[name] for word in wanted)]

    def group(self, name: str) -> dict[str, Any] | None:
        """Return everything about one group, or None if there is none of this name."""
        with self._lock:
            self._refresh()
            line, located = self._lines.get(name), self._groups.get(name)
            if line is None:
                return None
            read = located.group.read if located is not None else ()
            return {
                "record": line.record,
                "digest": line.digest,
                "location": public_location(line.location),
                "split": assign_split(located.group) if located is not None else "",
                "findings": [self._finding(finding) for finding in self._findings.get(name, ())],
                "keys": {name: digest_text(line.record[name]) for name in LANGUAGES if _is_text(line.record, name)},
                "stale": [located is not None and is_stale(reading, located.group) for reading in read],
            }

    def _finding(self, finding: Finding) -> dict[str, str]:
        return {
            "check": finding.check,
            "severity": finding.severity.value,
            "group": finding.group_id,
            "field": finding.field,
            "message": self.hide(finding.message),
            "hint": self.hide(finding.hint),
        }

    def readings(self) -> dict[str, Any]:
        """Return counts by language, agreement by pair of readers, and the samples."""
        with self._lock:
            self._refresh()
            groups = [located.group for located in self._groups.values()]
        return {
            "counts": {language: vars(counts) for language, counts in count_readings(groups).items()},
            "agreements": [vars(pair) for pair in agreements(groups)],
            "samples": [vars(sample) for sample in read_samples(self.directory)],
        }

    def groups(self) -> list[SourcedGroup]:
        """Return all groups without faults."""
        with self._lock:
            self._refresh()
            return list(self._groups.values())

    # What the page asks while somebody types

    def check(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Run a record's own checks, and count what its constraints may ask for."""
        counts = {
            f"{language}.{name}": count_marks(text, Language(language))
            for language in LANGUAGES
            if _is_text(record, language)
            for name, text in record[language].items()
            if isinstance(text, str)
        }
        try:
            located = self._locate(record)
        except RecordError as error:
            return {"counts": counts, "faults": [self.hide(fault) for fault in error.faults], "findings": []}
        with self._checking:
            findings = check_alone(located, self._probes)
        return {"counts": counts, "faults": [], "findings": [self._finding(finding) for finding in findings]}

    def relations(self, record: Mapping[str, Any]) -> list[dict[str, str]] | None:
        """Compare a record with all others; None as long as they are not prepared, or if the record has faults."""
        try:
            located = self._locate(record)
        except RecordError:
            return None
        with self._checking:
            if self._index is None:
                return None
            return [self._finding(finding) for finding in self._index.check(located)]

    def _locate(self, record: Mapping[str, Any]) -> SourcedGroup:
        name = str(record.get("id"))
        line = self._lines.get(name)
        record = self._with_id(record)
        path = line.path if line is not None else self.directory / f"{record.get('category')}.jsonl"
        try:
            text = spell(record).decode()
        except UnicodeEncodeError:
            raise RecordError([f"{name}: a text holds half of a character; write it anew"]) from None
        group = parse_group(text, public_location(display_path(path)))
        return SourcedGroup(group=group, path=path, line=line.number if line is not None else 10**6)

    # What changes the files

    def save(self, name: str, digest: str | None, record: Mapping[str, Any]) -> str | Refusal:
        """Write a group's record; return its id, which is a new one if its category changed, or why it was refused.

        Args:
            digest: of the line that the page has; None for a new group.

        Raises:
            RecordError: with every fault of the record.
        """
        with self._lock:
            self._refresh()
            line = self._lines.get(name) if digest is not None else None
            if digest is not None and (line is None or line.digest != digest):
                return self._refusal(name)
            record = self._with_id(record)
            note = f"{'edit' if digest is not None else 'add'} {record['id']}"
            return self._change([GroupChange(read=line, record=record)], note, str(record["id"]))

    def drop(self, name: str, digest: str) -> str | Refusal:
        """Move a group's line to the drafts."""
        with self._lock:
            self._refresh()
            line = self._lines.get(name)
            if line is None or line.digest != digest:
                return self._refusal(name)
            drafts = self._drafts / line.path.name
            return self._change([GroupChange(read=line, drafts=drafts)], f"{name} to the drafts", name)

    def sign(self, name: str, language: str, key: str, **signature: Any) -> str | Refusal:
        """Put a reader's signature below a text.

        Args:
            key: hash of the text that was on the page.
        """
        with self._lock:
            self._refresh()
            line = self._lines.get(name)
            if line is None or not _is_text(line.record, language) or digest_text(line.record[language]) != key:
                return self._refusal(name)
            change = GroupChange(read=line, record=sign(line.record, language, **signature))
            return self._change([change], f"sign {name} {language}", name)

    def undo(self) -> dict[str, Any] | None:
        """Take the newest step back; return what it was, or None if there is none."""
        with self._lock:
            step = undo(self.directory)
            self._refresh()
            return None if step is None else {"note": step.note, "groups": list(step.groups)}

    def _with_id(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record with an id of its category."""
        category = str(record.get("category"))
        fits = category not in CATEGORIES or str(record.get("id")).rsplit("-", 1)[0] == category
        return dict(record) if fits else {**record, "id": self._free_id(category)}

    def _free_id(self, category: str) -> str:
        """Return an id that no record has, and no draft either: it may come back."""
        drafts = read_lines(self._drafts) if self._drafts.is_dir() else {}
        return next_free_id(category, [*self._lines, *drafts])

    def template(self, category: str) -> dict[str, Any]:
        """Return an empty record of a category, with the provenance of the last one."""
        with self._lock:
            fields = TranslationText if category == Category.TRANSLATION else Text
            text = {name: "" for name, field in fields.model_fields.items() if field.annotation is str}
            like = next(reversed(self._lines.values()), None)
            provenance = {
                name: str(like.record.get(name, like.record.get("licence") if name == "license" else "") or "")
                if like is not None
                else ""
                for name, field in TextGroup.model_fields.items()
                if field.annotation is str and name not in _OWN
            }
            chain = {"chain": {"id": "", "step": 1}} if category == Category.QUESTION_TO_QUESTION else {}
            head = {"id": self._free_id(category), "category": category, "topic": ""}
            return head | {"ja": text, "en": dict(text)} | chain | provenance

    def _change(self, changes: Sequence[GroupChange], note: str, name: str) -> str | Refusal:
        try:
            change_groups(self.directory, changes, note=note)
        except EditConflictError:
            self._refresh()
            return self._refusal(name)
        self._refresh()
        return name

    def _refusal(self, name: str) -> Refusal:
        line = self._lines.get(name)
        if line is None:
            return Refusal(f"{name}: the group is no longer there", None, None)
        return Refusal(f"{name}: the line was changed since it was read", line.record, line.digest)

    # Keeping up

    def _refresh(self) -> None:
        """Read again the files that changed; what changed in them is checked beside."""
        stamps = {
            path: (stat.st_mtime_ns, stat.st_size) for path in self.directory.glob("*.jsonl") if (stat := path.stat())
        }
        if stamps == {path: file.stamp for path, file in self._files.items()}:
            return
        for path in [path for path in self._files if path not in stamps]:
            del self._files[path]
        for path, stamp in stamps.items():
            if path not in self._files or self._files[path].stamp != stamp:
                faults: list[str] = []
                groups = list(read_file(path, faults))
                self._files[path] = _File(stamp, list(read_file_lines(path)), groups, faults)
        before = self._lines
        known = {f"{name}.jsonl": number for number, name in enumerate(CATEGORIES)}
        paths = sorted(self._files, key=lambda path: (known.get(path.name, len(known)), path.name))
        self._lines, self._groups, self._faults = {}, {}, []
        for file in map(self._files.__getitem__, paths):
            self._faults += file.faults
            for line in file.lines:
                if self._lines.setdefault(line.id, line) is not line:
                    self._faults.append(f"{line.location}: {line.id}: this id is taken; give it the next free number")
            for located in file.groups:
                self._groups.setdefault(located.group.id, located)
        self._version += 1
        names = before.keys() | self._lines.keys()
        changed = {n for n in names if n not in before or n not in self._lines or before[n].raw != self._lines[n].raw}
        for name in changed:
            self._haystacks.pop(name, None)
        if before and changed:
            self._waiting.put(changed if len(changed) <= _MANY else None)

    def _check_in_turn(self) -> None:
        """Check what waits to be checked."""
        with self._checking:  # the first check of a process loads its models
            for located in self.groups()[:1]:
                check_alone(located, self._probes)
        while True:
            changed = self._waiting.get()
            if changed is None:
                self._check_all()
            else:
                for name in changed:
                    self._check_again(name)

    def _check_all(self) -> None:
        findings = check_all_apart(self.directory, self._tell)
        if findings is None:
            return self._tell("failed")
        with self._checking:
            self._index = RelationIndex(self.groups())
        with self._lock:
            self._findings = {}
            for finding in findings:
                self._findings.setdefault(finding.group_id, []).append(finding)
        return self._tell("")

    def _check_again(self, name: str) -> None:
        """Check one group that was added, edited or removed, and take over what that means for others."""
        with self._checking:
            if self._index is None:
                return
            with self._lock:
                located = self._groups.get(name)
            new: list[Finding] = []
            if located is None:
                self._index.update([], removed=[name])
            else:
                self._index.update([located])
                new = [*check_alone(located, self._probes), *self._index.check(located)]
        with self._lock:
            self._findings.pop(name, None)
            for other, findings in self._findings.items():
                self._findings[other] = [finding for finding in findings if name not in finding.message]
            for finding in new:
                self._findings.setdefault(finding.group_id, []).append(finding)
            self._version += 1

    def _tell(self, progress: str) -> None:
        with self._lock:
            self._progress = progress
            self._version += 1

    def hide(self, text: str) -> str:
        """Take the folders of this machine out of a message."""
        for folder in {str(self.directory.resolve()), str(self.directory)}:
            text = text.replace(folder + os.sep, "").replace(folder, self.directory.name)
        return text


def _is_text(record: Mapping[str, Any], language: str) -> bool:
    return isinstance(record.get(language), dict)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
