"""Measure how many corruptions of clean records the checks catch, in twelve ways.

    python -m benchmarks.mutations

300 groups of the published records (drawn with a fixed seed, 25 for each way) are corrupted at once; a corruption is
caught when some check says an error or a warning that names its group and that it did not say before.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.checks.run import run_checks
from bonsai.builder.records import SourcedGroup, default_probes, default_records_dir, read_groups, read_probes
from bonsai.builder.schema import Group, TextGroup, TranslationGroup

EACH = 25
SEED = 7

Record = dict[str, Any]
_GROUP: TypeAdapter[TextGroup | TranslationGroup] = TypeAdapter(Group)


def swapped_answer(record: Record, other: Record, rng: random.Random) -> bool:
    """One language answers another group's question."""
    record["en"]["output"] = other["en"]["output"]
    return True


def flipped_number(record: Record, other: Record, rng: random.Random) -> bool:
    """A number of the English answer is another one."""
    found = list(re.finditer(r"\d+", record["en"]["output"]))
    if not found:
        return False
    number = rng.choice(found)
    other_number = str(int(number[0]) + rng.choice([1, 2, 7, 10]))
    text = record["en"]["output"]
    record["en"]["output"] = text[: number.start()] + other_number + text[number.end() :]
    return True


def moved_passage(record: Record, other: Record, rng: random.Random) -> bool:
    """The Japanese passage is another group's."""
    record["ja"]["input"] = other["ja"]["input"]
    return True


def truncated(record: Record, other: Record, rng: random.Random) -> bool:
    """The Japanese answer stops in the middle."""
    text = record["ja"]["output"]
    if len(text) < 40:
        return False
    record["ja"]["output"] = text[: len(text) // 2]
    return True


def copied_with_edits(record: Record, other: Record, rng: random.Random) -> bool:
    """The group is another group with a word or two changed."""
    keep = record["id"]
    record.update(json.loads(json.dumps(other)))
    record["id"] = keep
    for language in ("ja", "en"):
        record[language]["instruction"] = record[language]["instruction"].replace("。", "、教えてください。", 1)
        record[language]["output"] += " (Short.)" if language == "en" else "以上。"
    return True


def wrong_language(record: Record, other: Record, rng: random.Random) -> bool:
    """The Japanese answer is in English."""
    if record["ja"]["output"].isascii():
        return False
    record["ja"]["output"] = record["en"]["output"]
    return True


def mojibake(record: Record, other: Record, rng: random.Random) -> bool:
    """The Japanese answer was read in the wrong encoding."""
    record["ja"]["output"] = record["ja"]["output"].encode("utf-8").decode("cp932", errors="replace")
    return True


def half_width_kana(record: Record, other: Record, rng: random.Random) -> bool:
    """A katakana word of the answer came through an old system."""
    wide = dict(
        zip(
            "アイウエオカキクケコサシスセソタチツテトナニヌネノマミムメモヤユヨラリルレロワン",
            "ｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾏﾐﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜﾝ",
            strict=True,
        )
    )
    changed = "".join(wide.get(letter, letter) for letter in record["ja"]["output"])
    if changed == record["ja"]["output"]:
        return False
    record["ja"]["output"] = changed
    return True


def repeated(record: Record, other: Record, rng: random.Random) -> bool:
    """The answer says itself three times."""
    language = rng.choice(["ja", "en"])
    text = record[language]["output"]
    if len(text) < 12:
        return False
    record[language]["output"] = " ".join([text] * 3) if language == "en" else text * 3
    return True


def restating_reasoning(record: Record, other: Record, rng: random.Random) -> bool:
    """The Reasoning is the answer once more."""
    language = rng.choice(["ja", "en"])
    record[language]["reasoning"] = record[language]["output"]
    return True


def telephone_number(record: Record, other: Record, rng: random.Random) -> bool:
    """Somebody's number has got into the answer."""
    record["ja"]["output"] += "お問い合わせは090-3141-5926までどうぞ。"
    return True


def circular_question(record: Record, other: Record, rng: random.Random) -> bool:
    """The deeper question is the first one again."""
    question = record["en"]["input"].split("\n")[0].removeprefix("Question: ")
    record["en"]["output"] = question.replace("Why does", "What is the reason why").replace("What ", "Tell me, what ")
    return True


Mutation = Callable[[Record, Record, random.Random], bool]
WAYS: dict[Mutation, tuple[str, ...]] = {
    swapped_answer: ("closed_qa", "open_qa"),
    flipped_number: ("closed_qa", "open_qa"),
    moved_passage: ("closed_qa",),
    truncated: ("brainstorming", "closed_qa", "open_qa"),
    copied_with_edits: ("open_qa", "closed_qa", "brainstorming"),
    wrong_language: ("brainstorming", "creative"),
    mojibake: ("creative", "brainstorming", "open_qa"),
    half_width_kana: ("creative", "brainstorming", "open_qa"),
    repeated: ("creative", "brainstorming", "open_qa"),
    restating_reasoning: ("open_qa", "closed_qa", "question_to_question"),
    telephone_number: ("creative", "open_qa", "classification"),
    circular_question: ("question_to_question",),
}
"""Each way, and the categories it is tried on."""


def corrupt(groups: list[SourcedGroup], rng: random.Random) -> tuple[list[SourcedGroup], dict[str, str]]:
    """Corrupt some groups; return all groups, and the way by group id."""
    ways: dict[str, str] = {}
    changed: dict[str, SourcedGroup] = {}
    for mutation, categories in WAYS.items():
        free = [g for g in groups if g.group.category in categories and g.group.id not in ways and not g.group.skills]
        rng.shuffle(free)
        done = 0
        for located in free:
            if done == EACH:
                break
            record = json.loads(located.group.model_dump_json(exclude_none=True))
            clean = [g for g in groups if g.group.category == located.group.category and g.group.id not in ways]
            other = rng.choice([g for g in clean if g is not located])
            if mutation(record, json.loads(other.group.model_dump_json(exclude_none=True)), rng):
                group = _GROUP.validate_json(json.dumps(record))
                changed[located.group.id] = SourcedGroup(group=group, path=located.path, line=located.line)
                ways[located.group.id] = mutation.__name__
                done += 1
    return [changed.get(located.group.id, located) for located in groups], ways


def count_warnings(findings: Iterable[Finding]) -> Counter[tuple[str, str]]:
    """Count the errors and warnings of each check by group; a finding about a pair counts for both groups."""
    return Counter(
        (group_id, f.check)
        for f in findings
        if f.severity is not Severity.NOTE
        for group_id in {f.group_id, *re.findall(r"[a-z_]+-\d{4}", f"{f.message} {f.hint}")}
    )


def caught_by_way() -> dict[str, tuple[int, int]]:
    """Return caught and tried corruptions, by way."""
    groups, probes = read_groups(default_records_dir()), read_probes(default_probes())
    before = count_warnings(run_checks(groups, probes).findings)
    mutated, ways = corrupt(groups, random.Random(SEED))
    new = count_warnings(run_checks(mutated, probes).findings) - before
    seen = {group_id for group_id, _ in new}
    tried = Counter(ways.values())
    caught = Counter(way for group_id, way in ways.items() if group_id in seen)
    return {way.__name__: (caught[way.__name__], tried[way.__name__]) for way in WAYS}


def main() -> None:
    """Print the table."""
    result = caught_by_way()
    table = Table(title="planted faults caught", title_style="bold")
    table.add_column("way")
    table.add_column("caught", justify="right")
    table.add_column("tried", justify="right")
    for way, (caught, tried) in result.items():
        table.add_row(way.replace("_", " "), str(caught), str(tried))
    table.add_section()
    caught, tried = (sum(pair[i] for pair in result.values()) for i in (0, 1))
    table.add_row("all", f"{caught} ({caught / tried:.1%})", str(tried))
    Console().print(table)


if __name__ == "__main__":
    main()
