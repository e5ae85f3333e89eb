"""Training records that give away a probe: its question, or the fact it asks for.

A probe measures what an adapter can do by itself; one record with the answer turns it into a memory test. Letters find
the copied probe (the n-gram containment that evaluation reports use, e.g. Brown et al. 2020, appendix C), sentence
vectors the reworded or translated one, and a sentence that holds all that is asked and the answer is a fact told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from bonsai.builder.checks.asked import Asked, asked
from bonsai.builder.checks.containment import Containment
from bonsai.builder.checks.contrasts import contrasted
from bonsai.builder.checks.embedding import ROWS_AT_MOST, vectors
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.quantities import disagreement
from bonsai.builder.checks.rewording import content, folded, rewording
from bonsai.builder.checks.text_fields import shortened
from bonsai.builder.reader import Located
from bonsai.builder.splits import split_of

COPIED_FROM = 0.9
"""Share of a probe's n-grams from which its question or answer counts as copied."""
NEARLY_FROM = 0.7
"""The same, where the record gives an accepted answer, too."""
LOOKED_AT_FROM = 0.6
SAME_FROM = 0.5
ANSWERED_FROM = 0.7
"""Cosine that suffices where the record gives an accepted answer."""
ACROSS_FROM = 0.70
"""Cosine from which questions of two languages count as the same."""
LONG_CONTENT = 12
"""Words from which a copied question needn't be copied whole."""
SHORT = 120
"""Characters up to which a text is a question that can be reworded."""
ANSWER_AT_LEAST = 16
"""Letters and digits from which an answer is too long to occur by chance."""


class Probe(Protocol):
    """What this check reads of a probe."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def language(self) -> str: ...  # noqa: D102
    @property
    def question(self) -> str: ...  # noqa: D102
    @property
    def reference(self) -> str: ...  # noqa: D102
    @property
    def accepted(self) -> Sequence[str]: ...  # noqa: D102


class _Line(NamedTuple):
    """What a probe asks, without an instruction such as "translate this"."""

    probe: Probe
    text: str
    content: frozenset[str]
    answers: tuple[str, ...]


class _Match(NamedTuple):
    field: str
    how: str
    text: str


def check_decontamination(groups: Sequence[Located], probes: Sequence[Probe]) -> Iterator[Finding]:
    """One error for each train group and probe that meet; the first way in which they do is told."""
    records = [one for one in asked(groups) if split_of(one.located.group) == "train"]
    lines = [_line(probe) for probe in probes]
    told: set[tuple[str, str]] = set()
    for one, line, match in _matches(records, lines):
        key = one.located.group.id, line.probe.id
        if key not in told:
            told.add(key)
            yield _finding(one, line.probe, match)


def _line(probe: Probe) -> _Line:
    text = probe.question.strip().splitlines()[-1].strip()
    answers = tuple(answer.casefold() for answer in (probe.reference, *probe.accepted) if answer.strip())
    return _Line(probe, text, content(text), answers)


def _matches(records: Sequence[Asked], lines: Sequence[_Line]) -> Iterator[tuple[Asked, _Line, _Match]]:
    questions = Containment([line.text for line in lines])
    long_answers = [
        (line, answer) for line in lines for answer in line.answers if len(folded(answer)) >= ANSWER_AT_LEAST
    ]
    answers = Containment([answer for _, answer in long_answers])
    cosines = _cosines(records, lines)
    for number, one in enumerate(records):
        shares = questions.shares(one.question or one.output)
        near = cosines.get(number, {})
        for place in sorted(shares.keys() | near.keys()):
            match = _question(one, lines[place], shares.get(place, 0.0), near.get(place, 0.0))
            if match:
                yield one, lines[place], match
        for field in ("input", "reasoning", "output"):
            text: str = getattr(one, field)
            lowered = text.casefold()
            for place, share in answers.shares(text).items():
                if share >= COPIED_FROM:
                    line, answer = long_answers[place]
                    yield one, line, _Match(field, "contains its answer", answer)
            for line in lines:
                spoken = line.probe.language == one.language and any(answer in lowered for answer in line.answers)
                if spoken and (fact := _fact(text, line)):
                    yield one, line, _Match(field, "tells the fact it asks for", fact)


def _cosines(records: Sequence[Asked], lines: Sequence[_Line]) -> dict[int, dict[int, float]]:
    """By the place of a record, the lines close enough to its subject to be looked at, with their cosine."""
    short = [place for place, one in enumerate(records) if len(one.subject) <= SHORT]
    if not short or not lines or len(records) > ROWS_AT_MOST:
        return {}
    cosines = vectors([records[place].subject for place in short]) @ vectors([line.text for line in lines]).T
    near: dict[int, dict[int, float]] = {}
    for row, column in zip(*(cosines >= LOOKED_AT_FROM).nonzero(), strict=True):
        near.setdefault(short[int(row)], {})[int(column)] = float(cosines[row, column])
    return near


def _question(one: Asked, line: _Line, share: float, cosine: float) -> _Match | None:
    """The probe's question: copied, or asked in other words and, if both are of one language, answered alike."""
    if share < NEARLY_FROM and cosine < LOOKED_AT_FROM:
        return None
    field = "input" if one.input else "instruction" if one.instruction else "text"
    has_core = line.content <= content(one.question or one.output)
    if share >= COPIED_FROM and (has_core or len(line.content) > LONG_CONTENT):
        return _Match(field, "contains its question", one.subject)
    if contrasted(one.subject, line.text) or all(disagreement(one.subject, line.text)):
        return None
    if one.language != line.probe.language:
        return _Match(field, "asks the same in another language", one.subject) if cosine >= ACROSS_FROM else None
    if line.probe.accepted and not _answered(one.output, line):
        return None
    if share >= NEARLY_FROM and has_core:
        return _Match(field, "nearly contains its question", one.subject)
    alike = rewording(one.subject, line.text, cosine) >= SAME_FROM
    if cosine >= LOOKED_AT_FROM and (alike or (cosine >= ANSWERED_FROM and line.probe.accepted)):
        return _Match(field, "asks the same", one.subject)
    return None


def _answered(text: str, line: _Line) -> bool:
    lowered = text.casefold()
    return any(answer in lowered for answer in line.answers)


def _fact(text: str, line: _Line) -> str | None:
    """A sentence that has everything the probe asks about, and an answer to it."""
    for sentence in re.split(r"(?<=[。！？])|(?<=[.!?;])\s|\n", text):
        if line.content and _answered(sentence, line) and line.content <= content(sentence):
            return sentence.strip()
    return None


def _finding(one: Asked, probe: Probe, match: _Match) -> Finding:
    return Finding(
        check="decontamination",
        severity=Severity.ERROR,
        place=one.located.place,
        group_id=one.located.group.id,
        field=f"{one.language.value}.{match.field}",
        what=f"{match.how}: '{shortened(match.text)}', probe {probe.id}: '{shortened(probe.question)}'",
        why="a probe must be new to the adapter; write about something else, or retire the probe",
    )
