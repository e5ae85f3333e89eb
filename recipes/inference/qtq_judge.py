"""Judge proposed next questions: score them, measure depth, and give the reason for each rejection.

Two numbers are added. *Specific* is the share, 0 to 1, of what the question is about that no earlier question was
about. *Fundamental* is 1 where it asks how something is known or measured, for a limit, a supposition, a price, a
quantity or what decides; ½ where it asks for a cause, a means, people, cases, places or kinds; 0 where it asks what one
asks first: an effect, a role, a benefit, yes or no. By this measure most chains of the records are deeper when they are
walked from their beginning than from their end; the tests tell how many.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


class _Message(NamedTuple):
    en: str
    ja: str
    counted_en: str
    counted_ja: str


class RejectionKind(enum.Enum):
    """What is wrong with a candidate; fields of the sentences are filled by `refusal`."""

    SILENT = _Message("nothing was said", "何も言っていません", "said nothing", "無言")
    NO_QUESTION = _Message("it asks nothing", "質問になっていません", "asked nothing", "質問でない")
    GARBLED = _Message("it is garbled", "文字化けしています", "were garbled", "文字化け")
    FOREIGN = _Message(
        "it is not in the language of the chain", "連鎖の言語と違います", "were in another language", "別の言語"
    )
    REQUEST = _Message(
        "it is the request itself, not a question", "指示文そのものです", "repeated the request", "指示の写し"
    )
    LONG = _Message(
        "it has {found} characters, more than {limit}",
        "{found}字あり、{limit}字を超えます",
        "were too long",
        "長すぎる",
    )
    LOOPING = _Message("it runs in a loop", "同じ言葉を繰り返しています", "ran in a loop", "繰り返し")
    EMPTY = _Message(
        "it asks about nothing in particular", "何についての質問か分かりません", "were about nothing", "中身がない"
    )
    CIRCULAR = _Message(
        "it asks again what was asked in step {found} (likelihood {likely:.2f})",
        "第{found}段の質問の繰り返しです（見込み{likely:.2f}）",
        "asked again what was asked",
        "堂々めぐり",
    )
    ANSWERED = _Message(
        "the answer has said so: “{found}” (likelihood {likely:.2f})",
        "答えがもう述べています：「{found}」（見込み{likely:.2f}）",
        "asked what was answered",
        "答えの言い換え",
    )
    ASTRAY = _Message(
        "it leaves the theme (similarity {found:.2f}, at least {limit:.2f})",
        "テーマから外れます（類似度{found:.2f}、{limit:.2f}以上が必要）",
        "left the theme",
        "テーマから外れる",
    )
    SHALLOW = _Message(
        "it goes no deeper (depth {found:.2f}, at least {limit:.2f})",
        "深まりません（深さ{found:.2f}、{limit:.2f}以上が必要）",
        "went no deeper",
        "深まらない",
    )


class Rejection(NamedTuple):
    """A fault and its sentence."""

    kind: RejectionKind
    because: str


def reject(kind: RejectionKind, language: Language, **values: object) -> Rejection:
    """The fault told in the language of the chain's reader."""
    sentence = kind.value.ja if language is Language.JA else kind.value.en
    return Rejection(kind, sentence.format(**values))


def explain_end(kinds: Iterable[RejectionKind], language: Language) -> str:
    """One sentence over all candidates that were refused, the commonest fault first."""
    counted = Counter(kinds).most_common()
    total = sum(count for _, count in counted)
    if language is Language.JA:
        told = "、".join(f"{kind.value.counted_ja}{count}件" for kind, count in counted)
        return f"次の質問の候補{total}件を、すべて退けました（{told}）。"
    told = ", ".join(f"{count} {kind.value.counted_en}" for kind, count in counted)
    return f"all {total} candidates for the next question were refused: {told}"


_DEEPEST = frozenset({"measure", "limit", "supposed", "decider", "change", "loss", "harm", "quantity"})
_DEEPER = frozenset({"cause", "means", "person", "time", "need", "history", "kind", "place", "relation"})

DEEP_FROM = 0.6
"""Depth below which a question goes no deeper; about 2% of the records' next questions lie below."""


def depth_score(question: str, earlier: Iterable[str]) -> float:
    """Specific plus fundamental, 0 to 2.

    Args:
        earlier: all questions that the chain has asked.
    """
    ours = content_words(question)
    asked = frozenset[str]().union(*(content_words(one) for one in earlier))
    return (len(ours - asked) / len(ours) if ours else 0.0) + aspect_depth(question)


def aspect_depth(question: str) -> float:
    """1, ½ or 0, by what it asks for."""
    asked_for = question_aspects(question)
    return 1.0 if asked_for & _DEEPEST else 0.5 if asked_for & _DEEPER else 0.0


ON_THEME = 0.30
"""cosine with the theme, the last question or the last turn below which a question has left the theme.

Of the 252 question_to_question rows of the records 90 to 94% reach it; of pairs drawn from two chains 20 to 30%.
"""
COPIED = 0.6
"""share of pieces in common from which a question is the request itself"""
LONGEST = 300
"""characters; the longest question of the records has 161"""

ADDED = 0.2
"""share of its content up to which a question adds nothing to a sentence of an answer"""
_REPEATS = frozenset({"whether", "role", "supposed"})
"""what a question asks for that only says an answer again: "is it so", "what if it is so"; why and how go on from it"""

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
"""at what stands beside the request: the question is asked alone"""
_SAID_TWICE = re.compile(r"\b(\w+(?: \w+){3,})\b.*\b\1\b|([ぁ-んァ-ヴー一-鿿]{12,}).*\2", re.I)
"""four words, or twelve letters of Japanese or Chinese: "a shop that sells well is a shop that sells well" """


def extract_question(text: str) -> str:
    """The first question in a text, without bullets and labels; empty if it asks nothing."""
    pieces = (_BULLET.sub("", piece).strip().strip('"“”「」') for piece in _SENTENCE_END.split(text))
    return next((piece for piece in pieces if _ASKS.search(piece)), "")


class ScoredCandidate(NamedTuple):
    """A candidate as it is kept, and its fault if it has one."""

    candidate: Candidate
    fault: RejectionKind | None


def score_candidate(text: str, perspective: Perspective, chain: QuestionChain) -> ScoredCandidate:
    """What a model said when it was asked for the next question, weighed against the chain so far.

    The first fault found is the one that is told.
    """
    question = extract_question(text)
    shown = strip_control_chars(question or text.strip()[:LONGEST])
    asked = [step.question for step in chain.steps]
    answered = [piece for step in chain.steps for piece in split_sentences(step.answer.answer)]
    *known, new = embed([*asked, *answered, chain.theme, format_step(chain.steps[-1], chain.language), shown])
    cosines = [float(row @ new) for row in known]
    theme = cosines[-2]
    near = max(theme, cosines[len(asked) - 1], cosines[-1])
    reached = depth_score(shown, asked)
    fault = _rejection(text, question, perspective, chain, asked, answered, near, reached)
    candidate = Candidate(
        question=shown,
        perspective=perspective.key,
        nearness=max(cosines[:-2]),
        theme=theme,
        depth=reached,
        refused_because=fault.because if fault else None,
    )
    return ScoredCandidate(candidate, fault.kind if fault else None)


def ranking_score(candidate: Candidate) -> float:
    """What candidates that passed are ranked by: deep, on the theme, and far from what was said."""
    return candidate.depth + candidate.theme - candidate.nearness


def _rejection(
    text: str,
    question: str,
    perspective: Perspective,
    chain: QuestionChain,
    asked: Sequence[str],
    answered: Sequence[str],
    near: float,
    reached: float,
) -> Rejection | None:
    spoken = chain.language
    if not text.strip():
        return reject(RejectionKind.SILENT, spoken)
    if (malformed := _malformed(question, perspective, spoken)) is not None:
        return malformed
    if (circular := _circular(question, asked, answered, spoken)) is not None:
        return circular
    if near < ON_THEME:
        return reject(RejectionKind.ASTRAY, spoken, found=near, limit=ON_THEME)
    return reject(RejectionKind.SHALLOW, spoken, found=reached, limit=DEEP_FROM) if reached < DEEP_FROM else None


def _malformed(question: str, perspective: Perspective, spoken: Language) -> Rejection | None:
    if not question:
        return reject(RejectionKind.NO_QUESTION, spoken)
    if any(True for _ in mojibake_issues(question)):
        return reject(RejectionKind.GARBLED, spoken)
    if any(fault.severity is Severity.ERROR for fault in language_issues(question, spoken)):
        return reject(RejectionKind.FOREIGN, spoken)
    wording = perspective.wording[spoken]
    about = content_words(question)
    if (
        _MARKS.search(question)
        or _POINTS.search(question)
        or dice_overlap(question, wording) >= COPIED
        or (about and about <= content_words(wording))
    ):
        return reject(RejectionKind.REQUEST, spoken)
    if len(question) > LONGEST:
        return reject(RejectionKind.LONG, spoken, found=len(question), limit=LONGEST)
    if _SAID_TWICE.search(question) or any(True for _ in repetition_issues(question)):
        return reject(RejectionKind.LOOPING, spoken)
    return None if about else reject(RejectionKind.EMPTY, spoken)


def _circular(question: str, asked: Sequence[str], answered: Sequence[str], spoken: Language) -> Rejection | None:
    likely, number = max(
        (same_question_probability(earlier, question), -number) for number, earlier in enumerate(asked, 1)
    )
    if likely >= SAME_FROM:
        return reject(RejectionKind.CIRCULAR, spoken, found=-number, likely=likely)
    if not (question_aspects(question) <= _REPEATS or "supposed" in question_aspects(question)):
        return None
    about = content_words(question)
    said_all = [said for said in answered if len(about - content_words(said)) <= ADDED * len(about)]
    likely, sentence = max(((same_question_probability(said, question), said) for said in said_all), default=(0.0, ""))
    return reject(RejectionKind.ANSWERED, spoken, found=sentence[:80], likely=likely) if likely >= SAME_FROM else None
