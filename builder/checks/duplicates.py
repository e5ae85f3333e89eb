"""Find duplicate records, leaks between splits, and templates that differ only in a name or a number.

Similar pairs are found once and used twice: a pair is a duplicate, and a leak where the two are in different splits.

Example:
    "How many legs has a spider?" and "How many legs does a spider have?" in two groups: one warning, "… are the same in
    other words (1.00)"; if one of the groups is in train and the other in test, check_leakage warns as well.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bonsai.builder.checks.base import Finding, Issue, QAView, Severity, iter_qa_views, truncate
from bonsai.builder.checks.numbers import mark_numbers
from bonsai.builder.checks.paraphrase import (
    ACROSS_FROM,
    ROWS_AT_MOST,
    SAME_FROM,
    SHORT_QUESTION,
    embed,
    may_be_same,
    pairs_above,
    paraphrase_probability,
)
from bonsai.builder.checks.text import normalize_alnum
from bonsai.builder.minhash import find_near_duplicates
from bonsai.builder.records import SourcedGroup
from bonsai.builder.rows import assign_split
from bonsai.builder.schema import Category, Language

LETTERS_FROM = 0.55
"""Jaccard similarity of character shingles."""
MEANING_FROM = 0.65
"""Cosine from which two texts of one language are compared at all; not `paraphrase.LOOKED_AT_FROM` on purpose, as
set on this check's own labelled cases."""
LONG_ANSWER = 30
"""Characters from which an answer of its own is worth comparing."""
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
_CAPITALIZED = re.compile(r"(?<![A-Za-zÀ-ɏ])[A-ZÀ-Þ][A-Za-zÀ-ɏ'’-]*(?:\s+[A-ZÀ-Þ][A-Za-zÀ-ɏ'’-]*)*")
_ARTICLE = re.compile(r"\b(?:the|an?) (?=X)", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:he|she|his|her|him)\b")
_COMMON_FIRST_WORDS = frozenset(
    {"what", "which", "who", "how", "why", "when", "where", "in", "a", "write", "is", "do", "does"}
)


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
    kind: SimilarityKind
    score: float
    """Jaccard similarity, probability, or cosine, according to the kind"""


def check_duplicates(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Return one finding for each two groups that are alike: an error for the same letters, a warning otherwise."""
    findings: list[Finding] = []
    if sum(1 for _ in iter_qa_views(groups)) > ROWS_AT_MOST:
        issue = Issue(
            Severity.NOTE,
            f"more than {ROWS_AT_MOST:,} rows: compared by their letters, not by their meaning",
            "reworded duplicates, leaks and contradictions may stay unseen; check the records in parts",
        )
        findings.append(issue.to_finding("duplicates", groups[0]))
    for first, second, kind, score in find_similar(groups):
        other = second.located
        issue = Issue(
            Severity.ERROR if kind is SimilarityKind.EXACT else Severity.WARNING,
            f"'{truncate(first.subject)}' and '{truncate(second.subject)}' in {other.group.id} ({other.location}, "
            f"{second.language}) are {kind} ({score:.2f})",
            "a small dataset has no room for repetition; replace one of them, or make it ask for something else",
        )
        findings.append(issue.to_finding("duplicates", first.located, first.language.value))
    return findings


def check_leakage(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Return one finding for each two groups that are alike, one of them in train and the other held out."""
    findings: list[Finding] = []
    for first, second, kind, score in find_similar(groups):
        here, there = assign_split(first.located.group), assign_split(second.located.group)
        if (here == "train") == (there == "train"):
            continue
        other = second.located
        issue = Issue(
            Severity.ERROR if kind in (SimilarityKind.EXACT, SimilarityKind.NEAR) else Severity.WARNING,
            f"'{truncate(first.subject)}' ({here}) and '{truncate(second.subject)}' ({there}, {other.group.id}, "
            f"{other.location}) are {kind} ({score:.2f})",
            "what is held out must be new; rewrite one of them (a record can't be moved: its id decides its split)",
        )
        findings.append(issue.to_finding("leakage", first.located, first.language.value))
    return findings


def find_similar(groups: Sequence[SourcedGroup]) -> list[SimilarPair]:
    """Return the closest similarity of each two groups that are alike, in the order of the first, then the second."""
    records = list(iter_qa_views(groups))
    number = {located.group.id: index for index, located in enumerate(groups)}
    best: dict[tuple[int, int], SimilarPair] = {}
    for pair in _iter_similar(records):
        first, second = (number[one.located.group.id] for one in (pair.first, pair.second))
        if first > second:
            first, second, pair = second, first, pair._replace(first=pair.second, second=pair.first)
        # the steps of a chain may be alike: `check_tautology` judges them
        chain, other_chain = (getattr(one.located.group, "chain", None) for one in (pair.first, pair.second))
        one_chain = chain is not None and other_chain is not None and chain.id == other_chain.id
        if first != second and (pair.kind is SimilarityKind.EXACT or not one_chain):
            best.setdefault((first, second), pair)
    return [best[key] for key in sorted(best)]


def _iter_similar(records: Sequence[QAView]) -> Iterator[SimilarPair]:
    """Yield similar pairs, the closest kind first."""
    # 1. The letters of the subjects. They mislead in a short text, where one word is the subject.
    for first, second, jaccard in _near_duplicates([one.subject for one in records], LETTERS_FROM):
        ours, theirs = records[first], records[second]
        if normalize_alnum(ours.question) == normalize_alnum(theirs.question) and normalize_alnum(
            ours.subject
        ) == normalize_alnum(theirs.subject):
            yield SimilarPair(ours, theirs, SimilarityKind.EXACT, 1.0)
        elif jaccard == 1.0 or (
            may_be_same(ours.subject, theirs.subject)
            and (
                min(len(ours.subject), len(theirs.subject)) > SHORT_QUESTION / 2
                or paraphrase_probability(ours.subject, theirs.subject) >= SAME_FROM
            )
        ):
            yield SimilarPair(ours, theirs, SimilarityKind.NEAR, jaccard)

    # 2. The letters of answers that could have been quite different.
    free = [one for one in records if one.located.group.category in (Category.BRAINSTORMING, Category.CREATIVE)]
    free += [
        one for one in records if one.located.group.category is Category.OPEN_QA and len(one.output) >= LONG_ANSWER
    ]
    for first, second, jaccard in _near_duplicates([one.output for one in free], LETTERS_FROM):
        if min(len(free[first].output), len(free[second].output)) >= LONG_ANSWER:
            yield SimilarPair(free[first], free[second], SimilarityKind.ANSWER, jaccard)

    # 3. The meaning of short subjects: first within a language, then across languages.
    if len(records) > ROWS_AT_MOST:
        return
    short = [one for one in records if len(one.subject) <= SHORT_QUESTION]
    across: list[SimilarPair] = []
    for first, second, cosine in pairs_above(embed([one.subject for one in short]), MEANING_FROM):
        ours, theirs = short[first], short[second]
        here, there = ours.located.group, theirs.located.group
        if here.id == there.id or here.category != there.category:
            continue
        if ours.language is theirs.language:
            probability = paraphrase_probability(ours.subject, theirs.subject, cosine)
            if probability >= SAME_FROM:
                yield SimilarPair(ours, theirs, SimilarityKind.MEANING, probability)
        elif cosine >= ACROSS_FROM and may_be_same(ours.subject, theirs.subject):
            across.append(SimilarPair(ours, theirs, SimilarityKind.ACROSS, cosine))
    yield from across


def _near_duplicates(texts: Sequence[str], threshold: float) -> Sequence[tuple[int, int, float]]:
    return find_near_duplicates(texts, threshold=threshold) if len(texts) > 1 else ()


def check_templates(groups: Sequence[SourcedGroup], common: frozenset[str] | None = None) -> list[Finding]:
    """Return one warning for each two groups whose subjects are the same but for names and numbers.

    Args:
        common: the `common_words` of all records, where ``groups`` are a part of them.

    Example:
        "ミラノはどこにありますか。" and "リヨンはどこにありますか。" share the shape "Xはどこにありますか。".
    """
    # 1. Words that also occur in lower case are no names for being capitalized at the start of a sentence.
    records = [one for one in iter_qa_views(groups) if one.located.group.category is not Category.TRANSLATION]
    common = common_words(groups) if common is None else common

    findings: dict[tuple[str, str], Finding] = {}
    for language in Language:
        # 2. Mask the subjects; what is nearly all name or number says nothing.
        members = [(one, mask_names_and_numbers(one.subject, common)) for one in records if one.language is language]
        members = [(one, shape) for one, shape in members if says_something(shape)]

        # 3. Compare the shapes. Two records without a name or number are for `check_duplicates`.
        for first, second, jaccard in _near_duplicates([shape for _, shape in members], TEMPLATE_SAME_FROM):
            (ours, shape), (theirs, other_shape) = members[first], members[second]
            other = theirs.located
            pair = ours.located.group.id, other.group.id
            masked = shape != ours.subject and other_shape != theirs.subject
            equal = normalize_alnum(ours.subject) == normalize_alnum(theirs.subject)
            if pair[0] != pair[1] and masked and not equal and pair not in findings:
                issue = Issue.warning(
                    f"'{truncate(ours.subject)}' and '{truncate(theirs.subject)}' in {other.group.id} "
                    f"({other.location}) share the shape '{truncate(shape)}' ({jaccard:.2f})",
                    "groups that differ only in a name or a number teach the form; make one of them ask something else",
                )
                findings[pair] = issue.to_finding("templates", ours.located, language.value)
    return list(findings.values())


def common_words(groups: Sequence[SourcedGroup]) -> frozenset[str]:
    """Return the words that occur in lower case, and so are no names where they are capitalized."""
    views = (one for one in iter_qa_views(groups) if one.located.group.category is not Category.TRANSLATION)
    texts = (text for one in views for text in (one.question, one.output))
    return frozenset(word for text in texts for word in re.findall(r"(?<![\w])[a-z]+", text)) | _COMMON_FIRST_WORDS


def says_something(shape: str) -> bool:
    """Return whether enough of a masked text is neither name nor number."""
    return len(normalize_alnum(re.sub("[XN]", "", shape))) >= LEFT_AT_LEAST


def mask_names_and_numbers(text: str, common: frozenset[str]) -> str:
    """Replace numbers by ``N``, and names, quoted words and katakana words by ``X``.

    Args:
        common: words that are no names, in lower case, even where they are capitalized.
    """
    plain = unicodedata.normalize("NFKC", text)
    for pattern in (_QUOTED, _COUNTRIES, _PERSON, _KATAKANA):
        plain = pattern.sub("X", plain)

    def mask_names(found: re.Match[str]) -> str:
        words = (word if word.casefold() in common or word == "X" else "X" for word in found[0].split())
        return re.sub(r"X(?: X)+", "X", " ".join(words))

    plain = _CAPITALIZED.sub(mask_names, plain)
    return re.sub(r"⟨\d+⟩", "N", mark_numbers(_ARTICLE.sub("", _PRONOUN.sub("X", plain))).text)
