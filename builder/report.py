"""Write the build report: one self-contained page for people, one JSON file for machines.

The page is one file: style, script and records lie inside, and its content security policy allows nothing else, so a
record cannot bring code in, and reading it asks nothing of the network. There is no time stamp: the same records give
the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.records import SourcedGroup
from bonsai.builder.rows import assign_split
from bonsai.builder.schema import TextGroup
from bonsai.dataset_card.card import GUIDELINE
from bonsai.dataset_card.facts import DatasetFacts

_ABSOLUTE = re.compile(r"^(?:/|[A-Za-z]:[\\/]).*[\\/]")


def public_location(place: str) -> str:
    """A place as it may be published: records outside the working directory are named without their folder."""
    return _ABSOLUTE.sub("", place)


def private_prefixes(groups: Sequence[SourcedGroup]) -> list[str]:
    """The folders that `published_place` leaves out; a finding may name another record's place in its text."""
    return sorted({located.place.removesuffix(public_location(located.place)) for located in groups} - {""})


def report_counts(groups: Sequence[SourcedGroup], findings: Sequence[Finding], facts: DatasetFacts) -> dict[str, Any]:
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
    what, why = finding.message, finding.hint
    for folder in private:
        what, why = what.replace(folder, ""), why.replace(folder, "")
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "place": public_location(finding.location),
        "group_id": finding.group_id,
        "field": finding.field,
        "what": what,
        "why": why,
    }


def group_entry(located: SourcedGroup, checks: Sequence[str]) -> dict[str, Any]:
    """A group as the browser reads it; ``checks`` are the names of those that found something in it."""
    group = located.group
    entry: dict[str, Any] = {
        "id": group.id,
        "place": public_location(located.place),
        "category": group.category.value,
        "topic": group.topic,
        "split": assign_split(group),
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


def write_report(
    folder: Path, groups: Sequence[SourcedGroup], findings: Sequence[Finding], facts: DatasetFacts
) -> None:
    """Write ``report.html`` and ``report.json`` into ``folder``, which must exist."""
    private = private_prefixes(groups)
    machine = {
        "repo_id": facts.repo_id,
        "version": facts.version,
        "counts": report_counts(groups, findings, facts),
        "findings": [finding_entry(finding, private) for finding in findings],
    }
    text = json.dumps(machine, ensure_ascii=False, indent=1) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page(groups, findings, facts), encoding="utf-8")


def page(groups: Sequence[SourcedGroup], findings: Sequence[Finding], facts: DatasetFacts) -> str:
    """The whole HTML page; every text of a record is escaped by jinja2, or lies in the JSON block."""
    checks: defaultdict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.check not in checks[finding.group_id]:
            checks[finding.group_id].append(finding.check)
    private = private_prefixes(groups)
    style, script = _asset("report.css"), _asset("report.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("report.html.j2")).render(
        facts=facts,
        counted=report_counts(groups, findings, facts),
        blocks=[
            (severity, check, [finding_entry(finding, private) for finding in found])
            for severity, check, found in by_severity_and_check(findings)
        ],
        guideline=GUIDELINE,
        groups=len(groups),
        style=Markup(style),
        script=Markup(script),
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
        data=json_for_script([group_entry(located, checks[located.group.id]) for located in groups]),
    )


def json_for_script(data: Any) -> Markup:
    """JSON that may stand in a script element: no ``<`` in it, so no text can end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _source_hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
