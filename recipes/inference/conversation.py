"""Define questions, answers and question chains as they are stored, and parse files of questions."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bonsai.builder.errors import AskingError, describe_first_fault
from bonsai.builder.records import default_probes, read_probes
from bonsai.builder.schema import Language


class StoredModel(BaseModel):
    """Base of what is stored as JSON: a file with other fields is another version's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalizedText(StoredModel):
    """A reason in English and Japanese; quotations in it keep their own language."""

    en: str
    ja: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """Accept the English sentence of records that are older than reasons in two languages."""
        return {"en": value, "ja": value} if isinstance(value, str) else value

    def text(self, language: str) -> str:
        """Return the Japanese for ``ja``, the English for any other language."""
        return self.ja if language == "ja" else self.en


class Question(StoredModel):
    """One question of a user."""

    instruction: str
    input: str = ""
    language: Language | None = None
    """of the answer; None: the question's own"""
    system: str = ""
    """a persona or other system text before the question"""


class Answer(StoredModel):
    """One answer and how it was made."""

    model: str
    language: Language
    reasoning: str
    """empty: the model gave none, not even when asked for it alone"""
    answer: str
    passes: Literal[1, 2]
    """2: the Reasoning was asked for alone, then put into the prompt"""
    second_pass_because: LocalizedText | None = None
    """why one pass was not enough, in a sentence; None if it was"""
    retried_because: LocalizedText | None = None
    """why the answer was asked for again, in a sentence; None if it was not"""
    loops: bool = False
    """whether the text still repeats itself"""
    stopped_by: Literal["eos", "stop_string", "length", "watch"]
    tokens: int
    """generated, all passes and retries together"""
    seconds: float


class Candidate(StoredModel):
    """A proposed next question."""

    question: str
    perspective: str
    """a key of the perspectives: why, evidence, exception …"""
    nearness: float
    """greatest cosine similarity to any earlier question or answer of the chain, -1 to 1"""
    theme: float
    """cosine similarity to the chain's theme, -1 to 1"""
    depth: float
    """how much more specific or fundamental it is than the questions before; larger is deeper"""
    refused_because: str | None = None
    """why it was rejected, in a sentence; None if it passed"""


class Step(StoredModel):
    """One question of a chain, its answer, and the candidates for the next question."""

    number: int
    """1 for the opening question"""
    question: str
    perspective: str | None = None
    """None for the opening question"""
    answer: Answer
    candidates: tuple[Candidate, ...] = ()
    """the chosen one first, if there is one"""


class QuestionChain(StoredModel):
    """A question and the deeper ones that followed from its answers."""

    id: str
    theme: str
    """the opening question"""
    language: Language
    depth: int
    """steps asked for"""
    steps: tuple[Step, ...] = ()
    ended_because: str | None = None
    """why there are fewer steps than asked for; None if there are not, or not yet"""

    @property
    def complete(self) -> bool:
        """Return whether no question is left to ask."""
        return self.ended_because is not None or len(self.steps) >= self.depth


def chosen_candidate(chain: QuestionChain, step: Step) -> Candidate | None:
    """Return the candidate that became the next step; None if none did."""
    following = next((later for later in chain.steps if later.number == step.number + 1), None)
    first = step.candidates[0] if step.candidates else None
    return first if first and following and first.question == following.question else None


def prepared(language: Language, persona: str = "") -> list[Question]:
    """Return the nine opening questions of the blog post of 2024-05-07, from the probes."""
    return [
        Question(instruction=probe.question, language=language, system=persona)
        for probe in read_probes(default_probes())
        if probe.kind == "qtq_opening" and probe.language is language
    ]


def load_questions(text: str, name: str, *, language: Language | None = None, system: str = "") -> list[Question]:
    """Parse a file of questions: each line is a plain question or a JSON object, empty lines are skipped.

    Example::

        Why is the sky blue?
        {"instruction": "Sum up.", "input": "A long text", "language": "en", "system": "You are a scientist."}

    Args:
        name: how messages call the file.
        language: of the answers, where a question does not set it itself.
        system: a persona, where a question does not set its own.

    Raises:
        AskingError: a line is not a question, or there is none at all.
    """
    questions: list[Question] = []
    defaults = {"language": language, "system": system}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        location = f"{name}:{number}"
        try:
            if line.startswith("{"):
                questions.append(Question.model_validate(defaults | json.loads(line)))
            elif line:
                questions.append(Question(instruction=line, language=language, system=system))
        except json.JSONDecodeError as error:
            raise AskingError(
                f"{location}: starts like JSON but is not ({error.msg}, column {error.colno}); correct it, or write "
                "plain text"
            ) from error
        except ValidationError as error:
            raise AskingError(
                f"{location}: {describe_first_fault(error)}; the fields are `instruction`, `input`, `language`, "
                "`system`"
            ) from error
    if not questions:
        raise AskingError(f"{name} has no question; write one a line. 質問がありません。")
    return questions
