"""Find duplicate records, leaks between splits, and templates that differ only in a name or a number.

Found once and used twice: two relatives are a duplicate, and a leak where a split lies between them.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bonsai.builder.checks.base import Finding, QAView, Severity, iter_qa_views, truncate
from bonsai.builder.checks.numbers import mark_numbers
from bonsai.builder.checks.paraphrase import (
    ROWS_AT_MOST,
    are_contrasting,
    embed,
    normalize_alnum,
    pairs_above,
    paraphrase_probability,
)
from bonsai.builder.checks.quantities import quantity_mismatch
from bonsai.builder.minhash import find_near_duplicates
from bonsai.builder.records import SourcedGroup
from bonsai.builder.rows import assign_split
from bonsai.builder.schema import Category, Language

LETTERS_FROM = 0.55
"""Jaccard similarity of character shingles."""
MEANING_FROM = 0.65
"""Cosine from which two texts of one language are compared at all."""
SAME_FROM = 0.5
ACROSS_FROM = 0.70
"""Cosine from which texts of two languages count as the same; rewording can't be judged word by word there."""
SHORT = 120
"""Characters up to which a text is a question that can be reworded; longer ones are compared by their letters."""
LONG_ANSWER = 30
"""Characters from which an answer of its own is worth comparing."""


class SimilarityKind(enum.StrEnum):
    """How two records are alike."""

    EXACT = "the same but for punctuation"
    NEAR = "nearly the same letters"
    ANSWER = "nearly the same answer"
    MEANING = "the same in other words"
    ACROSS = "the same in another language"


class SimilarPair(NamedTuple):
    """Two records of different groups, the earlier one first."""

    first: QAView
    second: QAView
    likeness: SimilarityKind
    score: float
    """Jaccard similarity, likelihood, or cosine, as the likeness says"""


def find_similar(groups: Sequence[SourcedGroup]) -> list[SimilarPair]:
    """The closest likeness of each two groups that are alike, in the order of the first and then of the second."""
    records = list(iter_qa_views(groups))
    place = {located.group.id: number for number, located in enumerate(groups)}
    best: dict[tuple[int, int], SimilarPair] = {}
    for relative in _all(records):
        first, second = (place[one.located.group.id] for one in (relative.first, relative.second))
        if first > second:
            first, second, relative = second, first, relative._replace(first=relative.second, second=relative.first)
        if first != second and (relative.likeness is SimilarityKind.EXACT or not _one_chain(relative)):
            best.setdefault((first, second), relative)
    return [best[key] for key in sorted(best)]


def _all(records: Sequence[QAView]) -> Iterator[SimilarPair]:
    """Closest likeness first."""
    subjects = [one.subject for one in records]
    letters = find_near_duplicates(subjects, threshold=LETTERS_FROM) if len(subjects) > 1 else []
    for first, second, jaccard in letters:
        ours, theirs = records[first], records[second]
        if normalize_alnum(ours.question) == normalize_alnum(theirs.question) and normalize_alnum(
            ours.subject
        ) == normalize_alnum(theirs.subject):
            yield SimilarPair(ours, theirs, SimilarityKind.EXACT, 1.0)
        elif jaccard == 1.0 or _near(ours.subject, theirs.subject):
            yield SimilarPair(ours, theirs, SimilarityKind.NEAR, jaccard)
    free = [one for one in records if one.located.group.category in (Category.BRAINSTORMING, Category.CREATIVE)]
    free += [
        one for one in records if one.located.group.category is Category.OPEN_QA and len(one.output) >= LONG_ANSWER
    ]
    for first, second, jaccard in (
        find_near_duplicates([one.output for one in free], threshold=LETTERS_FROM) if free else []
    ):
        if min(len(free[first].output), len(free[second].output)) >= LONG_ANSWER:
            yield SimilarPair(free[first], free[second], SimilarityKind.ANSWER, jaccard)
    if len(records) <= ROWS_AT_MOST:
        yield from _by_meaning([one for one in records if len(one.subject) <= SHORT])


def _by_meaning(records: Sequence[QAView]) -> Iterator[SimilarPair]:
    across: list[SimilarPair] = []
    for first, second, cosine in pairs_above(embed([one.subject for one in records]), MEANING_FROM):
        ours, theirs = records[first], records[second]
        if (
            ours.located.group.id == theirs.located.group.id
            or ours.located.group.category != theirs.located.group.category
        ):
            continue
        if ours.language is theirs.language:
            likely = paraphrase_probability(ours.subject, theirs.subject, cosine)
            if likely >= SAME_FROM:
                yield SimilarPair(ours, theirs, SimilarityKind.MEANING, likely)
        elif cosine >= ACROSS_FROM and _may_be_same(ours.subject, theirs.subject):
            across.append(SimilarPair(ours, theirs, SimilarityKind.ACROSS, cosine))
    yield from across


def _near(first: str, second: str) -> bool:
    """Letters alone mislead in a short text, where one word is the subject."""
    if not _may_be_same(first, second):
        return False
    if min(len(first), len(second)) > SHORT / 2:
        return True
    ours, theirs = embed([first, second])
    return paraphrase_probability(first, second, float(ours @ theirs)) >= SAME_FROM


def _may_be_same(first: str, second: str) -> bool:
    return not are_contrasting(first, second) and not all(quantity_mismatch(first, second))


def _one_chain(relative: SimilarPair) -> bool:
    chains = [getattr(one.located.group, "chain", None) for one in relative[:2]]
    return chains[0] is not None and chains[1] is not None and chains[0].id == chains[1].id


def check_duplicates(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """One finding for each two groups that are alike: an error for the same letters, a warning otherwise."""
    if groups and sum(1 for _ in iter_qa_views(groups)) > ROWS_AT_MOST:
        yield Finding(
            check="duplicates",
            severity=Severity.NOTE,
            place=groups[0].place,
            group_id=groups[0].group.id,
            field="",
            what=f"more than {ROWS_AT_MOST:,} rows: compared by their letters, not by their meaning",
            why="reworded duplicates, leaks and contradictions may stay unseen; check the records in parts",
        )
    for first, second, likeness, score in find_similar(groups):
        other = second.located
        yield Finding(
            check="duplicates",
            severity=Severity.ERROR if likeness is SimilarityKind.EXACT else Severity.WARNING,
            place=first.located.place,
            group_id=first.located.group.id,
            field=first.language.value,
            what=f"'{truncate(first.subject)}' and '{truncate(second.subject)}' in {other.group.id} ({other.place}, "
            f"{second.language}) are {likeness} ({score:.2f})",
            why="a small dataset has no room for repetition; replace one of them, or make it ask for something else",
        )


def check_leakage(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """One finding for each two groups that are alike, one of them in train and the other held out."""
    for first, second, likeness, score in find_similar(groups):
        here, there = assign_split(first.located.group), assign_split(second.located.group)
        if (here == "train") == (there == "train"):
            continue
        other = second.located
        yield Finding(
            check="leakage",
            severity=Severity.ERROR if likeness in (SimilarityKind.EXACT, SimilarityKind.NEAR) else Severity.WARNING,
            place=first.located.place,
            group_id=first.located.group.id,
            field=first.language.value,
            what=f"'{truncate(first.subject)}' ({here}) and '{truncate(second.subject)}' ({there}, {other.group.id}, "
            f"{other.place}) are {likeness} ({score:.2f})",
            why="what is held out must be new; rewrite one of them (a record can't be moved: its id decides its split)",
        )


TEMPLATE_SAME_FROM = 0.75
"""Jaccard similarity of what is left when names and numbers are masked."""
LEFT_AT_LEAST = 6
"""Characters that must be left, or two short questions are alike by chance."""

_QUOTED = re.compile(r"「[^」]*」|『[^』]*』|“[^”]*”|《[^》]*》|\"[^\"]*\"|【[^】]*】")
_COUNTRIES = re.compile(
    "日本(?![語人])|中国|法国|德国|英国|美国|西班牙|意大利|俄罗斯|印度|韩国|加拿大|巴西|埃及|秘鲁|瑞士|奥地利|希腊|荷兰|"
    "韓国|京都|東京|大阪|奈良|北京|上海|伦敦|巴黎|[都道府縣県](?=の)"
)
_PERSON = re.compile(r"[一-鿿]{1,3}(?=さん|君|氏)|小[一-鿿](?=[对說说買买])")
_KATAKANA = re.compile(r"[ァ-ヴ][ァ-ヴー・]+")
_CAPITALISED = re.compile(r"(?<![A-Za-zÀ-ɏ])[A-ZÀ-Þ][A-Za-zÀ-ɏ'’-]*(?:\s+[A-ZÀ-Þ][A-Za-zÀ-ɏ'’-]*)*")
_ARTICLE = re.compile(r"\b(?:the|an?) (?=X)", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:he|she|his|her|him)\b")


def check_templates(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """One warning for each two groups whose subjects are the same but for names and numbers."""
    records = [one for one in iter_qa_views(groups) if one.located.group.category is not Category.TRANSLATION]
    common = _lower_case_words(records)
    reported: set[tuple[str, str]] = set()
    for language in Language:
        members = [(one, mask_names_and_numbers(one.subject, common)) for one in records if one.language is language]
        members = [(one, text) for one, text in members if len(_left(text)) >= LEFT_AT_LEAST]
        for first, second, jaccard in (
            find_near_duplicates([text for _, text in members], threshold=TEMPLATE_SAME_FROM) if members else ()
        ):
            (ours, shape), (theirs, other_shape) = members[first], members[second]
            pair = ours.located.group.id, theirs.located.group.id
            hidden = shape != ours.subject and other_shape != theirs.subject
            if (
                pair[0] != pair[1]
                and pair not in reported
                and hidden
                and normalize_alnum(ours.subject) != normalize_alnum(theirs.subject)
            ):
                reported.add(pair)
                yield _finding(ours, theirs, shape, jaccard)


def mask_names_and_numbers(text: str, common: frozenset[str]) -> str:
    """The text with numbers as ``N`` and names, quoted words and katakana words as ``X``.

    ``common``: words that also occur in lower case, so that a sentence's first word is no name for being capitalised.
    """
    plain = unicodedata.normalize("NFKC", text)
    for pattern in (_QUOTED, _COUNTRIES, _PERSON, _KATAKANA):
        plain = pattern.sub("X", plain)
    plain = _CAPITALISED.sub(lambda found: _unless_common(found[0], common), plain)
    return re.sub(r"⟨\d+⟩", "N", mark_numbers(_ARTICLE.sub("", _PRONOUN.sub("X", plain))).text)


def _unless_common(words: str, common: frozenset[str]) -> str:
    kept = [word if word.casefold() in common or word == "X" else "X" for word in words.split()]
    return re.sub(r"X(?: X)+", "X", " ".join(kept))


def _lower_case_words(records: Sequence[QAView]) -> frozenset[str]:
    words = {
        word for one in records for text in (one.question, one.output) for word in re.findall(r"(?<![\w])[a-z]+", text)
    }
    return frozenset(
        words | {"what", "which", "who", "how", "why", "when", "where", "in", "a", "write", "is", "do", "does"}
    )


def _left(text: str) -> str:
    return normalize_alnum(re.sub("[XN]", "", text))


def _finding(ours: QAView, theirs: QAView, shape: str, jaccard: float) -> Finding:
    other = theirs.located
    return Finding(
        check="templates",
        severity=Severity.WARNING,
        place=ours.located.place,
        group_id=ours.located.group.id,
        field=ours.language.value,
        what=f"'{truncate(ours.subject)}' and '{truncate(theirs.subject)}' in {other.group.id} ({other.place}) "
        f"share the shape '{truncate(shape)}' ({jaccard:.2f})",
        why="groups that differ only in a name or a number teach the form; make one of them ask something else",
    )
