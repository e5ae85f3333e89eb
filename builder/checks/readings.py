"""Tell what readers found, and which of their signatures no longer hold.

A reader's fault stays a warning until somebody edits the text; then the signature is stale, and a note asks the reader
to read again.

Example:
    A person signed ``ja`` of open_qa-0007 with a fault of the kind "fact": one warning, "Sato (person, 2026-12-01)
    found a fault: fact: The lake is the second largest".
"""

from __future__ import annotations

from collections.abc import Sequence

from bonsai.builder.checks.base import Finding, Issue, Severity
from bonsai.builder.records import SourcedGroup
from bonsai.builder.signatures import is_stale


def check_readings(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Return a warning for each fault that a reader found and nobody mended, and a note for each stale signature."""
    findings: list[Finding] = []
    for located in groups:
        for reading in located.group.read:
            reader = f"{reading.reader} ({reading.kind}, {reading.date})"
            if is_stale(reading, located.group):
                issue = Issue(
                    Severity.NOTE,
                    f"{reader} read another text than this one, which was edited since",
                    "the signature counts for nothing now; have the text read again",
                )
            elif reading.verdict == "fault":
                words = f": {reading.words}" if reading.words else ""
                issue = Issue.warning(
                    f"{reader} found a fault: {reading.fault}{words}",
                    "mend the text, which ends the warning, or have the reader read it again",
                )
            else:
                continue
            findings.append(issue.to_finding("readings", located, reading.language.value))
    return findings
