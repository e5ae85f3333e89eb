"""Run all checks over all records and sort the findings: gravest first, then by check and location."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bonsai.builder.checks.balance import check_balance
from bonsai.builder.checks.base import Check, Finding, Severity
from bonsai.builder.checks.chains import check_chains, check_tautology
from bonsai.builder.checks.contradiction import check_contradiction
from bonsai.builder.checks.decontamination import check_decontamination
from bonsai.builder.checks.duplicates import check_duplicates, check_leakage, check_templates
from bonsai.builder.checks.form import check_form
from bonsai.builder.checks.language import check_language
from bonsai.builder.checks.parallel import check_parallel
from bonsai.builder.checks.privacy import check_personal_data
from bonsai.builder.checks.provenance import check_provenance
from bonsai.builder.checks.readings import check_readings
from bonsai.builder.checks.reasoning import check_reasoning
from bonsai.builder.checks.repetition import check_repetition
from bonsai.builder.checks.unicode import check_unicode_text
from bonsai.builder.records import Probe, SourcedGroup

CHECKS: dict[str, Check] = {
    "form": check_form,
    "language": check_language,
    "unicode": check_unicode_text,
    "repetition": check_repetition,
    "reasoning": check_reasoning,
    "personal data": check_personal_data,
    "provenance": check_provenance,
    "readings": check_readings,
    "contradiction": check_contradiction,
    "parallel": check_parallel,
    "duplicates": check_duplicates,
    "templates": check_templates,
    "leakage": check_leakage,
    "tautology": check_tautology,
    "chains": check_chains,
    "balance": check_balance,
}
"""By the name shown while a check runs; decontamination, which also needs the probes, comes last."""

RELATIONS = ("contradiction", "duplicates", "templates", "leakage", "tautology", "chains", "balance")
"""The checks that compare groups; the others look at one group at a time."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Findings of all checks, and how long each check took."""

    findings: list[Finding]
    seconds: dict[str, float]
    """by check"""

    @property
    def errors(self) -> list[Finding]:
        """The findings that keep a dataset from being published."""
        return [finding for finding in self.findings if finding.severity is Severity.ERROR]


def run_checks(
    groups: Sequence[SourcedGroup],
    probes: Sequence[Probe],
    *,
    only: Collection[str] | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> CheckReport:
    """Run every check, or some.

    Args:
        only: names of the checks to run.
        on_step: called with the name of each check before it runs.
    """
    findings: list[Finding] = []
    seconds: dict[str, float] = {}
    checks = [*CHECKS.items(), ("decontamination", lambda groups: check_decontamination(groups, probes))]
    for name, check in checks:
        if only is not None and name not in only:
            continue
        on_step(name)
        started = time.perf_counter()
        findings.extend(check(groups))
        seconds[name] = time.perf_counter() - started
    return CheckReport(findings=sort_findings(findings, groups), seconds=seconds)


def sort_findings(findings: Sequence[Finding], groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Return findings with the gravest first, then by check and by the order of the groups."""
    order = list(Severity)
    number = {located.location: number for number, located in enumerate(groups)}
    return sorted(findings, key=lambda f: (order.index(f.severity), f.check, number.get(f.location, -1), f.field))
