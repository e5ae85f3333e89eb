"""Plant faults into the real records by machine: texts that nobody wrote to test the checks."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from bonsai.builder.checks.base import Check, Severity
from bonsai.builder.checks.chains import check_chains
from bonsai.builder.checks.contradiction import check_contradiction
from bonsai.builder.checks.duplicates import check_duplicates
from bonsai.builder.checks.parallel import check_parallel, offered_labels, parse_labels
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, TextGroup, TranslationGroup

_NUMBER = re.compile(r"(?<![\dA-Za-z.,:])[1-9]\d*(?:,\d{3})*(?:\.\d+)?(?!\d)")


class Planted(NamedTuple):
    """How many of the planted faults of one kind were found."""

    check: str
    kind: str
    found: int
    planted: int


def plant(groups: Sequence[SourcedGroup]) -> Iterator[Planted]:
    """Plant one fault at a time, in one language of one group; found means that the check returns more than before."""
    chance = random.Random(20240424)
    for field in ("input", "output", "reasoning", "text"):
        edits = [edit for one in groups for edit in _numbers(one, field, chance)]
        yield _found("parallel", f"one digit of a number, {field}", check_parallel, edits)
    yield _found("parallel", "another label", check_parallel, [edit for one in groups for edit in _labels(one, chance)])
    answers = [edit for one in groups for edit in _numbers(one, "output", chance) if _single(one)]
    copies = [[one, _copy(edited, 9000 + place)] for place, (one, edited) in enumerate(answers)]
    yield _count("contradiction", "the same question with another number", check_contradiction, copies)
    sample = chance.sample(list(groups), min(100, len(groups)))
    yield _count(
        "duplicates", "a copy with other punctuation", check_duplicates, [[one, _copy(one, 9999)] for one in sample]
    )
    chains = [
        edit
        for one in groups
        if isinstance(one.group, TextGroup) and one.group.chain
        for edit in _last_letter(one, groups)
    ]
    yield _count("chains", "one letter of a question", check_chains, chains)


def _found(check: str, kind: str, run: Check, edits: Sequence[tuple[SourcedGroup, SourcedGroup]]) -> Planted:
    found = sum(_said(run, [edited]) > _said(run, [one]) for one, edited in edits)
    return Planted(check, kind, found, len(edits))


def _count(check: str, kind: str, run: Check, cases: Sequence[Sequence[SourcedGroup]]) -> Planted:
    return Planted(check, kind, sum(_said(run, case) > 0 for case in cases), len(cases))


def _said(run: Check, groups: Sequence[SourcedGroup]) -> int:
    return sum(finding.severity is not Severity.NOTE for finding in run(groups))


def _single(one: SourcedGroup) -> bool:
    return one.group.category in (Category.OPEN_QA, Category.CLOSED_QA)


def _edited(one: SourcedGroup, language: str, field: str, change: Callable[[str], str]) -> SourcedGroup:
    group = one.group
    text = getattr(group, language)
    new = text.model_copy(update={field: change(getattr(text, field))})
    return SourcedGroup(group=group.model_copy(update={language: new}), path=one.path, line=one.line)


def _copy(one: SourcedGroup, number: int) -> SourcedGroup:
    group: TextGroup | TranslationGroup = one.group.model_copy(update={"id": f"{one.group.category}-{number:04d}"})
    for language, text in group.texts().items():
        field = "text" if isinstance(group, TranslationGroup) else "instruction"
        new = text.model_copy(update={field: getattr(text, field).replace("。", "！").replace(", ", " ")})
        group = group.model_copy(update={language.value: new})
    return SourcedGroup(group=group, path=one.path, line=one.line + 1)


def _numbers(one: SourcedGroup, field: str, chance: random.Random) -> Iterator[tuple[SourcedGroup, SourcedGroup]]:
    if one.group.category is Category.CREATIVE or (one.group.category is Category.BRAINSTORMING and field != "input"):
        return
    for language, text in one.group.texts().items():
        places = [found for found in _NUMBER.finditer(getattr(text, field, "")) if found[0] != "1"]
        if places:
            place = chance.choice(places).start()
            digit = str((int(getattr(text, field)[place]) + chance.randint(1, 8) - 1) % 9 + 1)

            def change(words: str, place: int = place, digit: str = digit) -> str:
                return words[:place] + digit + words[place + 1 :]

            yield one, _edited(one, language.value, field, change)


def _labels(one: SourcedGroup, chance: random.Random) -> Iterator[tuple[SourcedGroup, SourcedGroup]]:
    if not isinstance(one.group, TextGroup) or one.group.category is not Category.CLASSIFICATION:
        return
    for language, text in one.group.texts().items():
        pairs = parse_labels(text.output)
        others = [option for option in offered_labels(text.instruction, pairs[0][1]) if option != pairs[0][1]]
        if len(pairs) == 1 and others:
            other = chance.choice(others)
            yield one, _edited(one, language.value, "output", partial(_replaced, other))


def _replaced(new: str, _: str) -> str:
    return new


def _last_letter(one: SourcedGroup, groups: Sequence[SourcedGroup]) -> Iterator[list[SourcedGroup]]:
    chain = getattr(one.group, "chain", None)
    members = [
        each for each in groups if getattr(getattr(each.group, "chain", None), "id", None) == getattr(chain, "id", "")
    ]
    if chain and chain.step < len(members):
        yield [
            _edited(each, "ja", "output", lambda words: words[:-3] + words[-2:]) if each is one else each
            for each in members
        ]
