"""Load hand-labelled cases of the single-record checks: faults, and innocents that look like them.

A case is a sound group of its category (``cases/base_groups.jsonl``) with a few texts replaced; a check has found it
when it returns at least a warning about the language of the case. The cases were written before the checks were tuned,
and none is ever removed to improve a figure.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from bonsai.builder.checks.base import Check, Finding, Severity
from bonsai.builder.checks.form import check_form
from bonsai.builder.checks.language import check_language
from bonsai.builder.checks.privacy import check_personal_data
from bonsai.builder.checks.provenance import check_provenance
from bonsai.builder.checks.reasoning import check_reasoning
from bonsai.builder.checks.repetition import check_repetition
from bonsai.builder.checks.unicode import check_unicode_text
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Group, TextGroup, TranslationGroup

CASES = Path(__file__).parent / "cases"

TEXT_CHECKS: dict[str, Check] = {
    "form": check_form,
    "language": check_language,
    "unicode_text": check_unicode_text,
    "repetition": check_repetition,
    "reasoning": check_reasoning,
    "personal_data": check_personal_data,
    "provenance": check_provenance,
}

_GROUP: TypeAdapter[TextGroup | TranslationGroup] = TypeAdapter(Group)


class Case(NamedTuple):
    """One labelled group."""

    fault: bool
    language: str
    why: str
    located: SourcedGroup


class Score(NamedTuple):
    """How a check did on its cases."""

    faults: int
    innocents: int
    missed: list[str]
    false_alarms: list[str]

    @property
    def recall(self) -> float:
        return 1 - len(self.missed) / self.faults

    @property
    def precision(self) -> float:
        found = self.faults - len(self.missed)
        return found / (found + len(self.false_alarms)) if found else 0.0


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def located(group: dict[str, Any], line: int = 1) -> SourcedGroup:
    """Return a group as if it had been read from a file."""
    return SourcedGroup(
        group=_GROUP.validate_json(json.dumps(group)), path=CASES / f"{group['category']}.jsonl", line=line
    )


def cases(check: str) -> Iterator[Case]:
    sound = {group["category"]: group for group in lines_of(CASES / "base_groups.jsonl")}
    for number, case in enumerate(lines_of(CASES / f"{check}.jsonl"), 1):
        group = copy.deepcopy(sound[case["category"]])
        for path, value in case["set"].items():
            place = group
            *above, name = path.split(".")
            for step in above:
                place = place.setdefault(step, {})
            place[name] = value
        yield Case(case["fault"], case["language"], case["why"], located(group, number))


def is_about(finding: Finding, language: str) -> bool:
    """Return whether a finding is about a text of that language, or the whole group."""
    steps = finding.field.split(".")
    return finding.severity is not Severity.NOTE and (len(steps) == 1 or language in steps)


def score(check: str) -> Score:
    result = Score(0, 0, [], [])
    for case in cases(check):
        found = any(is_about(finding, case.language) for finding in TEXT_CHECKS[check]([case.located]))
        result = result._replace(faults=result.faults + case.fault, innocents=result.innocents + (not case.fault))
        if case.fault and not found:
            result.missed.append(f"{case.language}: {case.why}")
        if found and not case.fault:
            result.false_alarms.append(f"{case.language}: {case.why}")
    return result
