"""Judge proposed next questions: score them, measure depth, and give the reason for each rejection.

Depth is the sum of two numbers. *Specific* is the share, 0 to 1, of the question's content words that no
earlier question has. *Fundamental* is 1 if it asks how something is known or measured, for a limit, a supposition, a
price, a quantity or what decides; ½ if it asks for a cause, a means, people, cases, places or kinds; 0 if it asks what
one asks first: an effect, a role, a benefit, yes or no. Most chains of the records are deeper by this measure from
their beginning than from their end; the tests count them.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from bonsai.builder.assets import load_table
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.language import language_issues
from bonsai.builder.checks.paraphrase import content_words, embed
from bonsai.builder.checks.reasoning import dice_overlap
from bonsai.builder.checks.repetition import repetition_issues
from bonsai.builder.checks.unicode import mojibake_issues
from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Candidate, QuestionChain
from bonsai.recipes.inference.perspectives import Perspective, format_step, strip_control_chars
from bonsai.recipes.inference.question_similarity import SAME_FROM, question_aspects, same_question_probability
from bonsai.recipes.inference.summary import split_sentences

ON_THEME = 0.30
"""cosine with the theme, the last question or the last turn below which a question leaves the theme.

Of the 252 question_to_question rows of the records 90 to 94% reach it; of pairs drawn from two chains 20 to 30%.
"""
COPIED = 0.6
"""Dice overlap from which a question is the request itself"""
LONGEST = 300
"""characters; the longest question of the records has 161"""

ADDED = 0.2
"""share of its content up to which a question adds nothing to a sentence of an answer"""
_REPEATS = frozenset({"whether", "role", "supposed"})
"""aspects of questions that may only repeat an answer: "is it so", "what if it is so"; why and how go further"""

_BULLET = re.compile(
    r"^\s*(?:[-*•・>]|\d{1,2}\s*[.．、)）:：])?\s*(?:(?:next |new )?question\s*\d*\s*[:：]|質問[:：]|问题[:：])?\s*",
    re.I,
)
_SENTENCE_END = re.compile(r"(?<=[。！？!?])[\"”」』)]?|(?<=\.)\s|\n")
_ASKS = re.compile(r"[?？][\"”」』)]?$|(?:か|でしょう|かな|吗|呢)[。.]?$")
_MARKS = re.compile(r"###|\[INST|<\||\bWrite (?:just )?one question\b|質問を一つだけ書いて|只写一个", re.I)
_POINTS = re.compile(
    r"\b(?:the|this|that) (?:answer|claim|question|exchange)\b(?! to)"
    r"|(?:この|その|上の)(?:答え|回答|主張|質問)|(?:这个|该|上述)(?:回答|说法)",
    re.I,
)
"""references to the text around the request: the question will be asked alone"""
_SAID_TWICE = re.compile(r"\b(\w+(?: \w+){3,})\b.*\b\1\b|([ぁ-んァ-ヴー一-鿿]{12,}).*\2", re.I)
"""four words, or twelve characters of Japanese or Chinese: "a shop that sells well is a shop that sells well" """

_DEEPEST = frozenset({"measure", "limit", "supposed", "decider", "change", "loss", "harm", "quantity"})
_DEEPER = frozenset({"cause", "means", "person", "time", "need", "history", "kind", "place", "relation"})

DEEP_FROM = 0.6
"""depth below which a question goes no deeper; about 2% of the records' next questions are below it"""


_SENTENCES = load_table(__package__, "rejections.toml")


class RejectionKind(enum.Enum):
    """What is wrong with a candidate; ``rejections.toml`` has the sentences."""

    SILENT = "silent"
    NO_QUESTION = "no_question"
    GARBLED = "garbled"
    FOREIGN = "foreign"
    REQUEST = "request"
    LONG = "long"
    LOOPING = "looping"
    EMPTY = "empty"
    CIRCULAR = "circular"
    ANSWERED = "answered"
    ASTRAY = "astray"
    SHALLOW = "shallow"


class Rejection(NamedTuple):
    """A fault and the sentence about it."""

    kind: RejectionKind
    reason: str


def reject(kind: RejectionKind, language: Language, **values: object) -> Rejection:
    """Describe a fault in Japanese for a Japanese chain, in English for any other."""
    return Rejection(kind, _SENTENCES[kind.value]["ja" if language is Language.JA else "en"].format(**values))


def explain_end(kinds: Iterable[RejectionKind], language: Language) -> str:
    """Summarize the faults of all rejected candidates in one sentence, the most frequent first."""
    counts = Counter(kinds).most_common()
    total = sum(count for _, count in counts)
    if language is Language.JA:
        faults = "、".join(f"{_SENTENCES[kind.value]['counted_ja']}{count}件" for kind, count in counts)
        return f"次の質問の候補{total}件を、すべて退けました（{faults}）。"
    faults = ", ".join(f"{count} {_SENTENCES[kind.value]['counted_en']}" for kind, count in counts)
    return f"all {total} candidates for the next question were refused: {faults}"


def depth_score(question: str, earlier: Iterable[str]) -> float:
    """Return specific plus fundamental, 0 to 2.

    Args:
        earlier: all questions that the chain has asked.
    """
    content = content_words(question)
    asked = frozenset[str]().union(*(content_words(one) for one in earlier))
    specific = len(content - asked) / len(content) if content else 0.0
    aspects = question_aspects(question)
    return specific + (1.0 if aspects & _DEEPEST else 0.5 if aspects & _DEEPER else 0.0)


def extract_question(text: str) -> str:
    """Return the first question in a text, without bullets and labels; empty if there is none."""
    pieces = (_BULLET.sub("", piece).strip().strip('"“”「」') for piece in _SENTENCE_END.split(text))
    return next((piece for piece in pieces if _ASKS.search(piece)), "")


class ScoredCandidate(NamedTuple):
    """A candidate as it is stored, and why it was rejected; None if it passed."""

    candidate: Candidate
    fault: RejectionKind | None


def score_candidate(text: str, perspective: Perspective, chain: QuestionChain) -> ScoredCandidate:
    """Judge a model's text as the next question of a chain that has at least one step.

    Of several faults the first one found is reported.
    """
    question = extract_question(text)
    shown = strip_control_chars(question or text.strip()[:LONGEST])
    asked = [step.question for step in chain.steps]
    answered = [piece for step in chain.steps for piece in split_sentences(step.answer.answer)]
    *known, new = embed([*asked, *answered, chain.theme, format_step(chain.steps[-1], chain.language), shown])
    cosines = [float(row @ new) for row in known]
    last_question, theme, last_step = cosines[len(asked) - 1], cosines[-2], cosines[-1]
    depth = depth_score(shown, asked)
    rejection = _rejection(text, question, perspective, chain, max(theme, last_question, last_step), depth)
    candidate = Candidate(
        question=shown,
        perspective=perspective.key,
        nearness=max(cosines[:-2]),
        theme=theme,
        depth=depth,
        refused_because=rejection.reason if rejection else None,
    )
    return ScoredCandidate(candidate, rejection.kind if rejection else None)


def ranking_score(candidate: Candidate) -> float:
    """Rank candidates that passed: deep, close to the theme, and far from what was said."""
    return candidate.depth + candidate.theme - candidate.nearness


def _rejection(
    text: str, question: str, perspective: Perspective, chain: QuestionChain, relevance: float, depth: float
) -> Rejection | None:
    """Return the first fault of a candidate; None if it passes.

    Args:
        question: the one in ``text``; empty: there is none.
        relevance: greatest cosine to the theme, the last question and the last step.
    """
    language = chain.language

    # 1. Is it one well-formed question in the chain's language?
    if not text.strip():
        return reject(RejectionKind.SILENT, language)
    if not question:
        return reject(RejectionKind.NO_QUESTION, language)
    if any(True for _ in mojibake_issues(question)):
        return reject(RejectionKind.GARBLED, language)
    if any(issue.severity is Severity.ERROR for issue in language_issues(question, language)):
        return reject(RejectionKind.FOREIGN, language)

    # 2. Is it the request itself, or about the request's wording?
    wording = perspective.wording[language]
    content = content_words(question)
    if (
        _MARKS.search(question)
        or _POINTS.search(question)
        or dice_overlap(question, wording) >= COPIED
        or (content and content <= content_words(wording))
    ):
        return reject(RejectionKind.REQUEST, language)
    if len(question) > LONGEST:
        return reject(RejectionKind.LONG, language, found=len(question), limit=LONGEST)
    if _SAID_TWICE.search(question) or any(True for _ in repetition_issues(question)):
        return reject(RejectionKind.LOOPING, language)
    if not content:
        return reject(RejectionKind.EMPTY, language)

    # 3. Was it asked before? Of equally likely steps the earliest is named.
    likely, number = max(
        (same_question_probability(step.question, question), -number) for number, step in enumerate(chain.steps, 1)
    )
    if likely >= SAME_FROM:
        return reject(RejectionKind.CIRCULAR, language, found=-number, likely=likely)

    # 4. Has an answer said so already? Only questions of kinds that can merely turn an answer into a question.
    aspects = question_aspects(question)
    if aspects <= _REPEATS or "supposed" in aspects:
        sentences = [piece for step in chain.steps for piece in split_sentences(step.answer.answer)]
        covering = [one for one in sentences if len(content - content_words(one)) <= ADDED * len(content)]
        likely, sentence = max(((same_question_probability(one, question), one) for one in covering), default=(0.0, ""))
        if likely >= SAME_FROM:
            return reject(RejectionKind.ANSWERED, language, found=sentence[:80], likely=likely)

    # 5. Does it stay on the theme, and go deeper?
    if relevance < ON_THEME:
        return reject(RejectionKind.ASTRAY, language, found=relevance, limit=ON_THEME)
    if depth < DEEP_FROM:
        return reject(RejectionKind.SHALLOW, language, found=depth, limit=DEEP_FROM)
    return None
