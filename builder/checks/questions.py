"""The output of question_to_question: exactly one question, and not the first one again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bonsai.builder.checks.asked import earlier_question
from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.reasoning import overlap, plain
from bonsai.builder.checks.sentences import split_sentences
from bonsai.builder.checks.text_fields import Fault, shortened

_IS_QUESTION = re.compile(r"[?？]$|(?:か|でしょう|かな|吗|呢)[。.]?$")
_SAME = 0.9


def question_faults(input_text: str, output: str) -> Iterator[Fault]:
    """An output that asks nothing, asks twice, says more than its question, or asks what was asked."""
    sentences = split_sentences(output)
    asked = [sentence for sentence in sentences if _IS_QUESTION.search(sentence)]
    if not asked:
        yield _fault(f"'{shortened(output)}' asks nothing", "write one question")
    elif len(asked) > 1:
        yield _fault(f"{len(asked)} questions", "write one; the others may become steps of the chain")
    elif sentences[-1] is not asked[0]:
        yield _fault(
            f"'{shortened(sentences[-1])}' follows the question", "end with the question; the reason is the Reasoning"
        )
    first = earlier_question(input_text)
    if plain(first) == plain(output) or overlap(first, output) >= _SAME:
        yield _fault(f"'{shortened(output)}' was asked already", "ask what the answer leaves open")


def _fault(what: str, why: str) -> Fault:
    return Fault(Severity.WARNING, what, why)
