"""Check one group that is being edited: by itself, and against an index of all the others.

The checks that compare groups compare pairs, so what they find about one group they find in the part of the records
that can form a pair with it. The index finds that part by what those checks themselves start from: bands of MinHash,
cosines of sentence vectors, and chains. What it finds too much, the checks throw out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bonsai.builder.checks.balance import check_balance
from bonsai.builder.checks.base import Finding, Severity, iter_qa_views
from bonsai.builder.checks.decontamination import check_decontamination
from bonsai.builder.checks.duplicates import check_templates, common_words, mask_names_and_numbers, says_something
from bonsai.builder.checks.paraphrase import LOOKED_AT_FROM, SHORT_QUESTION, embed
from bonsai.builder.checks.run import CHECKS, RELATIONS, sort_findings
from bonsai.builder.minhash import BINS, ROWS_IN_BAND, build_index, fold_for_dedup, nfkc_batch
from bonsai.builder.records import Probe, SourcedGroup
from bonsai.builder.schema import CATEGORIES, Category, TextGroup

_BATCH = 512
"""texts folded at once, as in `minhash`"""


def check_alone(located: SourcedGroup, probes: Sequence[Probe]) -> list[Finding]:
    """Run the checks that look at one group at a time."""
    findings = [finding for name, check in CHECKS.items() if name not in RELATIONS for finding in check([located])]
    return sort_findings([*findings, *check_decontamination([located], probes)], [located])


class _Entries(NamedTuple):
    """What is compared of each text, shape (E, width), and the slot of the group it belongs to, shape (E,)."""

    rows: npt.NDArray[Any]
    slots: npt.NDArray[np.int64]


class RelationIndex:
    """All groups, prepared for comparing one of them, as it is being edited, with the others."""

    def __init__(self, groups: Sequence[SourcedGroup]) -> None:
        self._common = common_words(groups)
        self._groups: dict[str, SourcedGroup] = {}
        self._ids: list[str] = []
        """by slot; a group that was edited or removed leaves its slot empty"""
        self._entries: dict[str, _Entries] = {}
        self.update(groups)

    def update(self, groups: Sequence[SourcedGroup], removed: Collection[str] = ()) -> None:
        """Take in groups that are new or were edited, and forget those with the ids ``removed``."""
        gone = {*removed, *(located.group.id for located in groups)}
        empty = [slot for slot, name in enumerate(self._ids) if name in gone]
        for slot in empty:
            self._ids[slot] = ""
        for name in removed:
            self._groups.pop(name, None)
        first = len(self._ids)
        self._ids += [located.group.id for located in groups]
        self._groups |= {located.group.id: located for located in groups}
        for kind, new in _prepare(groups, self._common).items():
            new = _Entries(new.rows, new.slots + first)
            if (old := self._entries.get(kind)) is not None:
                stays = ~np.isin(old.slots, empty)
                rows = np.concatenate([old.rows[stays], new.rows])
                new = _Entries(rows, np.concatenate([old.slots[stays], new.slots]))
            self._entries[kind] = new

    def check(self, located: SourcedGroup) -> list[Finding]:
        """Return what the comparing checks find about a group, whether the finding lies with it or with the other one.

        Of the balance of all records it tells what this edit puts out of bounds.
        """
        # 1. The groups that may have to do with this one, in the order of the records.
        name = located.group.id
        others = {other for other in self._related(located) if other not in ("", name)}
        part = _in_order([located, *(self._groups[other] for other in others)])
        # 2. What the checks say of them, where it is about this one.
        findings: list[Finding] = []
        for check in RELATIONS:
            if check == "templates":
                findings += check_templates(part, self._common)
            elif check != "balance":
                findings += CHECKS[check](part)
        about = [finding for finding in findings if name == finding.group_id or name in finding.message]
        # 3. The balance needs all groups; a note there is only a count.
        known = {finding.message for finding in check_balance(_in_order(self._groups.values()))}
        everything = _in_order((self._groups | {name: located}).values())
        about += [
            replace(finding, group_id=name, location=located.location)
            for finding in check_balance(everything)
            if finding.severity is not Severity.NOTE and finding.message not in known
        ]
        return sort_findings(about, part)

    def _related(self, located: SourcedGroup) -> Iterator[str]:
        """Yield the ids of groups that the checks may pair with this one, some of them several times."""
        for kind, mine in _prepare([located], self._common).items():
            known = self._entries[kind]
            if kind == "vectors":
                near = (known.rows @ mine.rows.T >= LOOKED_AT_FROM).any(axis=1)
            else:
                near = (known.rows[:, None, :] == mine.rows[None, :, :]).any(axis=(1, 2))
            yield from (self._ids[slot] for slot in np.unique(known.slots[near]))
        chain = _chain(located)
        yield from (name for name, other in self._groups.items() if chain is not None and _chain(other) == chain)


def _prepare(groups: Sequence[SourcedGroup], common: frozenset[str]) -> dict[str, _Entries]:
    """Compute the bands of subjects, answers and shapes, and the vectors of short subjects; slots count from 0."""
    slot = {located.group.id: number for number, located in enumerate(groups)}
    texts: dict[str, list[tuple[str, int]]] = {"subjects": [], "answers": [], "shapes": [], "vectors": []}
    for one in iter_qa_views(groups):
        category, here = one.located.group.category, slot[one.located.group.id]
        texts["subjects"].append((one.subject, here))
        if category in (Category.OPEN_QA, Category.BRAINSTORMING, Category.CREATIVE):
            texts["answers"].append((one.output, here))
        if category is not Category.TRANSLATION and says_something(
            shape := mask_names_and_numbers(one.subject, common)
        ):
            texts["shapes"].append((shape, here))
        if len(one.subject) <= SHORT_QUESTION:
            texts["vectors"].append((one.subject, here))
    found = {}
    for kind, members in texts.items():
        slots = np.array([here for _, here in members], np.int64)
        words = [text for text, _ in members]
        if kind == "vectors":
            found[kind] = _Entries(embed(words), slots)
            continue
        rows, owners = [np.zeros((0, BINS // ROWS_IN_BAND), np.uint64)], [np.zeros(0, np.int64)]
        for start in range(0, len(words), _BATCH):
            index = build_index(fold_for_dedup(nfkc_batch(words[start : start + _BATCH])), ROWS_IN_BAND)
            rows.append(index.bands)
            owners.append(index.which + start)
        found[kind] = _Entries(np.concatenate(rows), slots[np.concatenate(owners)])
    return found


def _chain(located: SourcedGroup) -> str | None:
    group = located.group
    return group.chain.id if isinstance(group, TextGroup) and group.chain else None


def _in_order(groups: Iterable[SourcedGroup]) -> list[SourcedGroup]:
    return sorted(groups, key=lambda one: (CATEGORIES.index(one.group.category.value), one.path.name, one.line))
