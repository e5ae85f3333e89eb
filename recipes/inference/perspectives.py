"""From where the next question is asked, and how a model is asked for it.

Asked plainly for "the next question", a model says the last one again; a perspective and the last turns deepen (STORM,
Shao et al. 2024, arXiv:2402.14207, asks from perspectives too). The wording is that of question_to_question's records,
which the adapters learnt: an instruction, and question, Reasoning and answer as its input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import Question, QuestionChain, Step
from bonsai.recipes.inference.summary import split_sentences


@dataclass(frozen=True, kw_only=True)
class Perspective:
    """One way of asking on."""

    key: str
    wording: Mapping[Language, str]
    """the instruction that yields one question"""
    opening: Mapping[Language, str]
    """first words of such a question, for a model that would not ask one by itself"""


def _perspective(key: str, ja: tuple[str, str], en: tuple[str, str], zh: tuple[str, str]) -> Perspective:
    told = dict(zip((Language.JA, Language.EN, Language.ZH), (ja, en, zh), strict=True))
    return Perspective(
        key=key,
        wording={language: wording for language, (wording, _) in told.items()},
        opening={language: opening for language, (_, opening) in told.items()},
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
"""what one would write without a thought: the baseline that the perspectives are measured against"""


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
"""questions before the last that are told again"""
_UNREADABLE = re.compile("[\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ud800-\\udfff\\ufffd]")
LONGEST = {Language.JA: 200, Language.EN: 500, Language.ZH: 160}
"""characters of a question, a Reasoning or an answer that are told again; whole sentences"""


def next_question_request(chain: QuestionChain, perspective: Perspective, *, system: str = "") -> Question:
    """The request for the question that comes after the chain's last step.

    Args:
        system: the persona that the answers have, too.
    """
    return Question(
        instruction=perspective.wording[chain.language],
        input=_so_far(chain.theme, chain.steps, chain.language),
        language=chain.language,
        system=system,
    )


def format_step(step: Step, language: Language) -> str:
    """Question, Reasoning and answer as in the records; what is missing is left out."""
    labels = _LABELS[language]
    told = (step.question, step.answer.reasoning, step.answer.answer)
    question, reasoning, answer = (_shortened(text, language) for text in told)
    lines = [f"{labels.question}{question}"]
    lines += [f"{labels.reasoning}{reasoning}"] if reasoning else []
    lines += [f"{labels.answer}{answer}"] if answer else []
    return "\n".join(lines)


def strip_control_chars(text: str) -> str:
    """Without what no text has, which a model may say all the same and nobody may be asked."""
    return _UNREADABLE.sub("", text)


def _so_far(theme: str, steps: Sequence[Step], language: Language) -> str:
    labels = _LABELS[language]
    *before, last = steps
    lines = [f"{labels.theme}{_shortened(theme, language)}"] if before else []
    lines += [f"{labels.asked}{step.question}" for step in before[-EARLIER:] if step.question != theme]
    return "\n".join([*lines, format_step(last, language)])


def _shortened(text: str, language: Language) -> str:
    """Whole sentences from the beginning as far as they fit, the first in any case."""
    kept = ""
    for sentence in split_sentences(strip_control_chars(text)):
        joined = f"{kept} {sentence}" if kept and language is Language.EN else kept + sentence
        if kept and len(joined) > LONGEST[language]:
            break
        kept = joined[: LONGEST[language]]
    return kept
