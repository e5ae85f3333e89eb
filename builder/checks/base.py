"""Define findings, issues, and the two views of a group that checks walk over: its texts, and question with answer.

A check is a function `check_x(groups) -> list[Finding]`. What it decides about one text is a function `x_issues(text)`
that yields issues, so that answers of models can be judged by the same rules as records.

Example:
    >>> extract_previous_question("Question: Why is the sky blue?\\nAnswer: Air scatters blue light.")
    'Why is the sky blue?'
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, Language, TextGroup

SHOWN = 40
"""characters of a text that a finding shows"""

_LABEL = re.compile(r"^\s*(?:質問|問い|問|问题|问|提问|[Qq]uestion(?:\s*\d+)?|Q)\s*[:：]\s*")
_NEXT_LABEL = re.compile(
    r"^\s*(?:理由|答え|回答|根拠|考え方|答|Reasoning|Reason|Answer|推理|依据|答案|A)\s*[:：]",
    re.IGNORECASE | re.MULTILINE,
)


class Severity(enum.StrEnum):
    """An error keeps a dataset from being published, a warning wants a person's eye, a note is only information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One doubtful text or group in the records."""

    check: str
    """the check's name, e.g. ``contradiction``"""
    severity: Severity
    location: str
    """``path:line`` of the group"""
    group_id: str
    field: str
    """e.g. ``ja.output``; empty where the finding is about the whole group"""
    message: str
    """what was found, with the text itself where it is short"""
    hint: str
    """why it is doubtful and what to do"""


Check = Callable[[Sequence[SourcedGroup]], list[Finding]]
"""A check sees all groups at once and returns its findings in the order of the groups."""


class Issue(NamedTuple):
    """What is wrong with a text; with a location it becomes a finding."""

    severity: Severity
    message: str
    hint: str

    @classmethod
    def error(cls, message: str, hint: str) -> Issue:
        """Create an issue that keeps the dataset from being published."""
        return cls(Severity.ERROR, message, hint)

    @classmethod
    def warning(cls, message: str, hint: str) -> Issue:
        """Create an issue that a person should look at."""
        return cls(Severity.WARNING, message, hint)

    def to_finding(self, check: str, located: SourcedGroup, field: str = "") -> Finding:
        """Locate the issue in a group, or in one ``field`` of it."""
        return Finding(
            check=check,
            severity=self.severity,
            location=located.location,
            group_id=located.group.id,
            field=field,
            message=self.message,
            hint=self.hint,
        )


@dataclass(frozen=True, kw_only=True)
class TextField:
    """One text of one language of a group."""

    located: SourcedGroup
    language: Language
    name: str
    """``instruction``, ``input``, ``reasoning``, ``output``, those of an earlier turn as ``history[0].output``, or in a
    translation ``text`` and ``reasoning``"""
    text: str
    earlier: bool = False
    """whether it belongs to ``original``, the text before an edit"""

    @property
    def path(self) -> str:
        """Path of the text in the JSON: ``ja.output``, ``original.ja.reasoning``."""
        return f"original.{self.language}.{self.name}" if self.earlier else f"{self.language}.{self.name}"

    @property
    def instruction(self) -> str:
        """The instruction in the field's language; empty in a translation, whose instruction is derived."""
        group = self.located.group
        return group.texts()[self.language].instruction if isinstance(group, TextGroup) else ""


def iter_text_fields(located: SourcedGroup) -> Iterator[TextField]:
    """Yield the non-empty texts of a group, language by language; texts from before an edit come last."""
    group = located.group
    if isinstance(group, TextGroup):
        for language, text in group.texts().items():
            named = {f"history[{at}].{name}": words for at, turn in enumerate(text.history) for name, words in turn}
            named |= {name: getattr(text, name) for name in ("instruction", "input", "reasoning", "output")}
            for name, words in named.items():
                if words:
                    yield TextField(located=located, language=language, name=name, text=words)
    else:
        for language, translation in group.texts().items():
            yield TextField(located=located, language=language, name="text", text=translation.text)
            yield TextField(located=located, language=language, name="reasoning", text=translation.reasoning)
    for language, original in group.original.items():
        for name in ("reasoning", "input"):
            if text := getattr(original, name):
                yield TextField(located=located, language=language, name=name, text=text, earlier=True)


def to_findings(check: str, field: TextField, issues: Iterable[Issue]) -> list[Finding]:
    """Locate the issues of one text."""
    return [issue.to_finding(check, field.located, field.path) for issue in issues]


def truncate(text: str) -> str:
    """Shorten a text to one line of at most 40 characters, as a finding shows it."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


class QAView(NamedTuple):
    """One language of one group as question, reasoning and answer."""

    located: SourcedGroup
    language: Language
    instruction: str
    input: str
    reasoning: str
    output: str
    """in a translation, which has no instruction of its own, the text itself"""
    history: str = ""
    """the earlier turns"""

    @property
    def question(self) -> str:
        """Earlier turns, instruction and input together."""
        return "\n".join(filter(None, (self.history, self.instruction, self.input)))

    @property
    def subject(self) -> str:
        """What distinguishes this record from others with the same instruction.

        The input, where there is one, and what was said before; for question_to_question the new question, as its
        input is the answer to an earlier one; for a translation the text.
        """
        if self.located.group.category in (Category.QUESTION_TO_QUESTION, Category.TRANSLATION):
            return self.output
        return "\n".join(filter(None, (self.history, self.input or self.instruction)))


def iter_qa_views(groups: Sequence[SourcedGroup]) -> Iterator[QAView]:
    """Yield each language of each group, in the order of the groups and then ja, en, zh."""
    for located in groups:
        group = located.group
        if isinstance(group, TextGroup):
            for language, text in group.texts().items():
                said = "\n".join(words for turn in text.history for _, words in turn if words)
                yield QAView(located, language, text.instruction, text.input, text.reasoning, text.output, said)
        else:
            for language, words in group.texts().items():
                yield QAView(located, language, "", "", words.reasoning, words.text)


def extract_previous_question(input_text: str) -> str:
    """Return the question that a question_to_question record starts from: the part of its input before the answer."""
    rest = _LABEL.sub("", input_text, count=1)
    following = _NEXT_LABEL.search(rest)
    return (rest[: following.start()] if following else rest.split("\n", 1)[0]).strip()
