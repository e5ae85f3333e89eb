"""Read the records and the probes, and report all of their faults at once.

These files are edited by hand, so each fault becomes a sentence that names the place, what is there and what to do:

    builder/records/open_qa.jsonl:7: open_qa-0007: 'ja.output' is empty; write it, or move the group to drafts

A dataset with faults is never returned in part.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from bonsai.builder.errors import RecordError
from bonsai.builder.schema import CATEGORIES, Filled, Group, Language, TextGroup, TranslationGroup

_GROUP: TypeAdapter[TextGroup | TranslationGroup] = TypeAdapter(Group)
ProbeKind = Literal[
    "highest_mountain",
    "capital",
    "katakana_capital",
    "chinese",
    "ja2en",
    "en2ja",
    "multi_step",
    "qtq_opening",
    "radioactivity",
    "repetition",
    "reasoning",
]


READINGS = "readings"
"""the folder of blind samples among the records"""
_OTHER_FOLDERS = (READINGS, "drafts")
"""`bonsai import` puts drafts beside the groups that are whole"""
_RECORDS_LIKE = re.compile(
    r"(?i:\.(?:jsonl|ndjson|jsonlines)(?:\.\w+)?|\.jsonl?(?:\.(?:txt|bak|part))?)$"
    rf"|(?<=^{')|(?<=^'.join(CATEGORIES)})\.\w+$"
)
"""the ending of a file that was meant to be records: closed_qa.jsonl.txt, closed_qa.json, x.JSONL, x.ndjson"""


@dataclass(frozen=True, kw_only=True)
class SourcedGroup:
    """A group and the file and line it was read from."""

    group: TextGroup | TranslationGroup
    path: Path
    line: int

    @property
    def location(self) -> str:
        """``path:line``; the path is relative if it is below the working directory."""
        return f"{display_path(self.path)}:{self.line}"


class Probe(BaseModel):
    """A question, a good answer to it, and the variants that a string match may accept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Filled
    kind: ProbeKind
    language: Language
    """Of the question."""
    answer_language: Language
    instruction: Filled
    input: str
    reference: Filled
    accepted: tuple[Filled, ...]
    """Short variants, any of which makes the answer right; empty if there is no single right answer."""
    post: str
    """Date of the post whose text mentions the probe; empty for those added since."""
    note: str

    @property
    def question(self) -> str:
        """The instruction and the input, as one text."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


def default_records_dir() -> Path:
    """Return the folder of records that came with this installation (in a checkout: ``builder/records``)."""
    folder = Path(__file__).parent / "records"
    # An editable installation links each file: its target is the one that a person edits.
    first = next(iter(sorted(folder.glob("*.jsonl"))), None)
    return folder if first is None else Path(os.path.realpath(first)).parent


def default_probes() -> Path:
    """Return the file of probes that came with this installation."""
    return Path(__file__).parent / "probes.jsonl"


def display_path(path: Path) -> str:
    """Return a path as a person types it: relative if it is below the working directory, links resolved."""
    real = path.resolve()
    return str(real.relative_to(Path.cwd())) if real.is_relative_to(Path.cwd()) else str(real)


def read_groups(directory: Path) -> list[SourcedGroup]:
    """Read the ``*.jsonl`` files in ``directory``, in the order of the categories and then of the lines.

    Raises:
        RecordError: with all faults of all files; nothing is returned then.
    """
    name = display_path(directory)
    if not directory.is_dir():
        raise RecordError([f"{name}: no such folder; name the folder that holds the *.jsonl records"])
    files = sorted(
        directory.glob("*.jsonl"),
        key=lambda path: (CATEGORIES.index(path.stem) if path.stem in CATEGORIES else len(CATEGORIES), path.name),
    )
    if not files:
        raise RecordError([f"{name}: no *.jsonl file here; put one file per category into this folder"])
    faults = list(_unread_files(directory))
    groups: list[SourcedGroup] = []
    for path in files:
        groups.extend(read_file(path, faults))
    first: dict[str, SourcedGroup] = {}
    for here in groups:
        there = first.setdefault(here.group.id, here)
        if there is not here:
            reason = f"this id is taken by {there.location}; give one of them the next free number"
            faults.append(f"{here.location}: {here.group.id}: {reason}")
    if faults:
        raise RecordError(faults)
    if not groups:
        raise RecordError([f"{name}: the files hold no record; write one JSON object per line"])
    return groups


def _unread_files(directory: Path) -> Iterator[str]:
    """Yield a sentence for each file that looks like records and whose name or place keeps it from being read."""
    for path in sorted(directory.rglob("*")):
        inside = path.relative_to(directory)
        if path.is_dir() or inside.parts[0] in _OTHER_FOLDERS or any(part.startswith(".") for part in inside.parts):
            continue
        if inside.parent != Path() and path.suffix.lower() == ".jsonl":
            yield f"{display_path(path)}: folders inside are not read; move the file up, or out of {directory.name}"
        elif inside.parent == Path() and (path.suffix != ".jsonl" and _RECORDS_LIKE.search(path.name)):
            name = _RECORDS_LIKE.sub("", path.name)
            yield f"{display_path(path)}: only *.jsonl is read; rename it to {name}.jsonl, or move it away"


def read_file(path: Path, faults: list[str]) -> Iterator[SourcedGroup]:
    """Read one file of records; ``faults`` gets a sentence for each fault."""
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        location = f"{display_path(path)}:{number}"
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            faults.append(f"{location}: the file begins with a byte-order mark; save it as UTF-8 without BOM")
            raw = raw[3:]
        if not raw.strip():
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            faults.append(
                f"{location}: byte {error.start + 1} (0x{raw[error.start]:02x}) is not UTF-8; save the file as UTF-8, "
                "not as Shift_JIS or GB18030"
            )
            continue
        try:
            group = parse_group(text, location)
        except RecordError as error:
            faults.extend(error.faults)
            continue
        if group.category != path.stem:
            faults.append(
                f"{location}: {group.id}: the category is {group.category}; move it to {group.category}.jsonl"
            )
        yield SourcedGroup(group=group, path=path, line=number)


def parse_group(line: str, location: str) -> TextGroup | TranslationGroup:
    """Read one line of records.

    Raises:
        RecordError: with every fault of the line, each after the ``location``.
    """
    try:
        return _GROUP.validate_json(line)
    except ValidationError as error:
        raise RecordError([f"{location}: {sentence}" for sentence in _explain_all(error, line)]) from None


def _explain_all(error: ValidationError, text: str) -> Iterator[str]:
    """Yield a sentence for each fault of a line, or one if it is no JSON object at all."""
    try:
        record = json.loads(text)
    except ValueError as broken:
        position = f" at column {broken.colno}" if isinstance(broken, json.JSONDecodeError) else ""
        reason = broken.msg if isinstance(broken, json.JSONDecodeError) else str(broken)
        yield f"not JSON{position} ({reason}); write one whole JSON object on this line"
        return
    except RecursionError:
        yield "brackets nested hundreds deep; write one whole JSON object on this line"
        return
    if not isinstance(record, dict):
        yield f'a JSON {type(record).__name__}, not an object; write {{"id": …, "category": …, …}}'
        return
    name = record.get("id") if isinstance(record.get("id"), str) else "(no id)"
    for detail in error.errors(include_url=False):
        yield f"{name}: {_explain(detail)}"


def _explain(detail: ErrorDetails) -> str:
    """Turn one of pydantic's errors into a sentence that names the field and the remedy."""
    steps = [str(step) for step in detail["loc"]]
    field = ".".join(steps[1:] if steps and steps[0] in CATEGORIES else steps)
    got = repr(detail.get("input"))
    got = got if len(got) <= 60 else got[:57] + "…"
    match detail["type"]:
        case "union_tag_invalid":
            category = detail["ctx"]["tag"]
            return f"the category is {category!r}; write one of {', '.join(CATEGORIES)}"
        case "union_tag_not_found":
            return f"'category' is missing; write one of {', '.join(CATEGORIES)}"
        case "missing" if field in ("ja", "en"):
            return f"'{field}' is missing; every group has Japanese and English: write it, or move the group to drafts"
        case "missing":
            return f"'{field}' is missing; write it"
        case "extra_forbidden":
            return f"'{field}' is not a field of this category; correct its name or remove it"
        case "string_too_short" | "string_pattern_mismatch" if field != "id":
            return f"'{field}' is empty; write it, or move the group to drafts"
        case "string_pattern_mismatch":
            return f"the id is {got}; write the category, a hyphen and four digits, as in open_qa-0042"
        case "value_error":
            message = detail["msg"].removeprefix("Value error, ")
            return f"{field}: {message}" if field else message
        case _:
            return f"'{field}' is {got}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def read_probes(path: Path) -> list[Probe]:
    """Read the probes.

    Raises:
        RecordError: with every fault of the file.
    """
    faults: list[str] = []
    probes: list[Probe] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            probes.append(Probe.model_validate_json(line))
        except ValidationError as error:
            faults.extend(
                f"{display_path(path)}:{number}: '{'.'.join(map(str, detail['loc'])) or 'line'}': {detail['msg']}"
                for detail in error.errors(include_url=False)
            )
    ids = [probe.id for probe in probes]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        faults.append(f"{display_path(path)}: {name} occurs twice; give one the next free number")
    if faults:
        raise RecordError(faults)
    return probes
