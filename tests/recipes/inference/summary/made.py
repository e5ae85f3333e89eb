"""Chains as a good model would have left them: one of the dataset's, with candidates as qtq considers them."""

from __future__ import annotations

from typing import Any

from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import Language, TextGroup
from bonsai.recipes.inference.conversation import Answer, Candidate, QuestionChain, Step

PERSPECTIVES = ("measure", "exception", "why", "evidence", "history")
HEADINGS = {
    Language.JA: ("質問：", "\n理由：", "\n答え："),
    Language.EN: ("Question: ", "\nReasoning: ", "\nAnswer: "),
}
OPEN = {
    Language.JA: "測る人が替わらない現場では、この区別にどれほどの意味がありますか。",
    Language.EN: "How much does this distinction matter where one person does all the measuring?",
}
REFUSED = {
    Language.JA: "つまり、人によって値が違うのはなぜですか。",
    Language.EN: "So why do different people get different values?",
}


def answer(language: Language, reasoning: str, text: str, **changed: Any) -> Answer:
    made = Answer(
        model="qeu/bonsai-seedling",
        language=language,
        reasoning=reasoning,
        answer=text,
        passes=1,
        stopped_by="eos",
        tokens=84,
        seconds=2.5,
    )
    return made.model_copy(update=changed)


def candidate(question: str, perspective: str, refused: str | None = None) -> Candidate:
    return Candidate(
        question=question, perspective=perspective, nearness=0.41, theme=0.58, depth=0.22, refused_because=refused
    )


def gauge(language: Language, *, depth: int = 5, asked: int = 5) -> QuestionChain:
    """The dataset's chain about a micrometer, up to ``asked`` steps."""
    groups = [
        found.group
        for found in read_groups(default_records_dir())
        if isinstance(found.group, TextGroup) and found.group.chain and found.group.chain.id == "gauge"
    ]
    steps: list[Step] = []
    for number, group in enumerate(groups[:asked], 1):
        text = group.texts()[language]
        asks, because, answers = HEADINGS[language]
        question, rest = text.input.removeprefix(asks).split(because)
        reasoning, said = rest.split(answers)
        following = [candidate(text.output, PERSPECTIVES[number % 5])] if number < len(groups[:asked]) else []
        considered = [
            *following,
            candidate(f"{OPEN[language]}", "exception"),
            *(candidate(REFUSED[language], name, "it asks question 1 again") for name in PERSPECTIVES),
        ]
        steps.append(
            Step(
                number=number,
                question=question,
                perspective=None if number == 1 else PERSPECTIVES[(number - 1) % 5],
                answer=answer(language, reasoning, said),
                candidates=tuple(considered),
            )
        )
    return QuestionChain(
        id=f"gauge-{language.value}", theme=steps[0].question, language=language, depth=depth, steps=tuple(steps)
    )
