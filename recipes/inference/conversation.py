"""Questions, answers and question chains: what is asked, answered and stored; and reading questions from files."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bonsai.builder.errors import AskingError
from bonsai.builder.records import default_probes, read_probes
from bonsai.builder.schema import Language


class _ConversationModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalizedText(_ConversationModel):
    """A reason, told to readers of either language; what it quotes is in the language it was said in."""

    en: str
    ja: str

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, told: Any) -> Any:
        """Records kept before reasons had two languages hold an English sentence."""
        return {"en": told, "ja": told} if isinstance(told, str) else told

    def told(self, tongue: str) -> str:
        """In Japanese for ``ja``, in English for every other."""
        return self.ja if tongue == "ja" else self.en


class Question(_ConversationModel):
    """One question as a person puts it."""

    instruction: str
    input: str = ""
    language: Language | None = None
    """of the answer; None: that of the question"""
    system: str = ""
    """a persona or other system text before the question; empty: none"""


class Answer(_ConversationModel):
    """One answer and how it came about."""

    model: str
    language: Language
    reasoning: str
    """empty: the model gave none, even when asked for it alone"""
    answer: str
    passes: Literal[1, 2]
    """2: the Reasoning was asked for alone, then put into the prompt"""
    second_pass_because: LocalizedText | None = None
    """why one pass was not enough, in a sentence; None: it was"""
    retried_because: LocalizedText | None = None
    """why the first text was thrown away, in a sentence: it ran in a loop; None: it was not"""
    loops: bool = False
    """whether what is kept still says the same again and again"""
    stopped_by: Literal["eos", "stop_string", "length", "watch"]
    tokens: int
    """generated, all passes and retries together"""
    seconds: float


class Candidate(_ConversationModel):
    """A next question that was considered."""

    question: str
    perspective: str
    """a key of the perspectives: why, evidence, exception …"""
    nearness: float
    """greatest cosine similarity to any earlier question or answer of the chain, -1 to 1"""
    theme: float
    """cosine similarity to the chain's theme, -1 to 1"""
    depth: float
    """how much more specific or fundamental it is than what was asked before; larger is deeper"""
    refused_because: str | None = None
    """None: it passed"""


class Step(_ConversationModel):
    """One question of a chain, its answer, and what was considered to come next."""

    number: int
    """1 for the opening question"""
    question: str
    perspective: str | None = None
    """None for the opening question"""
    answer: Answer
    candidates: tuple[Candidate, ...] = ()
    """for the next step, the chosen one first if there is one"""


class QuestionChain(_ConversationModel):
    """A question that was led deeper."""

    id: str
    theme: str
    """the opening question"""
    language: Language
    depth: int
    """how many steps were asked for"""
    steps: tuple[Step, ...] = ()
    ended_because: str | None = None
    """why there are fewer steps than asked for; None: there are not, or it is still going on"""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to ask."""
        return self.ended_because is not None or len(self.steps) >= self.depth


def chosen_candidate(chain: QuestionChain, step: Step) -> Candidate | None:
    """The candidate that became the next step; None if none did."""
    following = next((later for later in chain.steps if later.number == step.number + 1), None)
    first = step.candidates[0] if step.candidates else None
    return first if first and following and first.question == following.question else None


def prepared(language: Language, persona: str = "") -> list[Question]:
    """The nine questions of the post of 2024-05-07, as the probes have them."""
    return [
        Question(instruction=probe.question, language=language, system=persona)
        for probe in read_probes(default_probes())
        if probe.kind == "qtq_opening" and probe.language is language
    ]


def load_questions(text: str, name: str, *, language: Language | None = None, system: str = "") -> list[Question]:
    """The questions, in their order; empty lines are left out.

    Args:
        name: what a reader knows the file by.
        language: of the answers, where a question does not say it itself.
        system: a persona, where a question does not bring its own.

    Raises:
        AskingError: naming the line; or there is no question at all.
    """
    questions = [
        _question(line.strip(), f"{name}:{number}", language, system)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    if not questions:
        raise AskingError(f"{name}: no question stands here; write one a line. 質問がありません。")
    return questions


def _question(line: str, place: str, language: Language | None, system: str) -> Question:
    if not line.startswith("{"):
        return Question(instruction=line, language=language, system=system)
    try:
        given = {"language": language, "system": system} | json.loads(line)
        return Question.model_validate(given)
    except json.JSONDecodeError as error:
        raise AskingError(
            f"{place}: begins as JSON and is none ({error.msg}, column {error.colno}); repair it, or write plain text"
        ) from error
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise AskingError(
            f"{place}: '{field}': {fault['msg']}; see `instruction`, `input`, `language`, `system`"
        ) from error
