"""Writes report.html and report.json.

The page is one file: style, script and records lie inside, and its content security policy allows nothing else, so a
record cannot bring code in, and reading it asks nothing of the network. There is no time stamp: the same records give
the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bonsai.builder.checks.finding import Finding
from bonsai.builder.reader import Located
from bonsai.builder.report.content import by_severity_and_check, counts, finding_entry, group_entry, private_folders
from bonsai.dataset_card.facts import DatasetFacts
from bonsai.dataset_card.guideline import GUIDELINE


def write_report(folder: Path, groups: Sequence[Located], findings: Sequence[Finding], facts: DatasetFacts) -> None:
    """Write ``report.html`` and ``report.json`` into ``folder``, which must exist."""
    private = private_folders(groups)
    machine = {
        "repo_id": facts.repo_id,
        "version": facts.version,
        "counts": counts(groups, findings, facts),
        "findings": [finding_entry(finding, private) for finding in findings],
    }
    text = json.dumps(machine, ensure_ascii=False, indent=1) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page(groups, findings, facts), encoding="utf-8")


def page(groups: Sequence[Located], findings: Sequence[Finding], facts: DatasetFacts) -> str:
    """The whole HTML page; every text of a record is escaped by jinja2, or lies in the JSON block."""
    checks: defaultdict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.check not in checks[finding.group_id]:
            checks[finding.group_id].append(finding.check)
    private = private_folders(groups)
    style, script = _asset("report.css"), _asset("report.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("report.html.j2")).render(
        facts=facts,
        counted=counts(groups, findings, facts),
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
        data=embedded([group_entry(located, checks[located.group.id]) for located in groups]),
    )


def embedded(data: Any) -> Markup:
    """JSON that may stand in a script element: no ``<`` in it, so no text can end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _source_hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
