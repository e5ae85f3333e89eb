"""Whether two questions of one language ask the same: the judge that keeps a chain from going in circles.

The records' own rule (`bonsai.builder.checks.rewording`) was made for pairs that people wrote; a question that a model
asks next shares most of its words with the one before even when it is deeper. Beside the content and the sentence
vectors this judge looks at what is asked of the content (`bonsai.recipes.inference.chains.aspects`), at opposites, and
at who does what to whom.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from math import exp
from typing import NamedTuple

from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.rewording import content, features, folded, rewording
from bonsai.recipes.inference.chains.aspects import aspects

_OPPOSITES: tuple[tuple[str, str], ...] = (
    (r"\bstop|\bquit|\bend(?:s|ed)?\b|なくな|やめ|不再|停止", r"\bstart|\bbeg[iau]n|始め|始ま|开始"),
    (r"\bclos|閉|关闭|倒闭", r"\bopen|\bbuil|建て|開[くい]|开[张办业]|扩建|建立"),
    (r"\bbuil[dt]|\bgain|\bcreate|築|作[るりれっ]|建立|形成",
     r"\bdestroy|\blos[et]|\bbreak|壊|失[うわい]|破裂|失去|毁"),
    (r"\bgood\b|良い|よい知|好消息", r"\bbad\b|悪い|坏消息"),
    (r"\brais|\bincreas|\bgrow|\bmore\b|上げ|増[えや]|高め|提高|增加|上涨|上调",
     r"\blower|\bdecreas|\breduc|\bfewer|\bless\b|下げ|減[らりる]|降低|减少|下调"),
    (r"benefit|advantage(?<!disadvantage)|利点|長所|メリット(?<!デメリット)|好处|优点",
     r"\brisk|drawback|disadvantage|\bharm|欠点|短所|デメリット|坏处|缺点|风险"),
    (r"\blearn|賢く|学[びぶべ]|学会|聪明", r"\bunlearn|\bforget|失[っいう]|忘れ|忘记|失去"),
    (r"\bhard\b|\bdifficult|難し|很难", r"\beas[iy]|たやす|すぐ|容易|一眼"),
    (r"\bown\b|\bour\b|自分|自己", r"\bothers?\b|\bother people|他人|别人"),
    (r"\balways\b|\busual|\bnormal|ふだん|いつも|平时|总是", r"\bnever\b|\brare|\bemergenc|まれ|非常時|从不|紧急"),
    (r"続[けくい]|continu|\blast(?:s|ed)?\b|延续|持续", r"始ま|起こり|\bbegan|\borigin|产生|起源"),
    (r"\bhelp|促|有助", r"\bhinder|\bprevent|損な|妨"),
)  # fmt: skip
_PATTERNS = tuple((re.compile(one), re.compile(other)) for one, other in _OPPOSITES)
_SYMMETRIC = re.compile(r"\bbetween\b|\brelat|\bsame\b|\bdiffer|\band\b|関係|違い|同じ|关系|区别|不同|相同")
_TOKEN = re.compile(r"[a-z0-9']+|[一-鿿]|[ァ-ヴー]+|[ぁ-ん]+")

SAME_FROM = 0.2
"""Likelihood from which a next question counts as asked before."""

_WEIGHTS = (-3.32, 6.08, 0.43, -1.89, -2.01, 1.48, -2.26, -3.15, -4.18)


class Seen(NamedTuple):
    """What the judge sees of two questions."""

    constant: float
    cosine: float
    lacking_less: float
    """share of its content that the better side lacks in the other"""
    lacking_more: float
    denial: float
    """1 where one denies and the other does not"""
    aspects_shared: float
    """Jaccard's share of what both ask for; 0.5 where nothing tells"""
    aspects_differ: float
    """1 where they ask for different things altogether"""
    opposed: float
    """1 where one has a word and the other its opposite"""
    exchanged: float
    """0 to 1: how much of the wording is the same around a part that is exchanged for another, of other meaning"""


def sameness(first: str, second: str) -> float:
    """How likely (0 to 1) the two ask the same: by rule where a rule decides, else a logistic model of `seen`.

    The model is fitted, and `SAME_FROM` chosen, on one half of labelled pairs in three languages and tested on the
    other: ``benchmarks/qtq_pairs.py``.
    """
    if (known := by_rule(first, second)) is not None:
        return known
    return 1 / (1 + exp(-sum(weight * value for weight, value in zip(_WEIGHTS, seen(first, second), strict=True))))


def by_rule(first: str, second: str) -> float | None:
    """The likelihood where words, order, numbers or names decide it; None: they do not."""
    if folded(first) == folded(second):
        return 1.0
    if swapped(first, second):
        return 0.0
    one, other = vectors([first, second])
    likely = rewording(first, second, float(one @ other))
    return likely if likely == 0 or not content(first) or not content(second) else None


def seen(first: str, second: str) -> Seen:
    """The features of two questions that both have content."""
    one, other = vectors([first, second])
    ours, theirs = aspects(first), aspects(second)
    shared = len(ours & theirs) / len(ours | theirs) if ours and theirs else 0.5
    differ = float(bool(ours and theirs) and not ours & theirs)
    constant, cosine, less, more, denial = features(first, second, float(one @ other))
    return Seen(
        constant, cosine, less, more, denial, shared, differ, float(opposed(first, second)), exchanged(first, second)
    )


@functools.lru_cache(maxsize=65_536)
def opposed(first: str, second: str) -> bool:
    """Whether one side has a word and the other, which lacks it, has its opposite."""
    ours, theirs = (unicodedata.normalize("NFKC", text).lower() for text in (first, second))
    return any(_apart(ours, theirs, a, b) or _apart(theirs, ours, a, b) for a, b in _PATTERNS)


def _apart(ours: str, theirs: str, a: re.Pattern[str], b: re.Pattern[str]) -> bool:
    return bool(a.search(ours) and not b.search(ours) and b.search(theirs) and not a.search(theirs))


def swapped(first: str, second: str) -> bool:
    """Whether the same words stand in another order, so that who does it and who suffers it change places."""
    ours, theirs = (_TOKEN.findall(unicodedata.normalize("NFKC", text).lower()) for text in (first, second))
    return ours != theirs and sorted(ours) == sorted(theirs) and not _SYMMETRIC.search(first.lower())


def exchanged(first: str, second: str) -> float:
    """The share of words that both begin and end with, times how far the middles are apart (1 - cosine)."""
    ours, theirs = (_TOKEN.findall(unicodedata.normalize("NFKC", text).lower()) for text in (first, second))
    shorter = min(len(ours), len(theirs))
    head = next((at for at in range(shorter) if ours[at] != theirs[at]), shorter)
    tail = next((at for at in range(shorter - head) if ours[-1 - at] != theirs[-1 - at]), shorter - head)
    middles = [_joined(words[head : len(words) - tail]) for words in (ours, theirs)]
    if not head + tail or not all(middles):
        return 0.0
    one, other = vectors(middles)
    return (head + tail) / max(len(ours), len(theirs)) * (1 - float(one @ other))


def _joined(words: Sequence[str]) -> str:
    return (" " if all(word.isascii() for word in words) else "").join(words)
