"""Find records that answer the same question differently.

Similarity is no help (an answer and its negation score .9), so what can be compared exactly is: yes and no, quantities,
and then the words themselves. Only categories with one answer are compared. Questions in other words are found by
sentence vectors and judged by `bonsai.builder.checks.paraphrase`; parallel languages are compared by
`bonsai.builder.checks.parallel`.

Example:
    >>> find_conflict("It takes 90 seconds.", "It takes 95 seconds.")
    AnswerConflict(ours='90 seconds', theirs='95 seconds')
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from bonsai.builder.checks.base import Finding, Issue, QAView, Severity, iter_qa_views, truncate
from bonsai.builder.checks.paraphrase import (
    LOOKED_AT_FROM,
    ROWS_AT_MOST,
    SAME_FROM,
    SHORT_QUESTION,
    content_words,
    embed,
    pairs_above,
    paraphrase_probability,
)
from bonsai.builder.checks.quantities import (
    extract_quantities,
    join_texts,
    quantity_mismatch,
    share_dimension,
    unmatched_digits,
)
from bonsai.builder.checks.text import normalize_alnum
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import SINGLE_ANSWER, Category, Language, TranslationGroup

_YES = re.compile(
    r"^\W*(?:はい|ええ|そうです|yes\b|是的?(?![哪何])|对[，。,.]|对$|会[。，,]|能[。，,]|可以|有[。，,])", re.IGNORECASE
)
_NO = re.compile(r"^\W*(?:いいえ|いえ|違います|no\b(?!\.)|not\b|不[是会能对，。,]|不可以|没有|否)", re.IGNORECASE)
SHORT_ANSWER = 60
"""Characters up to which an answer is a name or a label rather than an explanation."""
SHARED = 0.5
"""Share of the content words of the shorter answer below which two short answers are different."""
UNLIKE = 0.4
"""Cosine below which two texts are no translations of the same."""


class AnswerConflict(NamedTuple):
    """What two answers differ in."""

    ours: str
    theirs: str


def check_contradiction(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Find conflicting answers within a language: errors for the same question, warnings where it is reworded."""
    views = list(iter_qa_views(groups))
    findings = list(_compare_translations([one for one in views if one.located.group.category is Category.TRANSLATION]))
    single = [one for one in views if one.instruction and one.located.group.category in SINGLE_ANSWER]
    for language in Language:
        records = [one for one in single if one.language is language]
        # paired with 1.0: records with the same question to the letter, the first of them with each of the others
        pairs: dict[tuple[int, int], float] = {}
        seen: dict[str, int] = {}
        for number, one in enumerate(records):
            first = seen.setdefault(normalize_alnum(one.question), number)
            if first != number:
                pairs[first, number] = 1.0
        if len(records) <= ROWS_AT_MOST:
            pairs = dict(_paraphrase_pairs(records)) | pairs
        for (first, second), probability in sorted(pairs.items()):
            conflict = find_conflict(records[first].output, records[second].output)
            if conflict:
                findings.append(_to_finding(records[first], records[second], conflict, probability))
    return findings


def _paraphrase_pairs(records: Sequence[QAView]) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield pairs with one passage and paraphrased instructions, or one instruction and paraphrased inputs or none."""
    passages: dict[str, list[int]] = {}
    for number, one in enumerate(records):
        if one.input:
            passages.setdefault(normalize_alnum(one.input), []).append(number)
    candidates = [
        (pair, records[pair[0]].instruction, records[pair[1]].instruction)
        for numbers in passages.values()
        for pair in combinations(numbers, 2)
    ]
    short = [number for number, one in enumerate(records) if len(one.subject) <= SHORT_QUESTION]
    for row, column, _ in pairs_above(embed([records[number].subject for number in short]), LOOKED_AT_FROM):
        ours, theirs = records[short[row]], records[short[column]]
        if bool(ours.input) == bool(theirs.input) and (
            not ours.input or normalize_alnum(ours.instruction) == normalize_alnum(theirs.instruction)
        ):
            candidates.append(((short[row], short[column]), ours.subject, theirs.subject))
    for pair, first, second in candidates:
        probability = paraphrase_probability(first, second)
        if probability >= SAME_FROM:
            yield pair, probability


def _compare_translations(records: Sequence[QAView]) -> Iterator[Finding]:
    """Yield texts with two translations that have little in common; most texts allow several good ones."""
    seen: dict[str, QAView] = {}
    for one in records:
        other = seen.setdefault(normalize_alnum(one.output), one)
        ours, theirs = other.located.group, one.located.group
        if ours.id == theirs.id or not isinstance(ours, TranslationGroup) or not isinstance(theirs, TranslationGroup):
            continue
        texts = theirs.texts()
        for language, words in ours.texts().items():
            if language not in texts:
                continue
            first, second = embed([words.text, texts[language].text])
            if float(first @ second) < UNLIKE or all(quantity_mismatch(words.text, texts[language].text)):
                yield _to_finding(other, one, AnswerConflict(words.text, texts[language].text), 1.0)


def _to_finding(first: QAView, second: QAView, conflict: AnswerConflict, probability: float) -> Finding:
    same = "the same question" if probability == 1.0 else f"what seems the same question (likelihood {probability:.2f})"
    other = second.located
    issue = Issue(
        Severity.ERROR if probability == 1.0 else Severity.WARNING,
        f"{conflict.ours!r} here, {conflict.theirs!r} in {other.group.id} ({other.location}), to {same}: "
        f"'{truncate(first.question)}'",
        "a category with one answer can't have both; correct one, or make the questions differ",
    )
    return issue.to_finding("contradiction", first.located, f"{first.language.value}.output")


def yes_no_polarity(answer: str) -> bool | None:
    """Return True for an answer that begins with yes, False for no, `None` for any other."""
    if _NO.search(answer) or answer.strip(" .!。").casefold() == "no":
        return False
    return True if _YES.search(answer) else None


def find_conflict(first: str, second: str) -> AnswerConflict | None:
    """Return what excludes one answer if the other is right; `None` if both may be right."""
    if normalize_alnum(first) == normalize_alnum(second):
        return None
    ours, theirs = yes_no_polarity(first), yes_no_polarity(second)
    if ours is not None and theirs is not None and ours != theirs:
        return AnswerConflict("yes" if ours else "no", "yes" if theirs else "no")
    mismatch = quantity_mismatch(first, second)
    if all(mismatch):
        return AnswerConflict(join_texts(mismatch.first), join_texts(mismatch.second))
    here, there = extract_quantities(first), extract_quantities(second)
    more, less = unmatched_digits(here, there), unmatched_digits(there, here)
    if any(share_dimension(one, other) for one in more for other in less):
        return AnswerConflict(join_texts(more), join_texts(less))
    if any(one.weight for one in here) and any(one.weight for one in there):
        return None
    if min(len(first), len(second)) > SHORT_ANSWER or ours is not None or theirs is not None:
        return None
    words, others = content_words(first), content_words(second)
    if words and others and len(words & others) < SHARED * min(len(words), len(others)):
        return AnswerConflict(first.strip(), second.strip())
    return None
