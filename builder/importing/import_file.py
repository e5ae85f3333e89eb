"""Import a file: rows become groups ready for the records, or drafts that name what they lack.

The groups are written to a folder of their own, numbered on from the records, for a person to read and to move, or they
are added to a folder that is there. What `bonsai check` would call an error becomes a draft, never a group:

    new/open_qa.jsonl         groups, one a line, as in the records
    new/drafts/drafts.jsonl   rows that are no group yet, with all of their reasons; import takes them up again
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.provenance import generator_issues, source_issues
from bonsai.builder.checks.run import run_checks
from bonsai.builder.editing import GroupChange, change_groups
from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_create_dir, atomic_open
from bonsai.builder.importing.columns import ColumnMap, fold_name, is_read, parse_category, parse_language
from bonsai.builder.importing.formats import FormatNotes, ImportedText, expand_drafts, parse_row
from bonsai.builder.importing.pairing import (
    PAIR_COLUMNS,
    UNPAIRED,
    Draft,
    GroupingResult,
    Provenance,
    classify_rows,
    group_rows,
    is_mit,
    known_source,
)
from bonsai.builder.importing.readers import SourceRows, read_rows
from bonsai.builder.records import (
    SourcedGroup,
    default_probes,
    default_records_dir,
    parse_group,
    read_groups,
    read_probes,
)
from bonsai.builder.schema import CATEGORIES, ID_PATTERN

Progress = Callable[[int, int | None], None]
"""Rows done, and rows in all where that is known."""
FAULTS_SHOWN = 50
COMPARED_AT_MOST = 1500
"""Groups up to which they are compared with one another, some 50 ms each; larger files would take many minutes."""
_OWN_CHECKS = frozenset(("language", "unicode", "personal data", "provenance"))
_SLOW_CHECKS = frozenset(("parallel", "decontamination"))
_RELATIONS = frozenset(("contradiction", "duplicates", "leakage", "tautology", "chains"))
"""The checks that know errors, and not only warnings."""
_PROGRESS_ROWS = 200
_ID = re.compile(rf'"id"\s*:\s*"{ID_PATTERN}"')


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """The outcome of an import or a dry run, with the rule of everything that was guessed."""

    rows: int
    shape: str
    """The format, as `columns.ColumnMap` names it."""
    encoding: str
    encoding_rule: str
    groups: tuple[dict[str, Any], ...]
    locations: tuple[str, ...]
    """Of each group: the rows it was made of."""
    drafts: tuple[Draft, ...]
    reasons: dict[str, int]
    """Drafts by reason, most frequent first."""
    languages: dict[str, int]
    """Rows by language."""
    categories: dict[str, int]
    """Groups by category."""
    guesses: dict[str, int]
    """Rows by guess: ``open_qa: no word tells; there is no input``."""
    pairs: tuple[str, ...]
    """By what column rows became groups, with how many, and the first of them."""
    notes: tuple[str, ...]
    """What was left out, or read in a way worth knowing."""
    written: tuple[Path, ...]
    """Empty after a dry run."""


def import_file(
    path: Path,
    output: Path,
    *,
    source: str | None = None,
    license: str | None = None,
    generator: str | None = None,
    topic: str = "imported",
    category: str | None = None,
    encoding: str | None = None,
    expected_language: str | None = None,
    pair_by: str | None = None,
    renamed: Mapping[str, str] | None = None,
    sheet: str | None = None,
    records: Path | None = None,
    append: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportResult:
    """Read a file; write ``<category>.jsonl`` and ``drafts/drafts.jsonl``.

    Args:
        path: a file of `readers.SUFFIXES`, or a folder of Parquet or Arrow; its columns are Alpaca's, Dolly's, messages
            (or ShareGPT's conversations), BONSAI's, parallel (``instruction_ja``, ``instruction_en``, …), or it holds
            the drafts of an earlier import.
        output: the folder to write into; it doesn't exist yet, unless ``append``.
        source: where the texts come from; a row's own column ``source`` takes precedence. Likewise the next two.
        license: under which they may be published.
        generator: who or which model wrote them.
        topic: for rows without a column ``topic``.
        category: of rows that name none; by default it is guessed.
        encoding: overrules the detection.
        expected_language: a prior where the script leaves Japanese and Chinese open.
        pair_by: the column whose equal values make a group, or ``none``; see `pairing.PAIR_COLUMNS` for the default.
        renamed: canonical name by column; see `columns.ColumnMap`.
        sheet: of a workbook; by default every visible one.
        records: the folder whose ids are taken; by default the installation's own.
        append: add to the groups and drafts that ``output`` has, under free ids.
        dry_run: find out everything, write nothing.
        progress: called every 200 rows and at the end.

    Raises:
        RecordError: with every faulty row (at most 50, and the count of the others); nothing is written then.
    """
    # 1. Refuse bad arguments, all of them at once.
    faults = _bad_provenance(source, license, generator)
    if output.exists() and not append and not dry_run:
        reason = "exists already and is not overwritten; name another folder, or add to it with --append"
        faults.append(f"{output}: {reason}")
    expected = parse_language(expected_language) if expected_language else None
    if expected_language and expected not in ("ja", "zh"):
        faults.append(f"expect: got {expected_language!r}; give ja or zh, which share a script")
    if category and parse_category(category) is None:
        faults.append(f"category: got {category!r}; give one of {', '.join(CATEGORIES)}")
    if faults:
        raise RecordError(faults)

    # 2. Read the rows and find their category and language.
    # A column to pair by is nothing else, even if it is called "thought".
    names = {**(renamed or {}), **({pair_by: fold_name(pair_by)} if pair_by and pair_by != UNPAIRED else {})}
    read = read_rows(path, encoding, renamed=names, sheet=sheet)
    texts, format_notes = parse_rows(read, names, progress)
    for name, given in (("source", source), ("license", license)):
        lacking = next((text for text in texts if not text.columns.get(name)), None)
        if given is None and lacking is not None:
            what = "where the texts come from" if name == "source" else "under which licence they may be published, MIT"
            faults.append(f"{name}: nothing given, and {lacking.location} has no column for it; say {what}: --{name}")
    if faults:
        raise RecordError(faults)
    rows = classify_rows(texts, expected, category)

    # 3. Number the groups on from the records and the folder that they are added to. Drafts and faulty lines count too,
    #    so that no id is given twice.
    there = read_groups(output) if append and any(output.glob("*.jsonl")) else []
    highest: dict[str, int] = {}
    for file in sorted([*(records or default_records_dir()).glob("*.jsonl"), *output.glob("*.jsonl")]):
        for taken in _ID.finditer(file.read_text("utf-8", errors="replace")):
            highest[taken["category"]] = max(highest.get(taken["category"], 0), int(taken["number"]))
    origin = source or "a file without a name"
    provenance = Provenance(
        source=origin, license=license or "", generator=generator or f"not named: the author of {origin}", topic=topic
    )
    used = {located.group.id for located in there}
    result = group_rows(rows, provenance, highest, pair_by, used)
    repeated = _drop_repeated(result, there)
    compared = _move_unfit_to_drafts(result, there)

    # 4. Write, as a whole or not at all.
    written = () if dry_run else _write(path, output, result, provenance, append=append)
    if progress:
        progress(len(read.rows), len(read.rows))

    notes = [*read.notes, *_tell(read, format_notes, texts, pair_by)]
    if repeated:
        notes.append(f"{repeated} of the groups are in {output} already, word for word, and were left out")
    if not generator and any(not text.columns.get("generator") for text in texts):
        notes.append(f"nobody is named as the writer; the groups say {provenance.generator!r}: --generator names one")
    if provenance.source != known_source(provenance.source) and source:
        notes.append(f"the groups' source is {known_source(source)!r}")
    if not compared:
        notes.append(f"more than {COMPARED_AT_MOST:,} groups: not compared with one another; `bonsai check` does it")
    guesses = [row.category for row in rows if row.category and row.category.guessed]
    return ImportResult(
        rows=len(read.rows),
        shape=read.columns.format or "",
        encoding=read.encoding,
        encoding_rule=read.encoding_rule,
        groups=tuple(group.record for group in result.groups),
        locations=tuple(group.location for group in result.groups),
        drafts=tuple(result.drafts),
        reasons=dict(_reasons_by_kind(result.drafts).most_common()),
        languages=dict(Counter(row.language for row in rows).most_common()),
        categories=dict(Counter(str(group.record["category"]) for group in result.groups).most_common()),
        guesses=dict(Counter(f"{guess.category}: {guess.rule}" for guess in guesses).most_common()),
        pairs=tuple(
            f"rows with the same {column!r} were put together: {len(pairs)} times, first {pairs[0]}"
            for column, pairs in result.paired.items()
        ),
        notes=tuple(notes),
        written=written,
    )


def parse_rows(
    read: SourceRows, renamed: Mapping[str, str], progress: Progress | None = None
) -> tuple[list[ImportedText], FormatNotes]:
    """Parse all rows of a file.

    Raises:
        RecordError: with every fault of the file, at most 50 and the count of the others.
    """
    faults, rows, columns = list(read.faults), read.rows, read.columns
    notes = FormatNotes()
    texts: list[ImportedText] = []
    if columns.format == "drafts":
        rows = list(expand_drafts(rows))
        columns = ColumnMap.of(dict.fromkeys(name for row in rows for name in row.columns), renamed)
        columns = replace(columns, format=columns.format or "BONSAI")
    if columns.format is None and rows:
        names = ", ".join(repr(name) if " " in name else name for name in columns.names) or "none"
        wanted = "instruction, input, output (Alpaca), instruction, context, response (Dolly) or messages"
        faults.append(
            f"{rows[0].location}: the columns are {names}; name them {wanted}, or say which is which: --column"
        )
    else:
        for number, row in enumerate(rows, 1):
            texts += parse_row(row, columns, notes, faults)
            if progress and number % _PROGRESS_ROWS == 0:
                progress(number, len(rows))
    if faults:
        more = [f"and {len(faults) - FAULTS_SHOWN} more faults"] if len(faults) > FAULTS_SHOWN else []
        raise RecordError(faults[:FAULTS_SHOWN] + more)
    return texts, notes


def _bad_provenance(source: str | None, license: str | None, generator: str | None) -> list[str]:
    """Return why `bonsai check` would refuse every group of this source, license and generator."""
    faults = []
    if source is not None:
        if not source.strip():
            faults.append("source: nothing given; say where the texts come from, in a few words")
        else:
            faults += [f"{issue.message}: {issue.hint}" for issue in source_issues(known_source(source))]
    if license is not None and not license.strip():
        faults.append("license: nothing given; say under which licence the texts may be published, for example MIT")
    elif license is not None and not is_mit(license):
        hint = "what is published here is under MIT: leave out what may not be"
        faults.append(f"license {license!r}: {hint}; give --license MIT where it may")
    if generator is not None:
        faults += [f"{issue.message}: {issue.hint}" for issue in generator_issues(generator)]
    return faults


def _drop_repeated(result: GroupingResult, there: Sequence[SourcedGroup]) -> int:
    """Leave out groups whose texts the folder has already; return how many."""

    def texts(record: Mapping[str, Any]) -> str:
        shown = [record[name] for name in ("category", "ja", "en", "zh") if name in record]
        filled = [{k: v for k, v in one.items() if v} if isinstance(one, dict) else one for one in shown]
        return json.dumps(filled, sort_keys=True)

    known = {texts(located.group.model_dump(mode="json", exclude_none=True)) for located in there}
    kept = [group for group in result.groups if texts(group.record) not in known]
    dropped = len(result.groups) - len(kept)
    result.groups = kept
    return dropped


def _move_unfit_to_drafts(result: GroupingResult, there: Sequence[SourcedGroup]) -> bool:
    """Make drafts of the groups that `bonsai check` finds an error in; return whether they were compared, too.

    An error about two groups is put down to the one that is new.
    """
    located = [
        SourcedGroup(group=parse_group(json.dumps(record), ""), path=Path(f"{record['category']}.jsonl"), line=number)
        for number, (record, _) in enumerate(result.groups, 1)
    ]
    whole = len(located) + len(there) <= COMPARED_AT_MOST
    probes = read_probes(default_probes())
    findings = run_checks(located, probes, only=_OWN_CHECKS | _SLOW_CHECKS if whole else _OWN_CHECKS).findings
    if whole:
        # The new ones come first: a finding about two groups names the earlier one.
        findings += run_checks([*located, *there], probes, only=_RELATIONS).findings
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity is Severity.ERROR:
            field = f" {finding.field}" if finding.field else ""
            reason = f"[{finding.check}]{field}: {finding.message}; {finding.hint}"
            reasons.setdefault(finding.group_id, []).append(reason)
    for group in result.groups:
        if found := reasons.get(group.record["id"]):
            result.drafts.append(Draft(reasons=tuple(found), rows=group.rows))
    result.groups = [group for group in result.groups if group.record["id"] not in reasons]
    return whole


def _write(
    path: Path, output: Path, result: GroupingResult, provenance: Provenance, *, append: bool
) -> tuple[Path, ...]:
    """Write the groups and drafts; return the files."""
    drafts = "drafts/drafts.jsonl"
    entries = [_draft_entry(draft, provenance) for draft in result.drafts]
    groups = [group.record for group in result.groups]
    names = [f"{category}.jsonl" for category in CATEGORIES if any(g["category"] == category for g in groups)]
    if not append or not output.exists():
        with atomic_create_dir(output) as folder:
            for name in names:
                _write_lines(folder / name, [group for group in groups if f"{group['category']}.jsonl" == name])
            if entries:
                (folder / drafts).parent.mkdir()
                _write_lines(folder / drafts, entries)
        return tuple(output / name for name in [*names, *([drafts] if entries else [])])
    if groups:
        change_groups(output, [GroupChange(record=group) for group in groups], note=f"import {path.name}")
    # The drafts that were taken up again are replaced by what is left of them; others are kept.
    kept = b""
    taken_up = path.resolve() == (output / drafts).resolve()
    if (output / drafts).exists() and not taken_up:
        kept = (output / drafts).read_bytes()
    if entries or taken_up:
        (output / drafts).parent.mkdir(exist_ok=True)
        _write_lines(output / drafts, entries, kept)
    return tuple(output / name for name in [*names, *([drafts] if entries or taken_up else [])])


def _write_lines(path: Path, objects: Sequence[Mapping[str, Any]], before: bytes = b"") -> None:
    text = "".join(json.dumps(entry, ensure_ascii=False, default=str) + "\n" for entry in objects)
    with atomic_open(path) as file:
        file.write(before + (b"\n" if before and not before.endswith(b"\n") else b""))
        # half of a surrogate pair is written as JSON's escape, and so reads back as what it was
        file.write(text.encode("utf-8", "backslashreplace"))


def _draft_entry(draft: Draft, provenance: Provenance) -> dict[str, Any]:
    """Return a draft as a line of ``drafts.jsonl``: all that its rows had, to be completed and imported again."""
    rows = [
        {
            "place": row.text.location,
            "category": row.text.columns.get("category"),
            "category_guess": str(row.category.category) if row.category else None,
            "category_rule": row.category.rule if row.category else None,
            "language": row.text.columns.get("language") or row.text.language,
            "language_guess": row.language,
            "language_rule": row.language_rule,
            "instruction": row.text.instruction,
            "input": row.text.input,
            "reasoning": row.text.reasoning,
            "output": row.text.output,
            **({"history": list(row.text.history)} if row.text.history else {}),
            **row.text.context,
            "columns": {k: value for k, value in row.text.columns.items() if k not in ("category", "language")},
        }
        for row in draft.rows
    ]
    first = draft.rows[0].text.columns
    given = {name: first.get(name) or getattr(provenance, name) for name in ("source", "license", "generator")}
    return {"reason": draft.reason, **given, "rows": rows}


def _reasons_by_kind(drafts: Sequence[Draft]) -> Counter[str]:
    """Count drafts by reason, without the places that the reasons name."""
    counts: Counter[str] = Counter()
    for draft in drafts:
        for reason in draft.reasons:
            for place in sorted({row.text.location for row in draft.rows}, key=len, reverse=True):
                reason = reason.replace(f"{place}: ", "").replace(place, "…")
            counts[re.sub(r"\((?:…(?:, )?)+\) ", "", reason)] += 1
    return counts


def _tell(read: SourceRows, notes: FormatNotes, texts: Sequence[ImportedText], pair_by: str | None) -> list[str]:
    """Return a sentence for each thing that was left out or read as something else."""
    told = []
    if notes.placeholders:
        which = ", ".join(f"{text!r} {count}x" for text, count in notes.placeholders.most_common(5))
        told.append(f"read as no input or no Reasoning: {which}")
    if notes.derived:
        told.append(
            f"{notes.derived} rows that a build derives from others were left out; the next build makes them anew"
        )
    if read.columns.format == "input and output":
        told.append("'input' is read as the instruction, for there is no other")
    if read.columns.format != "drafts":
        known = {"exported", "doubts", "warnings", *map(fold_name, (*PAIR_COLUMNS, pair_by or "id"))}
        canonical = read.columns.names
        lost = [name for name in canonical if not is_read(canonical[name]) and fold_name(name) not in known]
        if "messages" in canonical.values():
            lost += [name for name in canonical if canonical[name] in ("instruction", "input", "output")]
        if lost:
            told.append(f"columns that nothing is read from: {', '.join(map(str, lost))}; groups leave them out")
    read_as = {name: meant for name, meant in read.columns.names.items() if is_read(meant) and fold_name(name) != meant}
    if read_as and read.columns.format != "drafts":
        told.append(
            "columns read by another name: " + ", ".join(f"{name} as {meant}" for name, meant in read_as.items())
        )
    return told
