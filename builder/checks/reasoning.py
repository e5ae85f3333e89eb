"""Check that Reasoning adds something: it must not restate the question, announce the answer or repeat an earlier one.

Example:
    >>> issues = uninformative_issues("It is large, so the answer is Lake Biwa.", "Which lake?", "Lake Biwa")
    >>> [issue.message for issue in issues]
    ["'the answer is Lake Biwa' announces the answer"]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bonsai.builder.checks.base import Finding, Issue, TextField, to_findings, truncate
from bonsai.builder.checks.text import CJK_LETTER, HAN, normalize
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, TextGroup

_ANNOUNCES = re.compile(
    r"(?:答え|正解|解答|回答)は(?P<ja>[^。]+)"
    r"|\b(?:the|my) (?:(?:correct|right|final|best) )?answer (?:is|must be|would be|will be)(?P<en>[^.\n]+)"
    r"|(?:正确)?答案(?:就|应该|应|便)?(?:是|为)(?P<zh>[^。]+)",
    re.IGNORECASE,
)
_RESTATES = re.compile(
    r"(?:質問|問い|設問|問題)(?:文)?(?:で)?は[^。]*(?:尋ね|聞い|聞かれ|問うて|問われ|求め)"
    r"|\bthe question (?:asks|is asking|wants|is about)\b"
    r"|(?:题目|问题|本题)(?:问的?是|要求|是在问|询问)",
    re.IGNORECASE,
)
_POLITE = re.compile(r"(?:です|である|だ)$")
_TALK = re.compile(
    r"この(?:質問|問い)|最初の質問|(?:質問|問い|問題)の内容|質問|問い|正しい|答え|回答|よく読|考え|書きまし|選びまし|比べて|深い|深く"
    r"|这个|问题|题目|答案|正确|仔细|认真|思考|回答|更深|深入"
)
_TALK_WORD = re.compile(
    r"quest|answe|corre|right|thoug|caref|based|knowl|gave$|given?$|think|read$|deep|goes$|go$|furth|first|asks?$|asked|previ"
    r"|under|follo|good$|bette|impor"
)
"""beginnings of the words in which one talks about questions and answers"""
_STOP = re.compile(
    r"the|an?|of|to|in|on|at|by|for|with|from|and|or|but|so|is|are|was|were|be|been|its?|this|that|these|those|which|what|who"
    r"|when|where|why|how|i|we|you|they|s?he|t?here|as|than|then|into|about|do|does|did|not?|can|could|would|should|ha[sd]|have"
    r"|my|our|your|their|his|her|very|also|only|just|me|us"
)
_CONTENT = re.compile(rf"[{HAN}\u30a1-\u30fa]|[A-Za-z0-9]")
"""a letter that carries meaning; what is left of talk alone is hiragana"""
_LEAST_NEW = 0.2
"""share of a Reasoning that must be new against the question and the answer"""
_SAME = 0.9


def check_reasoning(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Check each Reasoning against its question, its answer and the Reasoning it replaced."""
    findings: list[Finding] = []
    for located in groups:
        group = located.group
        for language, text in group.texts().items():
            if not text.reasoning:
                continue
            field = TextField(located=located, language=language, name="reasoning", text=text.reasoning)
            if isinstance(group, TextGroup):
                whole = group.texts()[language]
                answers = group.category is not Category.QUESTION_TO_QUESTION
                issues = uninformative_issues(whole.reasoning, whole.instruction, whole.output, answers=answers)
                findings += to_findings("reasoning", field, issues)
            original = group.original.get(language)
            if original and original.reasoning:
                findings += to_findings("reasoning", field, not_improved_issues(original.reasoning, text.reasoning))
    return findings


def uninformative_issues(reasoning: str, instruction: str, output: str, *, answers: bool = True) -> Iterator[Issue]:
    """Yield what makes a Reasoning empty talk.

    Args:
        answers: whether the output is an answer; a question_to_question's Reasoning may speak of the answer given.
    """
    # 'the answer is in the table' announces nothing: what is announced must be the output, whole or by half
    answer, plain_answer = set(content_pieces(output)), _POLITE.sub("", normalize(output))
    for found in _ANNOUNCES.finditer(reasoning) if answers else ():
        pieces = content_pieces(next(part for part in found.groups() if part))
        shared = sum(piece in answer for piece in pieces)
        if plain_answer in normalize(found.group()) or (pieces and shared >= 0.5 * len(pieces)):
            clause = truncate(found.group())
            yield Issue.warning(f"'{clause}' announces the answer", "the answer comes below; stop before it")
            return
    if restated := _RESTATES.search(reasoning):
        yield Issue.warning(f"'{truncate(restated.group())}' restates the question", "begin with the deciding fact")
    elif novelty(reasoning, instruction, output) < _LEAST_NEW:
        yield Issue.warning(
            f"'{truncate(reasoning)}' says only what the question and the answer say",
            "name the fact, rule or passage that decides",
        )


def not_improved_issues(earlier: str, improved: str) -> Iterator[Issue]:
    """Yield what shows that a Reasoning does not improve on the earlier one."""
    if normalize(earlier) == normalize(improved) or dice_overlap(earlier, improved) >= _SAME:
        yield Issue.warning(
            f"'{truncate(earlier)}' is kept as the earlier Reasoning, but says the same",
            "improve it, or drop `original`",
        )
    elif len(normalize(earlier)) >= len(normalize(improved)):
        yield Issue.warning(
            f"'{truncate(earlier)}' is longer than the improved Reasoning",
            "swap the two if they were mixed up; else improve it: decompose, check, rule out the near miss",
        )


def content_pieces(text: str) -> list[str]:
    """Split a text into comparable content: letter bigrams in Japanese and Chinese, word stems in English."""
    words = normalize(text)
    if CJK_LETTER.search(words):
        return [words[at : at + 2] for at in range(len(words) - 1)]
    return [word[:5] for word in words.split() if not _STOP.fullmatch(word)]


def dice_overlap(one: str, other: str) -> float:
    """Return Dice's coefficient of the content of two texts: 1 where they use the same words."""
    left, right = set(content_pieces(one)), set(content_pieces(other))
    return 2 * len(left & right) / (len(left) + len(right)) if left and right else 0.0


def novelty(reasoning: str, *known: str) -> float:
    """Return the share of a Reasoning's content that no known text has, without talk about questions and answers."""
    rest = _TALK.sub("", reasoning)
    if CJK_LETTER.search(reasoning) and not _CONTENT.search(rest):
        return 0.0
    pieces = content_pieces(rest)
    if not CJK_LETTER.search(reasoning):
        pieces = [piece for piece in pieces if not _TALK_WORD.match(piece)]
    seen = {piece for text in known for piece in content_pieces(text)}
    return sum(piece not in seen for piece in pieces) / len(pieces) if pieces else 0.0
