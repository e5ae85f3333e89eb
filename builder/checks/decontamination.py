"""Find training records that give away a probe: its question, or the fact it asks for.

A probe measures what an adapter can do by itself; one record with the answer turns it into a memory test. Letters find
the copied probe (the n-gram containment that evaluation reports use, e.g. Brown et al. 2020, appendix C), sentence
vectors the reworded or translated one, and a sentence with all that the probe asks about and an answer states the fact.

Example:
    The probe "日本で一番高い山は何ですか。" (accepted: 富士山) and a record with the instruction "日本一高い山は?" and
    the output "富士山です。": one error, "asks the same: '日本一高い山は?', probe …".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bonsai.builder.checks.base import Finding, Issue, QAView, iter_qa_views, truncate
from bonsai.builder.checks.paraphrase import (
    ACROSS_FROM,
    LOOKED_AT_FROM,
    ROWS_AT_MOST,
    SAME_FROM,
    SHORT_QUESTION,
    content_words,
    embed,
    may_be_same,
    paraphrase_probability,
)
from bonsai.builder.checks.text import SENTENCE_MARKS, normalize_alnum, split_at_marks
from bonsai.builder.records import Probe, SourcedGroup
from bonsai.builder.rows import assign_split

GRAM = 5
"""Characters of an n-gram; fewer where the short text is short, at least 2."""
COPIED_FROM = 0.9
"""Share of a probe's n-grams from which its question or answer counts as copied."""
NEARLY_FROM = 0.7
"""The same, where the record gives an accepted answer, too."""
ANSWERED_FROM = 0.7
"""Cosine that suffices where the record gives an accepted answer."""
LONG_CONTENT = 12
"""Words from which a copied question needn't be copied whole."""
ANSWER_AT_LEAST = 16
"""Letters and digits from which an answer is too long to occur by chance."""


class NGramContainment:
    """An index of texts that tells which share of each one's n-grams another text contains."""

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
        """Return the share of contained n-grams (0 to 1) by the index of each text that has any in ``whole``."""
        letters = normalize_alnum(whole)
        found: Counter[int] = Counter()
        for size, known in self._index.items():
            for gram in _grams(letters, size) & known.keys():
                found.update(known[gram])
        return {number: count / self._totals[number] for number, count in found.items()}


def _grams(letters: str, size: int) -> set[str]:
    return {letters[start : start + size] for start in range(len(letters) - size + 1)}


class _ProbeText(NamedTuple):
    """What a probe asks, without an instruction such as "translate this"."""

    probe: Probe
    text: str
    content: frozenset[str]
    answers: tuple[str, ...]

    def is_answered_by(self, text: str) -> bool:
        lowered = text.casefold()
        return any(answer in lowered for answer in self.answers)


def check_decontamination(groups: Sequence[SourcedGroup], probes: Sequence[Probe]) -> list[Finding]:
    """Return one error for each train group and probe that meet, with the first way in which they do."""
    findings: dict[tuple[str, str], Finding] = {}

    def add(one: QAView, probe: Probe, field: str, how: str, text: str) -> None:
        issue = Issue.error(
            f"{how}: '{truncate(text)}', probe {probe.id}: '{truncate(probe.question)}'",
            "a probe must be new to the adapter; write about something else, or retire the probe",
        )
        finding = issue.to_finding("decontamination", one.located, f"{one.language.value}.{field}")
        findings.setdefault((one.located.group.id, probe.id), finding)

    # 1. Index the questions and the long answers, and compare the meaning of short records with all questions.
    records = [one for one in iter_qa_views(groups) if assign_split(one.located.group) == "train"]
    lines = []
    for probe in probes:
        text = probe.question.strip().splitlines()[-1].strip()
        accepted = tuple(answer.casefold() for answer in (probe.reference, *probe.accepted) if answer.strip())
        lines.append(_ProbeText(probe, text, content_words(text), accepted))
    questions = NGramContainment([line.text for line in lines])
    long_answers = [
        (line, answer) for line in lines for answer in line.answers if len(normalize_alnum(answer)) >= ANSWER_AT_LEAST
    ]
    answers = NGramContainment([answer for _, answer in long_answers])
    near: dict[int, dict[int, float]] = {}
    short = [number for number, one in enumerate(records) if len(one.subject) <= SHORT_QUESTION]
    if short and lines and len(records) <= ROWS_AT_MOST:
        cosines = embed([records[number].subject for number in short]) @ embed([line.text for line in lines]).T
        for row, column in zip(*(cosines >= LOOKED_AT_FROM).nonzero(), strict=True):
            near.setdefault(short[int(row)], {})[int(column)] = float(cosines[row, column])

    for number, one in enumerate(records):
        # 2. The probe's question.
        shares = questions.shares(one.question or one.output)
        cosine = near.get(number, {})
        for column in sorted(shares.keys() | cosine.keys()):
            how = _asks_the_same(one, lines[column], shares.get(column, 0.0), cosine.get(column, 0.0))
            if how:
                field = "input" if one.input else "instruction" if one.instruction else "text"
                add(one, lines[column].probe, field, how, one.subject)

        # 3. Its long answer, or a sentence that has all it asks about and an answer to it.
        for field in ("history", "input", "reasoning", "output"):
            text = getattr(one, field)
            for index, share in answers.shares(text).items():
                if share >= COPIED_FROM:
                    line, answer = long_answers[index]
                    add(one, line.probe, field, "contains its answer", answer)
            for line in lines:
                if line.content and line.probe.language == one.language and line.is_answered_by(text):
                    for sentence in split_at_marks(text, f"{SENTENCE_MARKS};"):
                        if line.is_answered_by(sentence) and line.content <= content_words(sentence):
                            add(one, line.probe, field, "tells the fact it asks for", sentence.strip())
    return list(findings.values())


def _asks_the_same(one: QAView, line: _ProbeText, share: float, cosine: float) -> str:
    """Tell how a record asks the probe's question: copied, or in other words and, within a language, answered alike."""
    if share < NEARLY_FROM and cosine < LOOKED_AT_FROM:
        return ""
    has_core = line.content <= content_words(one.question or one.output)
    if share >= COPIED_FROM and (has_core or len(line.content) > LONG_CONTENT):
        return "contains its question"
    if not may_be_same(one.subject, line.text):
        return ""
    if one.language != line.probe.language:
        return "asks the same in another language" if cosine >= ACROSS_FROM else ""
    if line.probe.accepted and not line.is_answered_by(one.output):
        return ""
    if share >= NEARLY_FROM and has_core:
        return "nearly contains its question"
    alike = paraphrase_probability(one.subject, line.text, cosine) >= SAME_FROM
    if cosine >= LOOKED_AT_FROM and (alike or (cosine >= ANSWERED_FROM and line.probe.accepted)):
        return "asks the same"
    return ""
