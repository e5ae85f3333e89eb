"""Test the single-record checks: recall and precision on labelled cases, no errors in the real records."""

from __future__ import annotations

from collections import Counter

import pytest

from bonsai.builder.checks.base import Severity
from bonsai.builder.records import default_records_dir, read_groups
from tests.checks.labelled import CASES as FOLDER
from tests.checks.labelled import TEXT_CHECKS, cases, lines_of, located, score
from tests.checks.planted import plant


@pytest.mark.parametrize("check", TEXT_CHECKS)
def test_check_reaches_recall_and_precision(check: str) -> None:
    result = score(check)
    assert result.recall >= 0.95, result.missed
    assert result.precision >= 0.95, result.false_alarms


@pytest.mark.parametrize("check", TEXT_CHECKS)
def test_cases_cover_faults_innocents_and_all_languages(check: str) -> None:
    counted = Counter((case.fault, case.language) for case in cases(check))
    assert sum(number for (fault, _), number in counted.items() if fault) >= 20
    assert sum(number for (fault, _), number in counted.items() if not fault) >= 20
    assert min(counted.values()) >= 8


def test_checks_find_nothing_in_the_base_groups() -> None:
    groups = [located(group) for group in lines_of(FOLDER / "base_groups.jsonl")]
    assert [finding for check in TEXT_CHECKS.values() for finding in check(groups)] == []


@pytest.mark.parametrize("check", TEXT_CHECKS)
def test_check_finds_no_errors_in_published_records(check: str) -> None:
    findings = TEXT_CHECKS[check](read_groups(default_records_dir()))
    assert [finding for finding in findings if finding.severity is Severity.ERROR] == []


@pytest.mark.slow
def test_checks_find_faults_planted_into_real_records() -> None:
    results = [*plant(read_groups(default_records_dir()))]
    assert all(result.planted > 20 for result in results), results
    assert [result for result in results if result.found < 0.85 * result.planted] == []
    assert sum(result.found for result in results) >= 0.95 * sum(result.planted for result in results)
