"""Find training records that give away a probe: its question, or the fact it asks for.

A probe measures what an adapter can do by itself; one record with the answer turns it into a memory test. Letters find
the copied probe (the n-gram containment that evaluation reports use, e.g. Brown et al. 2020, appendix C), sentence
vectors the reworded or translated one, and a sentence that holds all that is asked and the answer is a fact told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from bonsai.builder.checks.base import Finding, QAView, Severity, iter_qa_views, truncate
from bonsai.builder.checks.paraphrase import (
    ROWS_AT_MOST,
    are_contrasting,
    content_words,
    embed,
    normalize_alnum,
    paraphrase_probability,
)
from bonsai.builder.checks.quantities import quantity_mismatch
from bonsai.builder.records import SourcedGroup
from bonsai.builder.rows import assign_split

GRAM = 5
"""Characters of an n-gram; fewer where the short text is short, at least 2."""


class NGramContainment:
    """Knows a list of texts and tells, for any other text, which share of each one's n-grams it has."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._index: dict[int, dict[str, list[int]]] = {}
        self._totals: list[int] = []
        for number, part in enumerate(parts):
            letters = normalize_alnum(part)
            size = min(GRAM, max(2, len(letters) // 3))
            grams = _grams(letters, size)
            self._totals.append(len(grams))
            for gram in grams:
                self._index.setdefault(size, {}).setdefault(gram, []).append(number)

    def shares(self, whole: str) -> dict[int, float]:
        """Share of the n-grams (0 to 1) by the place of each text that has any in ``whole``."""
        letters = normalize_alnum(whole)
        found: Counter[int] = Counter()
        for size, known in self._index.items():
            for gram in _grams(letters, size) & known.keys():
                found.update(known[gram])
        return {number: count / self._totals[number] for number, count in found.items()}


def _grams(letters: str, size: int) -> set[str]:
    return {letters[start : start + size] for start in range(len(letters) - size + 1)}


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


class _ProbeText(NamedTuple):
    """What a probe asks, without an instruction such as "translate this"."""

    probe: Probe
    text: str
    content: frozenset[str]
    answers: tuple[str, ...]


class _Leak(NamedTuple):
    field: str
    how: str
    text: str


def check_decontamination(groups: Sequence[SourcedGroup], probes: Sequence[Probe]) -> Iterator[Finding]:
    """One error for each train group and probe that meet; the first way in which they do is told."""
    records = [one for one in iter_qa_views(groups) if assign_split(one.located.group) == "train"]
    lines = [_line(probe) for probe in probes]
    told: set[tuple[str, str]] = set()
    for one, line, match in _matches(records, lines):
        key = one.located.group.id, line.probe.id
        if key not in told:
            told.add(key)
            yield _finding(one, line.probe, match)


def _line(probe: Probe) -> _ProbeText:
    text = probe.question.strip().splitlines()[-1].strip()
    answers = tuple(answer.casefold() for answer in (probe.reference, *probe.accepted) if answer.strip())
    return _ProbeText(probe, text, content_words(text), answers)


def _matches(records: Sequence[QAView], lines: Sequence[_ProbeText]) -> Iterator[tuple[QAView, _ProbeText, _Leak]]:
    questions = NGramContainment([line.text for line in lines])
    long_answers = [
        (line, answer) for line in lines for answer in line.answers if len(normalize_alnum(answer)) >= ANSWER_AT_LEAST
    ]
    answers = NGramContainment([answer for _, answer in long_answers])
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
                    yield one, line, _Leak(field, "contains its answer", answer)
            for line in lines:
                spoken = line.probe.language == one.language and any(answer in lowered for answer in line.answers)
                if spoken and (fact := _fact(text, line)):
                    yield one, line, _Leak(field, "tells the fact it asks for", fact)


def _cosines(records: Sequence[QAView], lines: Sequence[_ProbeText]) -> dict[int, dict[int, float]]:
    """By the place of a record, the lines close enough to its subject to be looked at, with their cosine."""
    short = [place for place, one in enumerate(records) if len(one.subject) <= SHORT]
    if not short or not lines or len(records) > ROWS_AT_MOST:
        return {}
    cosines = embed([records[place].subject for place in short]) @ embed([line.text for line in lines]).T
    near: dict[int, dict[int, float]] = {}
    for row, column in zip(*(cosines >= LOOKED_AT_FROM).nonzero(), strict=True):
        near.setdefault(short[int(row)], {})[int(column)] = float(cosines[row, column])
    return near


def _question(one: QAView, line: _ProbeText, share: float, cosine: float) -> _Leak | None:
    """The probe's question: copied, or asked in other words and, if both are of one language, answered alike."""
    if share < NEARLY_FROM and cosine < LOOKED_AT_FROM:
        return None
    field = "input" if one.input else "instruction" if one.instruction else "text"
    has_core = line.content <= content_words(one.question or one.output)
    if share >= COPIED_FROM and (has_core or len(line.content) > LONG_CONTENT):
        return _Leak(field, "contains its question", one.subject)
    if are_contrasting(one.subject, line.text) or all(quantity_mismatch(one.subject, line.text)):
        return None
    if one.language != line.probe.language:
        return _Leak(field, "asks the same in another language", one.subject) if cosine >= ACROSS_FROM else None
    if line.probe.accepted and not _answered(one.output, line):
        return None
    if share >= NEARLY_FROM and has_core:
        return _Leak(field, "nearly contains its question", one.subject)
    alike = paraphrase_probability(one.subject, line.text, cosine) >= SAME_FROM
    if cosine >= LOOKED_AT_FROM and (alike or (cosine >= ANSWERED_FROM and line.probe.accepted)):
        return _Leak(field, "asks the same", one.subject)
    return None


def _answered(text: str, line: _ProbeText) -> bool:
    lowered = text.casefold()
    return any(answer in lowered for answer in line.answers)


def _fact(text: str, line: _ProbeText) -> str | None:
    """A sentence that has everything the probe asks about, and an answer to it."""
    for sentence in re.split(r"(?<=[。！？])|(?<=[.!?;])\s|\n", text):
        if line.content and _answered(sentence, line) and line.content <= content_words(sentence):
            return sentence.strip()
    return None


def _finding(one: QAView, probe: Probe, match: _Leak) -> Finding:
    return Finding(
        check="decontamination",
        severity=Severity.ERROR,
        place=one.located.place,
        group_id=one.located.group.id,
        field=f"{one.language.value}.{match.field}",
        what=f"{match.how}: '{truncate(match.text)}', probe {probe.id}: '{truncate(probe.question)}'",
        why="a probe must be new to the adapter; write about something else, or retire the probe",
    )
