"""Plant faults into the real records: recall where the surrounding text was not written for the test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from bonsai.builder.checks.base import Severity
from bonsai.builder.records import SourcedGroup
from tests.checks.labelled import TEXT_CHECKS, located

Group = dict[str, Any]
Planter = Callable[[Group, str], str | None]
"""From a group and a language to the new output; None where it has no place for the fault"""


class Planted(NamedTuple):
    """How many of the planted faults of one kind were found."""

    check: str
    kind: str
    found: int
    planted: int


def _output_of(other: str) -> Planter:
    def swap(group: Group, language: str) -> str | None:
        there = group.get(other, {}).get("output", "")
        long = len(there.split()) > 5 if other == "en" else len(there) > 12
        return there if long and other != language and not group.get("skills") else None

    return swap


def _read_as(encoding: str) -> Planter:
    def garble(group: Group, language: str) -> str | None:
        return group[language]["output"].encode().decode(encoding, errors="ignore") if language != "en" else None

    return garble


def _without(mark: str) -> Planter:
    def drop(group: Group, language: str) -> str | None:
        output: str = group[language]["output"]
        return output.replace(mark, "", 1) if mark in output else None

    return drop


def _ascii_comma(group: Group, language: str) -> str | None:
    output: str = group[language]["output"]
    return output.replace("，", ",", 1) if language == "zh" and "，" in output else None


def _twice(group: Group, language: str) -> str | None:
    output: str = group[language]["output"]
    return f"{output}\n{output}" if len(output) > 8 else None


def _first_sentence_again(group: Group, language: str) -> str | None:
    output: str = group[language]["output"]
    first = re.match(r"[^。.\n]{12,}。" if language != "en" else r"[^.\n]{30,}\.(?=\s)", output)
    return f"{output} {first.group()}" if first and group["category"] == "creative" else None


def _one_item_less(group: Group, language: str) -> str | None:
    return group[language]["output"].rpartition("\n")[0] if group["category"] == "brainstorming" else None


def _one_answer_less(group: Group, language: str) -> str | None:
    output: str = group[language]["output"]
    return output.rpartition("\n")[0] if group["category"] == "classification" and output.count("\n") > 1 else None


def _label_of_nobody(group: Group, language: str) -> str | None:
    label = {"ja": "その他", "en": "miscellaneous", "zh": "其他"}[language]
    return label if group["category"] == "classification" and "\n" not in group[language]["output"] else None


def _second_question(group: Group, language: str) -> str | None:
    more = {"ja": "それはなぜですか。", "en": " Why is that so?", "zh": "为什么？"}[language]
    return group[language]["output"] + more if group["category"] == "question_to_question" else None


def _other_number(group: Group, language: str) -> str | None:
    output: str = group[language]["output"]
    if group["category"] != "closed_qa" or not re.search(r"\d\d", output):
        return None
    return re.sub(r"\d{2,}", lambda found: str(int(found.group()) + 137), output, count=1)


def _telephone(group: Group, language: str) -> str | None:
    number = {"ja": "電話は090-8462-7719。", "en": " Call (415) 867-2093.", "zh": "电话13962748051。"}[language]
    return group[language]["output"] + number if group["category"] == "creative" else None


PLANTERS: tuple[tuple[str, str, Planter], ...] = (
    ("language", "Japanese output elsewhere", _output_of("ja")),
    ("language", "English output elsewhere", _output_of("en")),
    ("language", "Chinese output elsewhere", _output_of("zh")),
    ("unicode_text", "UTF-8 read as Shift_JIS", _read_as("cp932")),
    ("unicode_text", "UTF-8 read as GBK", _read_as("gbk")),
    ("unicode_text", "UTF-8 read as Latin-1", _read_as("latin-1")),
    ("unicode_text", "「 never closed", _without("」")),
    ("unicode_text", "“ never closed", _without("”")),
    ("unicode_text", "ASCII comma in Chinese", _ascii_comma),
    ("repetition", "the whole output twice", _twice),
    ("repetition", "the first sentence again", _first_sentence_again),
    ("form", "one idea less", _one_item_less),
    ("form", "one answer less", _one_answer_less),
    ("form", "a label nobody named", _label_of_nobody),
    ("form", "a second question", _second_question),
    ("form", "another number", _other_number),
    ("personal_data", "a telephone number", _telephone),
)


def plant(groups: Sequence[SourcedGroup]) -> Iterator[Planted]:
    """Plant each kind of fault wherever it fits, one at a time."""
    for check, kind, planter in PLANTERS:
        found = planted = 0
        for original in groups:
            group = original.group.model_dump(mode="json", exclude_none=True)
            for language in ("ja", "en", "zh"):
                if group["category"] == "translation" or language not in group:
                    continue
                before = group[language]["output"]
                output = planter(group, language)
                if output is None or output == before:
                    continue
                spoilt = located(group | {language: group[language] | {"output": output}})
                planted += 1
                found += any(finding.severity is not Severity.NOTE for finding in TEXT_CHECKS[check]([spoilt]))
        yield Planted(check, kind, found, planted)
