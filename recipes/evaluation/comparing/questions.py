"""What every model is asked: a list that came with this installation, or a file of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bonsai.builder.probes import default_probes, read_probes
from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.inference.asking.limits import text_of
from bonsai.recipes.inference.asking.question_file import questions_in
from bonsai.recipes.inference.asking.tongue import tongue_of
from bonsai.recipes.inference.conversation import Question

POST_LISTS = ("post-ja", "post-en")
"""The five questions of the post of 2023-08-25, and a translation.

The post cuts two of them off: the third lost its last three letters, and the fifth ends after 際の, where its headings
(生態系への被害, 生態系への影響) tell what is meant.
"""
PROBE_LISTS: dict[str, Language | None] = {
    "probes": None,
    **{f"probes-{language.value}": language for language in Language},
}
"""all probes, and those asked and answered in one language"""
LISTS = (*POST_LISTS, *PROBE_LISTS)

PERSONAS = {
    Language.JA: "あなたは良心的な科学者です。",
    Language.EN: "You are a conscientious scientist.",
    Language.ZH: "你是一位有良知的科学家。",
}
"""the persona of the post, and its translations"""


class Listed(BaseModel):
    """A question of a list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    group: str
    """the list, or of a probe its kind"""
    question: Question
    accepted: tuple[str, ...] = ()
    """short variants, any of which makes the answer right; empty where there is no "the answer" """


def read_questions(names: Sequence[str]) -> list[Listed]:
    """The questions of several lists, one after the other.

    Args:
        names: names of `LISTS`, or files as `bonsai.recipes.inference.asking.question_file.questions_in` reads them.

    Raises:
        EvaluationError: there is no such list or file, or two bring the same id.
        AskingError: a file is no text, or a line of it is no question.
    """
    questions = [question for name in names for question in _read(name)]
    often = Counter(question.id for question in questions)
    if twice := [name for name, count in often.items() if count > 1]:
        raise EvaluationError(
            f"{', '.join(names)}: {len(twice)} questions are there twice, {twice[0]} for one; give each list once, "
            "and files names of their own"
        )
    return questions


def with_persona(questions: Sequence[Listed], persona: str | None) -> list[Listed]:
    """The questions behind a persona, where they bring none of their own.

    Args:
        persona: None: the post's, in the language of the answer; empty: none.
    """
    found = []
    for one in questions:
        system = PERSONAS[tongue_of(one.question).language] if persona is None else persona
        asked = one.question.model_copy(update={"system": one.question.system or system})
        found.append(one.model_copy(update={"question": asked}))
    return found


def _read(name: str) -> list[Listed]:
    if name in PROBE_LISTS:
        return _probes(PROBE_LISTS[name])
    if name in POST_LISTS:
        file = files(__package__).joinpath("lists").joinpath(f"{name}.jsonl")
        return _numbered(file.read_text(encoding="utf-8"), file.name, name)
    path = Path(name)
    if not path.is_file():
        raise EvaluationError(f"{name} is neither a file nor a list; the lists are {', '.join(LISTS)}")
    return _numbered(text_of(path.read_bytes(), name), name, path.stem)


def _numbered(text: str, file: str, group: str) -> list[Listed]:
    questions = questions_in(text, file)
    return [
        Listed(id=f"{group}-{number}", group=group, question=question) for number, question in enumerate(questions, 1)
    ]


def _probes(language: Language | None) -> list[Listed]:
    return [
        Listed(
            id=probe.id,
            group=probe.kind,
            question=Question(instruction=probe.instruction, input=probe.input, language=probe.answer_language),
            accepted=probe.accepted,
        )
        for probe in read_probes(default_probes())
        if language is None or {probe.language, probe.answer_language} == {language}
    ]
