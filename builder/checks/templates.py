"""Templates in disguise: groups that differ only in a name or a number teach the form, not the subject."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from bonsai.builder.checks.asked import Asked, asked
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.numerals import marked
from bonsai.builder.checks.rewording import folded
from bonsai.builder.checks.text_fields import shortened
from bonsai.builder.near_duplicates import near_duplicates
from bonsai.builder.reader import Located
from bonsai.builder.schema import Category, Language

SAME_FROM = 0.75
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


def check_templates(groups: Sequence[Located]) -> Iterator[Finding]:
    """One warning for each two groups whose subjects are the same but for names and numbers."""
    records = [one for one in asked(groups) if one.located.group.category is not Category.TRANSLATION]
    common = _lower_case_words(records)
    reported: set[tuple[str, str]] = set()
    for language in Language:
        members = [(one, masked(one.subject, common)) for one in records if one.language is language]
        members = [(one, text) for one, text in members if len(_left(text)) >= LEFT_AT_LEAST]
        for first, second, jaccard in (
            near_duplicates([text for _, text in members], threshold=SAME_FROM) if members else ()
        ):
            (ours, shape), (theirs, other_shape) = members[first], members[second]
            pair = ours.located.group.id, theirs.located.group.id
            hidden = shape != ours.subject and other_shape != theirs.subject
            if (
                pair[0] != pair[1]
                and pair not in reported
                and hidden
                and folded(ours.subject) != folded(theirs.subject)
            ):
                reported.add(pair)
                yield _finding(ours, theirs, shape, jaccard)


def masked(text: str, common: frozenset[str]) -> str:
    """The text with numbers as ``N`` and names, quoted words and katakana words as ``X``.

    ``common``: words that also occur in lower case, so that a sentence's first word is no name for being capitalised.
    """
    plain = unicodedata.normalize("NFKC", text)
    for pattern in (_QUOTED, _COUNTRIES, _PERSON, _KATAKANA):
        plain = pattern.sub("X", plain)
    plain = _CAPITALISED.sub(lambda found: _unless_common(found[0], common), plain)
    return re.sub(r"⟨\d+⟩", "N", marked(_ARTICLE.sub("", _PRONOUN.sub("X", plain))).text)


def _unless_common(words: str, common: frozenset[str]) -> str:
    kept = [word if word.casefold() in common or word == "X" else "X" for word in words.split()]
    return re.sub(r"X(?: X)+", "X", " ".join(kept))


def _lower_case_words(records: Sequence[Asked]) -> frozenset[str]:
    words = {
        word for one in records for text in (one.question, one.output) for word in re.findall(r"(?<![\w])[a-z]+", text)
    }
    return frozenset(
        words | {"what", "which", "who", "how", "why", "when", "where", "in", "a", "write", "is", "do", "does"}
    )


def _left(text: str) -> str:
    return folded(re.sub("[XN]", "", text))


def _finding(ours: Asked, theirs: Asked, shape: str, jaccard: float) -> Finding:
    other = theirs.located
    return Finding(
        check="templates",
        severity=Severity.WARNING,
        place=ours.located.place,
        group_id=ours.located.group.id,
        field=ours.language.value,
        what=f"'{shortened(ours.subject)}' and '{shortened(theirs.subject)}' in {other.group.id} ({other.place}) "
        f"share the shape '{shortened(shape)}' ({jaccard:.2f})",
        why="groups that differ only in a name or a number teach the form; make one of them ask something else",
    )
