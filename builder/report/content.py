"""What the report says, before it is a page: counts, findings with their places, and the groups the browser shows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.reader import Located
from bonsai.builder.schema import TextGroup
from bonsai.builder.splits import split_of
from bonsai.dataset_card.facts import DatasetFacts

_ABSOLUTE = re.compile(r"^(?:/|[A-Za-z]:[\\/]).*[\\/]")


def published_place(place: str) -> str:
    """A place as it may be published: records outside the working directory are named without their folder."""
    return _ABSOLUTE.sub("", place)


def private_folders(groups: Sequence[Located]) -> list[str]:
    """The folders that `published_place` leaves out; a finding may name another record's place in its text."""
    return sorted({located.place.removesuffix(published_place(located.place)) for located in groups} - {""})


def counts(groups: Sequence[Located], findings: Sequence[Finding], facts: DatasetFacts) -> dict[str, Any]:
    """Everything counted, for report.json and the head of the page."""
    by_check: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for finding in findings:
        by_check[finding.check][finding.severity.value] += 1
    return {
        "groups": len(groups),
        "rows": facts.rows,
        "derived_rows": facts.derived_rows,
        "rows_by_split": dict(facts.splits),
        "rows_by_category_and_language": {name: dict(row) for name, row in facts.category_language.items()},
        "groups_by_topic": dict(facts.topics),
        "findings": {severity.value: sum(f.severity is severity for f in findings) for severity in Severity},
        "findings_by_check": {check: dict(by_check[check]) for check in sorted(by_check)},
        "groups_with_findings": len({finding.group_id for finding in findings}),
    }


def finding_entry(finding: Finding, private: Sequence[str]) -> dict[str, str]:
    """A finding as plain data, without the ``private`` folders."""
    what, why = finding.what, finding.why
    for folder in private:
        what, why = what.replace(folder, ""), why.replace(folder, "")
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "place": published_place(finding.place),
        "group_id": finding.group_id,
        "field": finding.field,
        "what": what,
        "why": why,
    }


def group_entry(located: Located, checks: Sequence[str]) -> dict[str, Any]:
    """A group as the browser reads it; ``checks`` are the names of those that found something in it."""
    group = located.group
    entry: dict[str, Any] = {
        "id": group.id,
        "place": published_place(located.place),
        "category": group.category.value,
        "topic": group.topic,
        "split": split_of(group),
        "texts": {language.value: text.model_dump() for language, text in group.texts().items()},
        "earlier": {
            language.value: original.model_dump(exclude_none=True) for language, original in group.original.items()
        },
        "notes": [*group.skills, f"{group.source} · {group.licence} · {group.generator}"],
        "checks": list(checks),
    }
    if isinstance(group, TextGroup) and group.chain:
        entry["notes"].insert(0, f"chain {group.chain.id}, step {group.chain.step}")
    return entry


def by_severity_and_check(findings: Sequence[Finding]) -> list[tuple[Severity, str, list[Finding]]]:
    """The findings in blocks: errors first, then by check, each in the order of the groups."""
    blocks: defaultdict[tuple[Severity, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        blocks[finding.severity, finding.check].append(finding)
    order = list(Severity)
    return [
        (severity, check, blocks[severity, check])
        for severity, check in sorted(blocks, key=lambda key: (order.index(key[0]), key[1]))
    ]
