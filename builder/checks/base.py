"""Findings, the text fields that the checks walk over, and the question-answer view of a group."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, Language, TextGroup


class Severity(enum.StrEnum):
    """An error keeps a dataset from being published; a warning wants a person's eye; a note is for the curious."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One doubtful place in the records."""

    check: str
    """the check's name, e.g. ``contradiction``"""
    severity: Severity
    place: str
    """``path:line`` of the group"""
    group_id: str
    field: str
    """e.g. ``ja.output``; empty where it is about the whole group"""
    what: str
    """what was found, with the text itself where it is short"""
    why: str
    """why it is doubtful and what to do"""


Check = Callable[[Sequence[SourcedGroup]], Iterator[Finding]]
"""A check sees all groups at once and yields its findings in the order of the groups."""


SHOWN = 40
"""characters of the text that a finding shows"""


class Issue(NamedTuple):
    """What a check says of a string; a finding is this and a place."""

    severity: Severity
    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class TextField:
    """One text of one language of a group."""

    located: SourcedGroup
    language: Language
    name: str
    """``instruction``, ``input``, ``reasoning``, ``output`` or, in a translation, ``text`` and ``reasoning``"""
    text: str
    earlier: bool = False
    """whether it stands below ``original``"""

    @property
    def path(self) -> str:
        """As it is found in the JSON: ``ja.output``, ``original.ja.reasoning``."""
        return f"original.{self.language}.{self.name}" if self.earlier else f"{self.language}.{self.name}"


def iter_text_fields(located: SourcedGroup) -> Iterator[TextField]:
    """The filled texts of a group: language by language, what was kept of an earlier edit last."""
    group = located.group
    if isinstance(group, TextGroup):
        for language, text in group.texts().items():
            for name in ("instruction", "input", "reasoning", "output"):
                if getattr(text, name):
                    yield TextField(located=located, language=language, name=name, text=getattr(text, name))
    else:
        for language, translation in group.texts().items():
            yield TextField(located=located, language=language, name="text", text=translation.text)
            yield TextField(located=located, language=language, name="reasoning", text=translation.reasoning)
    for language, original in group.original.items():
        for name in ("reasoning", "input"):
            if getattr(original, name):
                yield TextField(
                    located=located, language=language, name=name, text=getattr(original, name), earlier=True
                )


def field_instruction(field: TextField) -> str:
    """What was asked in the field's language; empty for a translation, whose instruction is derived."""
    group = field.located.group
    return group.texts()[field.language].instruction if isinstance(group, TextGroup) else ""


def to_findings(check: str, field: TextField, faults: Iterable[Issue]) -> Iterator[Finding]:
    """The faults of one text, each with its place."""
    for fault in faults:
        yield Finding(
            check=check,
            severity=fault.severity,
            place=field.located.place,
            group_id=field.located.group.id,
            field=field.path,
            what=fault.what,
            why=fault.why,
        )


def truncate(text: str) -> str:
    """A text as a finding shows it: one line, cut after some characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


_LABEL = re.compile(r"^\s*(?:質問|問い|問|问题|问|提问|[Qq]uestion(?:\s*\d+)?|Q)\s*[:：]\s*")
_NEXT_LABEL = re.compile(
    r"^\s*(?:理由|答え|回答|根拠|考え方|答|Reasoning|Reason|Answer|推理|依据|答案|A)\s*[:：]",
    re.IGNORECASE | re.MULTILINE,
)


class QAView(NamedTuple):
    """One language of one group."""

    located: SourcedGroup
    language: Language
    instruction: str
    input: str
    reasoning: str
    output: str
    """the text itself in a translation group, which has no instruction of its own"""

    @property
    def question(self) -> str:
        """Instruction and input together."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction

    @property
    def subject(self) -> str:
        """What sets this record apart from others with the same instruction.

        The input, where there is one; for question_to_question the new question, as its input is the answer to an
        earlier one; for a translation the text.
        """
        if self.located.group.category in (Category.QUESTION_TO_QUESTION, Category.TRANSLATION):
            return self.output
        return self.input or self.instruction


def iter_qa_views(groups: Sequence[SourcedGroup]) -> Iterator[QAView]:
    """Each language of each group, in the order of the groups and then ja, en, zh."""
    for located in groups:
        group = located.group
        if isinstance(group, TextGroup):
            for language, text in group.texts().items():
                yield QAView(located, language, text.instruction, text.input, text.reasoning, text.output)
        else:
            for language, words in group.texts().items():
                yield QAView(located, language, "", "", words.reasoning, words.text)


def extract_previous_question(input_text: str) -> str:
    """The question a question_to_question record starts from: what stands in its input before Reasoning and answer."""
    rest = _LABEL.sub("", input_text, count=1)
    following = _NEXT_LABEL.search(rest)
    return (rest[: following.start()] if following else rest.split("\n", 1)[0]).strip()
