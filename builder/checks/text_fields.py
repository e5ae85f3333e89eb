"""Every piece of text of a group with its place: what the checks of single records walk over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.reader import Located
from bonsai.builder.schema import Language, TextGroup

SHOWN = 40
"""characters of the text that a finding shows"""


class Fault(NamedTuple):
    """What a check says of a string; a finding is this and a place."""

    severity: Severity
    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class TextField:
    """One text of one language of a group."""

    located: Located
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


def fields_of(located: Located) -> Iterator[TextField]:
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


def instruction_of(field: TextField) -> str:
    """What was asked in the field's language; empty for a translation, whose instruction is derived."""
    group = field.located.group
    return group.texts()[field.language].instruction if isinstance(group, TextGroup) else ""


def findings(check: str, field: TextField, faults: Iterable[Fault]) -> Iterator[Finding]:
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


def shortened(text: str) -> str:
    """A text as a finding shows it: one line, cut after some characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
