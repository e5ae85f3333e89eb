"""Define the perspectives a next question is asked from, and build the request for it.

Asked for just "the next question", a model repeats the last one; a perspective and the last steps lead it deeper (as in
STORM, Shao et al. 2024, arXiv:2402.14207). The wording is that of the question_to_question records which the adapters
were trained on: an instruction, with question, reasoning and answer as its input.

Example of a request, from the perspective "why"::

    Pick one claim in the answer and write just one question that asks why it is so.

    Theme: Why is the sky blue?
    Question: Why does air scatter blue light?
    Answer: Its molecules are smaller than the wavelength.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Question, QuestionChain, Step
from bonsai.recipes.inference.summary import split_sentences


@dataclass(frozen=True, kw_only=True)
class Perspective:
    """One way to ask a further question."""

    key: str
    wording: Mapping[Language, str]
    """the instruction to write one question"""
    opening: Mapping[Language, str]
    """first words of such a question, for models that do not ask one by themselves"""


def _perspective(key: str, ja: tuple[str, str], en: tuple[str, str], zh: tuple[str, str]) -> Perspective:
    texts = dict(zip((Language.JA, Language.EN, Language.ZH), (ja, en, zh), strict=True))
    return Perspective(
        key=key,
        wording={language: wording for language, (wording, _) in texts.items()},
        opening={language: opening for language, (_, opening) in texts.items()},
    )


PERSPECTIVES = (
    _perspective(
        "why",
        ("答えの中の主張を一つ選び、それがなぜそうなるのかを尋ねる質問を一つだけ書いてください。", "なぜ"),
        ("Pick one claim in the answer and write just one question that asks why it is so.", "Why"),
        ("请从回答中选一个说法，只写一个追问它为什么成立的问题。", "为什么"),
    ),
    _perspective(
        "evidence",
        (
            "答えの中の主張を一つ選び、どんな証拠があれば信じられるかを尋ねる質問を一つだけ書いてください。",
            "どのような証拠があれば",
        ),
        (
            "Pick one claim in the answer and write just one question that asks what evidence proves it.",
            "What evidence",
        ),
        ("请从回答中选一个说法，只写一个追问什么证据能证明它的问题。", "有什么证据"),
    ),
    _perspective(
        "exception",
        ("この答えが当てはまらない場合を探す質問を一つだけ書いてください。", "どのような場合に"),
        (
            "Look for a case this answer might not fit and write just one question about it.",
            "In which cases would it not be true that",
        ),
        ("请寻找这个回答可能不适用的情形，只写一个问题。", "在什么情况下"),
    ),
    _perspective(
        "affected",
        (
            "この答えのとおりだとすると、誰が得をし、誰が損をするのか。それを尋ねる質問を一つだけ書いてください。",
            "誰が",
        ),
        ("Look at the people this answer affects and write just one question about who gains or who loses.", "Who"),
        ("请着眼于这个回答所影响的人，只写一个追问谁得利、谁受损的问题。", "谁"),
    ),
    _perspective(
        "change",
        ("何が変われば答えも変わるか。その条件を尋ねる質問を一つだけ書いてください。", "何が変われば"),
        (
            "Write just one question that asks what would have to change for this answer to change.",
            "What would have to change",
        ),
        ("请只写一个问题，追问什么条件改变了，这个回答也会随之改变。", "什么条件改变"),
    ),
    _perspective(
        "measure",
        (
            "答えの言うことをどうすれば測れるか、確かめられるか。それを尋ねる質問を一つだけ書いてください。",
            "どうすれば",
        ),
        (
            "Write just one question that asks how what the answer says could be measured or checked.",
            "How could one measure",
        ),
        ("请只写一个问题，追问回答所说的事怎样才能测量或验证。", "怎样才能测量"),
    ),
    _perspective(
        "history",
        ("昔はどうだったのか、いつから今のようになったのか。それを尋ねる質問を一つだけ書いてください。", "昔は"),
        ("Look at how things came to be as the answer says and write just one question about the past.", "How did"),
        ("请着眼于事情怎样变成回答所说的样子，只写一个关于过去的问题。", "过去"),
    ),
    _perspective(
        "opposite",
        ("答えと反対の立場に立ち、答えを揺さぶる質問を一つだけ書いてください。", "もし"),
        (
            "Take the opposite side and write just one question that shakes what the answer takes for granted.",
            "What if",
        ),
        ("请站到相反的立场，只写一个能动摇这个回答的问题。", "如果"),
    ),
)

PLAIN = _perspective(
    "plain",
    ("次の質問を書いてください。", ""),
    ("Ask the next question.", ""),
    ("请提出下一个问题。", ""),
)
"""the naive request: the baseline that the perspectives are measured against"""


class _Labels(NamedTuple):
    theme: str
    asked: str
    question: str
    reasoning: str
    answer: str


_LABELS = {
    Language.JA: _Labels("テーマ：", "前の質問：", "質問：", "理由：", "答え："),
    Language.EN: _Labels("Theme: ", "Earlier question: ", "Question: ", "Reasoning: ", "Answer: "),
    Language.ZH: _Labels("主题：", "之前的问题：", "问题：", "理由：", "回答："),
}
EARLIER = 2
"""questions before the last that are repeated"""
_CONTROL_CHARS = re.compile("[\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ud800-\\udfff\\ufffd]")
LONGEST = {Language.JA: 200, Language.EN: 500, Language.ZH: 160}
"""characters of a question, a reasoning or an answer that are repeated, in whole sentences"""


def next_question_request(chain: QuestionChain, perspective: Perspective, *, system: str = "") -> Question:
    """Build the request for the question after the chain's last step.

    Args:
        system: the persona that the answers have too.
    """
    language, labels = chain.language, _LABELS[chain.language]
    *before, last = chain.steps
    lines = [f"{labels.theme}{_shorten(chain.theme, language)}"] if before else []
    lines += [f"{labels.asked}{step.question}" for step in before[-EARLIER:] if step.question != chain.theme]
    history = "\n".join([*lines, format_step(last, language)])
    return Question(instruction=perspective.wording[language], input=history, language=language, system=system)


def format_step(step: Step, language: Language) -> str:
    """Format question, reasoning and answer as in the records; what is missing is left out."""
    labels = _LABELS[language]
    texts = (step.question, step.answer.reasoning, step.answer.answer)
    question, reasoning, answer = (_shorten(text, language) for text in texts)
    lines = [f"{labels.question}{question}"]
    lines += [f"{labels.reasoning}{reasoning}"] if reasoning else []
    lines += [f"{labels.answer}{answer}"] if answer else []
    return "\n".join(lines)


def strip_control_chars(text: str) -> str:
    """Remove control characters and lone surrogates: models may generate them, but no question may contain them."""
    return _CONTROL_CHARS.sub("", text)


def _shorten(text: str, language: Language) -> str:
    """Keep whole sentences from the beginning as far as they fit, the first in any case."""
    short = ""
    for sentence in split_sentences(strip_control_chars(text)):
        joined = f"{short} {sentence}" if short and language is Language.EN else short + sentence
        if short and len(joined) > LONGEST[language]:
            break
        short = joined[: LONGEST[language]]
    return short
