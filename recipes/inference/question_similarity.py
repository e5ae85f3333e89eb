"""Estimate whether a question repeats an earlier one, and which aspect of the subject it asks about.

Two questions about one thing are the same question only if they ask the same of it: "why do customers leave" and "what
do customers buy once they have left" share their words but not their aspect, which sentence vectors hardly see.

`bonsai.builder.checks.paraphrase` was made for pairs that people wrote; a question that a model asks next shares most
of its words with the one before even when it is deeper. So besides content words and sentence vectors, this module
compares what is asked of the content (`question_aspects`), antonyms, and who does what to whom.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping
from math import exp

from bonsai.builder.assets import load_table
from bonsai.builder.checks.paraphrase import content_words, embed, paraphrase_features, paraphrase_probability
from bonsai.builder.checks.text import normalize_alnum

_TABLES = load_table(__package__, "question_similarity.toml")
WEIGHTS: Mapping[str, float] = _TABLES["weights"]
"""of the logistic model, by feature"""
_ASPECT_PATTERNS = {name: re.compile("|".join(words)) for name, words in _TABLES["aspects"].items()}
_POLITE = re.compile(
    r"^(?:so,? |and |but |then )*(?:(?:can|could|would|will) (?:you|we) (?:please )?(?:explain|tell me|describe|say)"
    r"|please explain|do you (?:know|think)|in your (?:view|opinion),?) |请(?:问|说明|解释)"
    r"|教えてください|説明してください"
)
_INTERROGATIVE = re.compile(r"何|なぜ|どう|どん|どの|どこ|どれ|どち|いつ|誰|だれ|いく")

_ANTONYM_PATTERNS = [(re.compile(one), re.compile(other)) for one, other in _TABLES["antonyms"]["pairs"]]
_SYMMETRIC = re.compile(r"\bbetween\b|\brelat|\bsame\b|\bdiffer|\band\b|関係|違い|同じ|关系|区别|不同|相同")
_TOKEN = re.compile(r"[a-z0-9']+|[一-鿿]|[ァ-ヴー]+|[ぁ-ん]+")

SAME_FROM = 0.2
"""probability from which a next question counts as asked before"""


def same_question_probability(first: str, second: str) -> float:
    """Estimate whether two questions ask the same, 0 to 1: by rule if one decides, else by logistic regression.

    The model is fitted, and `SAME_FROM` chosen, on one half of labelled pairs in three languages and tested on the
    other: ``benchmarks/qtq_pairs.py``.
    """
    if (known := by_rule(first, second)) is not None:
        return known
    features = pair_features(first, second)
    return 1 / (1 + exp(-sum(weight * features[name] for name, weight in WEIGHTS.items())))


def by_rule(first: str, second: str) -> float | None:
    """Return the probability if words, order, numbers or names decide it; None if they do not."""
    if normalize_alnum(first) == normalize_alnum(second):
        return 1.0
    if is_role_swap(first, second):
        return 0.0
    one, other = embed([first, second])
    likely = paraphrase_probability(first, second, float(one @ other))
    return likely if likely == 0 or not content_words(first) or not content_words(second) else None


def pair_features(first: str, second: str) -> dict[str, float]:
    """Compute the features of two questions that both have content words, by their names in `WEIGHTS`."""
    one, other = embed([first, second])
    ours, theirs = question_aspects(first), question_aspects(second)
    shared = len(ours & theirs) / len(ours | theirs) if ours and theirs else 0.5
    differ = float(bool(ours and theirs) and not ours & theirs)
    constant, cosine, less, more, denial = paraphrase_features(first, second, float(one @ other))
    return {
        "constant": constant,
        "cosine": cosine,
        "lacking_less": less,
        "lacking_more": more,
        "denial": denial,
        "aspects_shared": shared,
        "aspects_differ": differ,
        "opposed": float(has_antonyms(first, second)),
        "exchanged": replaced_span_score(first, second),
    }


@functools.lru_cache(maxsize=65_536)
def question_aspects(question: str) -> frozenset[str]:
    """Return the aspects a question may ask about, such as ``{"cause"}``; empty if its wording does not tell."""
    plain = _POLITE.sub("", unicodedata.normalize("NFKC", question).lower().strip())
    found = {name for name, pattern in _ASPECT_PATTERNS.items() if pattern.search(plain)}
    if re.search(r"か[。?]?$", plain) and not _INTERROGATIVE.search(plain):
        found.add("whether")
    return frozenset(found)


@functools.lru_cache(maxsize=65_536)
def has_antonyms(first: str, second: str) -> bool:
    """Return whether one question has a word and the other only its antonym."""
    ours, theirs = (unicodedata.normalize("NFKC", text).lower() for text in (first, second))
    for one, other in _ANTONYM_PATTERNS:
        # which of the two words each side has: opposed if each has one of them, and not the same
        found = [(bool(one.search(text)), bool(other.search(text))) for text in (ours, theirs)]
        if found in ([(True, False), (False, True)], [(False, True), (True, False)]):
            return True
    return False


def is_role_swap(first: str, second: str) -> bool:
    """Return whether the same words come in another order, so that who acts and who is acted upon change roles."""
    ours, theirs = (_TOKEN.findall(unicodedata.normalize("NFKC", text).lower()) for text in (first, second))
    return ours != theirs and sorted(ours) == sorted(theirs) and not _SYMMETRIC.search(first.lower())


def replaced_span_score(first: str, second: str) -> float:
    """Return the share of words in a common beginning and end, times the distance (1 - cosine) of what is between."""
    ours, theirs = (_TOKEN.findall(unicodedata.normalize("NFKC", text).lower()) for text in (first, second))
    shorter = min(len(ours), len(theirs))
    head = next((at for at in range(shorter) if ours[at] != theirs[at]), shorter)
    tail = next((at for at in range(shorter - head) if ours[-1 - at] != theirs[-1 - at]), shorter - head)
    spans = [words[head : len(words) - tail] for words in (ours, theirs)]
    middles = [(" " if all(word.isascii() for word in span) else "").join(span) for span in spans]
    if not head + tail or not all(middles):
        return 0.0
    one, other = embed(middles)
    return (head + tail) / max(len(ours), len(theirs)) * (1 - float(one @ other))
