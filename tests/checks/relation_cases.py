"""Build groups from the hand-labelled cases of the checks that compare records.

Each line of ``cases/<check>.jsonl`` is one case: ``fault`` says whether the check has to raise an error or a warning.
A text is ``[instruction, input, output]``; where a case writes one language, the others hold something unrelated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from bonsai.builder.checks.balance import check_balance
from bonsai.builder.checks.base import Check, Severity
from bonsai.builder.checks.chains import check_chains, check_tautology
from bonsai.builder.checks.contradiction import check_contradiction
from bonsai.builder.checks.decontamination import check_decontamination
from bonsai.builder.checks.duplicates import check_duplicates, check_leakage, check_templates
from bonsai.builder.checks.parallel import check_parallel
from bonsai.builder.checks.quantities import quantity_mismatch
from bonsai.builder.records import Probe, SourcedGroup
from bonsai.builder.rows import assign_split
from bonsai.builder.schema import ANSWER_IN_INPUT, Category, Language, TextGroup, TranslationGroup

CASES = Path(__file__).parent / "cases"
Case = dict[str, Any]

CHECKS: dict[str, Check] = {
    "contradiction": check_contradiction,
    "parallel": check_parallel,
    "duplicates": check_duplicates,
    "templates": check_templates,
    "leakage": check_leakage,
    "tautology": check_tautology,
    "chains": check_chains,
    "balance": check_balance,
}


def written_probe(language: str, question: str, reference: str, accepted: Sequence[str]) -> Probe:
    """Create a probe from what a case writes of it; unlike a record's, its reference may be empty."""
    return Probe.model_construct(
        id="probe",
        kind="capital",
        language=Language(language),
        answer_language=Language(language),
        instruction=question,
        input="",
        reference=reference,
        accepted=tuple(accepted),
        post="",
        note="",
    )


@dataclass(kw_only=True)
class Score:
    """How many faults a check found and missed, and its false alarms."""

    found: int = 0
    missed: list[Case] = field(default_factory=list)
    false_alarms: list[Case] = field(default_factory=list)
    innocent: int = 0

    @property
    def precision(self) -> float:
        """Faults among what was flagged."""
        return self.found / max(1, self.found + len(self.false_alarms))

    @property
    def recall(self) -> float:
        """Faults flagged among all faults."""
        return self.found / max(1, self.found + len(self.missed))


def is_flagged(check: str, case: Case) -> bool:
    """Return whether the check raises an error or a warning for this case."""
    if check == "quantities":
        return all(quantity_mismatch(case["first"], case["second"]))
    groups = _GROUPS[check](case)
    if check == "decontamination":
        findings = check_decontamination(groups, [written_probe(**case["probe"])])
    else:
        findings = CHECKS[check](groups)
    return any(finding.severity is not Severity.NOTE for finding in findings)


def score(check: str) -> Score:
    """Run one check over its labelled cases."""
    result = Score()
    for line in (CASES / f"{check}.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        raised = is_flagged(check, case)
        if case["fault"]:
            result.found += raised
            result.missed += [] if raised else [case]
        else:
            result.innocent += 1
            result.false_alarms += [case] if raised else []
    return result


def _pair(case: Case) -> list[SourcedGroup]:
    """Two groups of one category; Japanese and English are both filled from the one text that the case writes."""
    second: str = case["second_language"] if "second_language" in case else case["language"]
    splits = case.get("splits", ("train", "train"))
    category = case.get("category", "closed_qa" if case["first"][1] and case["second"][1] else "open_qa")
    if category == "translation":
        return [
            _located(category, {"ja": text[1], "en": text[2]}, place, "train")
            for place, text in enumerate((case["first"], case["second"]))
        ]
    return [
        _located(category, _filled(case["first"], case["language"], 0), 0, splits[0]),
        _located(category, _filled(case["second"], second, 1), 1, splits[1]),
    ]


_UNRELATED = (
    {
        "ja": ("大工が使う道具を一つ挙げてください。", "棟梁は朝から柱にほぞ穴を彫っていた。", "-", "のみ"),
        "en": (
            "Name a tool that a carpenter uses.",
            "All morning the carpenter cut mortises into a post.",
            "-",
            "a chisel",
        ),
    },
    {
        "ja": (
            "雲のでき方を一文で述べてください。",
            "山の斜面を昇った空気は冷えて水滴になる。",
            "-",
            "空気が冷えるとできる",
        ),
        "en": (
            "State how clouds form.",
            "Air that climbs a slope cools down and turns to droplets.",
            "-",
            "by cooling air",
        ),
    },
)
"""texts of the languages that a case leaves out"""


def _filled(text: Sequence[str], language: str, place: int) -> dict[str, Sequence[str]]:
    instruction, input_text, output = text
    others: dict[str, Sequence[str]] = {
        each: words if input_text else (words[0], "", *words[2:]) for each, words in _UNRELATED[place].items()
    }
    return others | {language: (instruction, input_text, "-", output)}


def _parallel(case: Case) -> list[SourcedGroup]:
    return [_located(case["category"], {each: case[each] for each in ("ja", "en", "zh") if each in case}, 0, "train")]


def _contaminated(case: Case) -> list[SourcedGroup]:
    record = case["record"]
    if case["category"] == "translation":
        return [_located("translation", {"ja": record[1], "en": record[2]}, 0, "train")]
    return [_located(case["category"], _filled(record, case["language"], 0), 0, "train")]


_QUESTION = {"ja": "質問：", "en": "Question: ", "zh": "问题："}
_ANSWER = {"ja": "\n答え：短い答え。", "en": "\nAnswer: A short answer.", "zh": "\n回答：简短的回答。"}


def _new_question(case: Case) -> list[SourcedGroup]:
    language = case["language"]
    text = ("…", f"{_QUESTION[language]}{case['old']}{_ANSWER[language]}", "-", case["new"])
    texts = {"ja": text, "en": text} | ({"zh": text} if language == "zh" else {})
    return [_located("question_to_question", texts, 0, None, chain={"id": "case", "step": 1})]


def _chain(case: Case) -> list[SourcedGroup]:
    marks = case.get("labels", _QUESTION)
    groups = []
    for place, step in enumerate(case["steps"]):
        texts = {
            language: ("…", f"{marks[language]}{step[language][0]}{_ANSWER[language]}", "-", step[language][1])
            for language in ("ja", "en", "zh")
            if language in step
        }
        groups.append(_located("question_to_question", texts, place, None, chain={"id": "case", "step": step["step"]}))
    return groups


def _shares(case: Case) -> list[SourcedGroup]:
    sizes = case["counts"] or {"open_qa": sum(case["topics"].values())}
    topics = [topic for topic, size in case["topics"].items() for _ in range(size)]
    groups = []
    for category, size in sizes.items():
        for place in range(size):
            output = "word " * 130 if place < round(case["long"] * size) else "A short answer."
            text = ("…", "…", "-", output)
            texts: dict[str, Any] = {"ja": text, "en": text}
            if place >= size - round(case["zh"] * size):
                texts["zh"] = text
            if category == "translation":
                texts = dict.fromkeys(texts, "…")
            topic = topics[place] if topics else f"topic {place % 10}"
            chain = {"id": f"c{place}", "step": 1} if category == "question_to_question" else None
            groups.append(_located(category, texts, place, None, chain=chain, topic=topic))
    return groups


def _located(
    category: str,
    texts: dict[str, Any],
    place: int,
    split: str | None,
    chain: dict[str, Any] | None = None,
    topic: str = "everyday life",
) -> SourcedGroup:
    """A group whose number puts it into the split that is asked for."""
    about = {
        "category": Category(category),
        "topic": topic,
        "source": "authored",
        "license": "MIT",
        "generator": "a person",
    }
    for number in count(1 + 5000 * place if split else place + 1):
        name = {"id": f"{category}-{number:04d}"}
        if category == "translation":
            words = {language: {"text": text, "reasoning": "-"} for language, text in texts.items()}
            group: TextGroup | TranslationGroup = TranslationGroup.model_validate(about | name | words)
        else:
            words = {
                language: {"instruction": text[0], "input": text[1], "reasoning": text[2], "output": text[3]}
                for language, text in texts.items()
            }
            if Category(category) in ANSWER_IN_INPUT:
                words = {language: {**text, "input": text["input"] or "…"} for language, text in words.items()}
            whole = (
                about | name | words | ({"chain": chain or {"id": name["id"], "step": 1}} if _chained(category) else {})
            )
            group = TextGroup.model_validate(whole)
        if split is None or assign_split(group) == split:
            return SourcedGroup(group=group, path=CASES / f"{category}.jsonl", line=place + 1)
    raise AssertionError("count() never ends")


def _chained(category: str) -> bool:
    return Category(category) is Category.QUESTION_TO_QUESTION


_GROUPS: dict[str, Callable[[Case], list[SourcedGroup]]] = {
    "contradiction": _pair,
    "parallel": _parallel,
    "duplicates": _pair,
    "templates": _pair,
    "leakage": _pair,
    "decontamination": _contaminated,
    "tautology": _new_question,
    "chains": _chain,
    "balance": _shares,
}

ALL = ("quantities", *CHECKS, "decontamination")
