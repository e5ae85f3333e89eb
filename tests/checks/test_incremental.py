"""What the index finds about one group is what a check of all of them finds about it."""

from __future__ import annotations

import json
from itertools import count

import pytest

from bonsai.builder.checks.base import Finding
from bonsai.builder.checks.incremental import RelationIndex, check_alone
from bonsai.builder.checks.run import CHECKS, RELATIONS
from bonsai.builder.records import SourcedGroup, default_probes, default_records_dir, read_groups, read_probes
from bonsai.builder.schema import Category
from tests.checks.labelled import TEXT_CHECKS, cases
from tests.checks.relation_cases import _GROUPS, CASES

PAIRED = [name for name in RELATIONS if name != "balance"]


@pytest.fixture(scope="module")
def world() -> list[SourcedGroup]:
    """Real groups, and the labelled cases of the comparing checks among them under numbers of their own."""
    groups = read_groups(default_records_dir())[::5]
    numbers = count(5000)
    for check in PAIRED:
        for place, line in enumerate((CASES / f"{check}.jsonl").read_text(encoding="utf-8").splitlines()[::3]):
            for located in _GROUPS[check](json.loads(line)):
                number = next(numbers)
                changes: dict[str, object] = {"id": f"{located.group.category}-{number:04d}"}
                if chain := getattr(located.group, "chain", None):
                    changes["chain"] = chain.model_copy(update={"id": f"{check} {place}"})
                group = located.group.model_copy(update=changes)
                groups.append(SourcedGroup(group=group, path=located.path, line=number))
    order = list(Category)
    return sorted(groups, key=lambda one: (order.index(one.group.category), one.path.name, one.line))


@pytest.fixture(scope="module")
def expected(world: list[SourcedGroup]) -> list[Finding]:
    return [finding for name in PAIRED for finding in CHECKS[name](world)]


def about(findings: list[Finding], name: str) -> set[Finding]:
    return {finding for finding in findings if name == finding.group_id or name in finding.message}


def test_an_index_finds_what_a_check_of_everything_finds(world: list[SourcedGroup], expected: list[Finding]) -> None:
    index = RelationIndex(world)
    assert len({finding.check for finding in expected}) == len(PAIRED)
    assert len(expected) > 100
    for located in world:
        found = {finding for finding in index.check(located) if finding.check != "balance"}
        assert found == about(expected, located.group.id), located.group.id


def test_an_index_that_was_kept_up_with_edits_is_as_good_as_a_new_one(
    world: list[SourcedGroup], expected: list[Finding]
) -> None:
    # at first every third group has the texts of another one, every seventh is missing, and two are too many
    first = [with_texts_of(one, world) if number % 3 else one for number, one in enumerate(world) if number % 7]
    extra = [renamed(one) for one in world[:2]]
    index = RelationIndex([*first, *extra])
    index.update([one for number, one in enumerate(world) if number % 3 or number % 7 == 0])
    index.update([], removed=[one.group.id for one in extra])
    for located in world[::4]:
        # which words are names was settled before the edits, and a shape may depend on it
        found = {finding for finding in index.check(located) if finding.check not in ("balance", "templates")}
        wanted = {finding for finding in about(expected, located.group.id) if finding.check != "templates"}
        assert found == wanted, located.group.id


def with_texts_of(one: SourcedGroup, world: list[SourcedGroup]) -> SourcedGroup:
    other = next(two.group for two in reversed(world) if two.group.category == one.group.category)
    texts = {"ja": other.ja, "en": other.en, "zh": other.zh}
    return SourcedGroup(group=one.group.model_copy(update=texts), path=one.path, line=one.line)


def renamed(one: SourcedGroup) -> SourcedGroup:
    group = one.group.model_copy(update={"id": one.group.id[:-4] + "9999"})
    return SourcedGroup(group=group, path=one.path, line=9999)


def test_a_new_group_is_compared_before_it_is_saved(world: list[SourcedGroup]) -> None:
    twin = renamed(world[40])
    assert any("duplicates" in finding.check for finding in RelationIndex(world).check(twin))


def test_an_edit_that_puts_topics_out_of_balance_is_told_with_it() -> None:
    groups = read_groups(default_records_dir())[:100]
    topics = [located.group.topic for located in groups]
    most = max(topics, key=topics.count)

    def on_topic(one: SourcedGroup) -> SourcedGroup:
        return SourcedGroup(group=one.group.model_copy(update={"topic": most}), path=one.path, line=one.line)

    *others, edited = [one for one in groups if one.group.topic != most][: 13 - topics.count(most)]
    index = RelationIndex(groups)
    index.update([on_topic(one) for one in others])  # as many as there may be
    assert index.check(edited) == []
    (finding,) = index.check(on_topic(edited))
    assert (finding.check, finding.group_id) == ("balance", edited.group.id)
    assert f"13 of 100 groups of open_qa are about {most}" in finding.message


@pytest.mark.parametrize("check", TEXT_CHECKS)
def test_a_group_alone_gets_the_findings_of_its_own_checks(check: str) -> None:
    case = next(case for case in cases(check) if case.fault)
    assert check in {finding.check for finding in check_alone(case.located, read_probes(default_probes()))}
