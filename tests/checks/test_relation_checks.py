"""Test the checks that compare records: recall and precision on labelled cases, no errors in the real records."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bonsai.builder.checks.balance import check_balance
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.chains import check_chains, check_tautology
from bonsai.builder.checks.contradiction import check_contradiction
from bonsai.builder.checks.decontamination import check_decontamination
from bonsai.builder.records import SourcedGroup, default_probes, default_records_dir, read_groups, read_probes
from bonsai.builder.schema import Category, TextGroup
from tests.checks.relation_cases import ALL, CASES, CHECKS, score, written_probe
from tests.checks.relation_planted import plant

RECALL, PRECISION = 0.95, 0.93
"""Tautology, the hardest, finds 72 of 75 and is right in 72 of 77; every other check is above .95 in both."""


@pytest.fixture(scope="module")
def records() -> list[SourcedGroup]:
    return read_groups(default_records_dir())


@pytest.mark.parametrize("check", ALL)
def test_check_reaches_recall_and_precision(check: str) -> None:
    result = score(check)
    assert result.recall >= RECALL, result.missed
    assert result.precision >= PRECISION, result.false_alarms


@pytest.mark.parametrize("check", ALL)
def test_cases_hold_twenty_faults_and_twenty_innocents(check: str) -> None:
    faults = [json.loads(line)["fault"] for line in (CASES / f"{check}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert faults.count(True) >= 20
    assert faults.count(False) >= 20


@pytest.mark.parametrize("check", CHECKS)
def test_check_finds_no_errors_in_published_records(check: str, records: list[SourcedGroup]) -> None:
    assert [finding for finding in CHECKS[check](records) if finding.severity is Severity.ERROR] == []


def test_check_decontamination_finds_no_probe_in_train(records: list[SourcedGroup]) -> None:
    assert check_decontamination(records, read_probes(default_probes())) == []


@pytest.mark.slow
def test_checks_find_faults_planted_into_real_records(records: list[SourcedGroup]) -> None:
    recall = {(each.check, each.kind): each.found / each.planted for each in plant(records)}
    free = recall.pop(("parallel", "one digit of a number, reasoning"))  # Reasoning may take another road: half is much
    assert free >= 0.4
    assert {kind: share for kind, share in recall.items() if share < 0.9} == {}


def test_check_decontamination_locates_a_planted_probe(records: list[SourcedGroup]) -> None:
    here = next(one for one in records if one.group.category is Category.OPEN_QA)
    assert isinstance(here.group, TextGroup)
    probe = written_probe(language="ja", question=here.group.ja.instruction, reference="-", accepted=())
    found = [one for one in check_decontamination(records, [probe]) if one.group_id == here.group.id]
    assert [(one.location, one.field, one.severity) for one in found] == [
        (here.location, "ja.instruction", Severity.ERROR)
    ]


def test_check_contradiction_names_both_answers_and_locations(records: list[SourcedGroup]) -> None:
    here = next(one for one in records if one.group.id == "open_qa-0004")
    other = here.group.ja.model_copy(update={"output": "95秒です。"})
    there = replace(here, group=here.group.model_copy(update={"id": "open_qa-9999", "ja": other}), line=9999)
    (finding,) = check_contradiction([here, there])
    assert finding.location == here.location
    assert "90秒" in finding.message
    assert "95秒" in finding.message
    assert there.location in finding.message


def test_checks_accept_an_empty_list_of_records() -> None:
    assert [finding for check in CHECKS.values() for finding in check([])] == []


def test_check_tautology_finds_an_earlier_question_of_the_chain(records: list[SourcedGroup]) -> None:
    chain = [one for one in records if getattr(getattr(one.group, "chain", None), "id", "") == "gauge"]
    first, last = chain[0], chain[-1]
    assert isinstance(first.group, TextGroup)
    asked = first.group.texts()
    texts = {
        language.value: text.model_copy(update={"output": asked[language].output})
        for language, text in last.group.texts().items()
    }
    turned = replace(last, group=last.group.model_copy(update=texts))
    assert check_tautology(chain) == []
    (finding,) = check_tautology([*chain[:-1], turned])
    assert (finding.group_id, finding.severity) == (last.group.id, Severity.ERROR)
    assert first.group.id in finding.message


def test_check_chains_names_the_question_that_is_missing(records: list[SourcedGroup]) -> None:
    chain = [one for one in records if getattr(getattr(one.group, "chain", None), "id", "") == "gauge"]
    changed = chain[0].group.ja.model_copy(update={"output": "ほかの質問ですか。"})
    (finding,) = check_chains([replace(chain[0], group=chain[0].group.model_copy(update={"ja": changed})), *chain[1:]])
    assert (finding.location, finding.field) == (chain[1].location, "ja.input")
    assert "ほかの質問ですか。" in finding.hint


def test_check_balance_notes_lengths_of_each_category(records: list[SourcedGroup]) -> None:
    notes = [finding.message for finding in check_balance(records) if finding.severity is Severity.NOTE]
    assert len(notes) == len(Category) - 1
