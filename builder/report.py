"""Write the build report: one self-contained page for people, one JSON file for machines.

The page holds style, script and records, and its content security policy allows nothing else: a record cannot bring
code in, and reading the page needs no network. There is no time stamp, so the same records give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bonsai.builder.assets import html_environment, load_text, render_page
from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.files import atomic_write_text
from bonsai.builder.prompt import SECTION_BREAK
from bonsai.builder.records import SourcedGroup
from bonsai.builder.rows import assign_split
from bonsai.builder.schema import TextGroup
from bonsai.builder.signatures import is_stale
from bonsai.dataset_card.card import GUIDELINE
from bonsai.dataset_card.facts import DatasetFacts

_ABSOLUTE = re.compile(r"^(?:/|[A-Za-z]:[\\/]).*[\\/]")


def write_report(
    folder: Path, groups: Sequence[SourcedGroup], findings: Sequence[Finding], facts: DatasetFacts
) -> None:
    """Write ``report.html`` and ``report.json`` into ``folder``, which must exist."""
    # 1. Count and list the findings, without the folders of this machine. A finding may name another record's place
    #    in its text, so they are taken out there too.
    private = sorted({located.location.removesuffix(public_location(located.location)) for located in groups} - {""})
    by_check: defaultdict[str, Counter[str]] = defaultdict(Counter)
    checks: defaultdict[str, list[str]] = defaultdict(list)
    blocks: defaultdict[tuple[Severity, str], list[dict[str, str]]] = defaultdict(list)
    entries = [finding_entry(finding, private) for finding in findings]
    for finding, entry in zip(findings, entries, strict=True):
        by_check[finding.check][finding.severity.value] += 1
        blocks[finding.severity, finding.check].append(entry)
        if finding.check not in checks[finding.group_id]:
            checks[finding.group_id].append(finding.check)
    counts = {
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

    # 2. The file for machines.
    machine = {"repo_id": facts.repo_id, "version": facts.version, "counts": counts, "findings": entries}
    text = json.dumps(machine, ensure_ascii=False, indent=1) + "\n"
    atomic_write_text(folder / "report.json", text)

    # 3. The page: errors first, then by check, each in the order of the groups. Jinja escapes every text of a record
    #    but those in the JSON block. Style and script are allowed by their hashes.
    order = list(Severity)
    page = render_page(
        html_environment(__package__).get_template("report.html.j2"),
        style=load_text(__package__, "report.css"),
        script=load_text(__package__, "report.js"),
        facts=facts,
        counted=counts,
        blocks=[
            (severity, check, blocks[severity, check])
            for severity, check in sorted(blocks, key=lambda key: (order.index(key[0]), key[1]))
        ],
        guideline=GUIDELINE,
        groups=len(groups),
        data=json_for_script([group_entry(located, checks[located.group.id]) for located in groups]),
    )
    atomic_write_text(folder / "report.html", page)


def public_location(location: str) -> str:
    """Return a location as it may be published: records outside the working directory lose their folder."""
    return _ABSOLUTE.sub("", location)


def finding_entry(finding: Finding, private: Sequence[str]) -> dict[str, str]:
    """Return a finding as plain data, without the ``private`` folders."""
    message, hint = finding.message, finding.hint
    for folder in private:
        message, hint = message.replace(folder, ""), hint.replace(folder, "")
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "place": public_location(finding.location),
        "group_id": finding.group_id,
        "field": finding.field,
        "what": message,
        "why": hint,
    }


def group_entry(located: SourcedGroup, checks: Sequence[str]) -> dict[str, Any]:
    """Return a group as the script of the page reads it; ``checks`` are the names of those that found something."""
    group = located.group
    entry: dict[str, Any] = {
        "id": group.id,
        "place": public_location(located.location),
        "category": group.category.value,
        "topic": group.topic,
        "split": assign_split(group),
        "texts": {language.value: text.model_dump() for language, text in group.texts().items()},
        "earlier": {
            language.value: original.model_dump(exclude_none=True) for language, original in group.original.items()
        },
        "notes": [*group.skills, f"{group.source} · {group.license} · {group.generator}"],
        "checks": list(checks),
    }
    if isinstance(group, TextGroup):
        for language, text in group.texts().items():  # the earlier turns as one text, where there are any
            said = SECTION_BREAK.join(words for turn in text.history for _, words in turn if words)
            before = {"history": said} if said else {}
            entry["texts"][language.value] = before | text.model_dump(exclude={"history"})
    if isinstance(group, TextGroup) and group.chain:
        entry["notes"].insert(0, f"chain {group.chain.id}, step {group.chain.step}")
    for reading in group.read:
        edited = "; the text was edited since" if is_stale(reading, group) else ""
        reader = f"{reading.reader} ({reading.kind}, {reading.date}{edited})"
        entry["notes"].append(f"{reading.language.value} read by {reader}: {reading.fault or reading.verdict}")
    return entry


def json_for_script(data: Any) -> Markup:
    """Return JSON for a script element: without ``<``, so that no text can end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # The two line separators are legal in JSON and were not in JavaScript before 2019.
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
