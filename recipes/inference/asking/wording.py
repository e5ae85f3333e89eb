"""What is put to a model: the prompt of the adapters, and what is added where that alone was not enough.

The markers are plain words, so a model that was never taught them reads them too, whether the prompt is continued or
put into a chat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bonsai.builder.messages import GAP, INSTRUCTION_MARKER, REASONING_MARKER, RESPONSE_MARKER, question_text
from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Question

IN_THIS_LANGUAGE: Mapping[Language, str] = {
    Language.JA: "日本語で答えてください。",
    Language.EN: "Answer in English.",
    Language.ZH: "请用中文回答。",
}

REASONING_ALONE: Mapping[Language, Sequence[str]] = {
    Language.JA: (
        "まだ答えないでください。答えを決める事実や理由だけを、一文から三文で書いてください。",
        "この質問に答えるには、まず何を知っている必要がありますか。短く説明してください。",
    ),
    Language.EN: (
        "Do not answer yet. In one to three sentences, give only the facts or reasons that decide the answer.",
        "What does one have to know first to answer this? Explain it briefly.",
    ),
    Language.ZH: (
        "先不要回答。请用一到三句话，只写出决定答案的事实或理由。",
        "要回答这个问题，首先需要知道什么？请简要说明。",
    ),
}
"""the second is for where the first got nothing"""


def one_pass(question: Question) -> str:
    """Reasoning and answer are to follow."""
    return f"{_asked(question)}{REASONING_MARKER}"


def for_reasoning(question: Question, language: Language, wording: int, *, in_language: Language | None = None) -> str:
    """The Reasoning alone is to follow; ``wording``: which of `REASONING_ALONE`."""
    below = f"{REASONING_ALONE[language][wording]}{GAP}"
    return f"{_asked(question, in_language)}{below}{REASONING_MARKER}"


def for_answer(question: Question, reasoning: str, *, in_language: Language | None = None) -> str:
    """The answer is to follow.

    Args:
        reasoning: empty: there is none.
        in_language: what to ask for in so many words; None: the question itself shows it.
    """
    known = f"{REASONING_MARKER}{reasoning}{GAP}" if reasoning else ""
    return f"{_asked(question, in_language)}{known}{RESPONSE_MARKER}"


def _asked(question: Question, in_language: Language | None = None) -> str:
    system = f"{question.system}{GAP}" if question.system else ""
    line = f"{IN_THIS_LANGUAGE[in_language]}\n" if in_language else ""
    return f"{system}{INSTRUCTION_MARKER}{line}{question_text(question.instruction, question.input)}{GAP}"
