"""What is asked, what is answered, how one question led to the next: the records that every front shows and keeps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from bonsai.builder.schema import Language


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Because(_Record):
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


class Question(_Record):
    """One question as a person puts it."""

    instruction: str
    input: str = ""
    language: Language | None = None
    """of the answer; None: that of the question"""
    system: str = ""
    """a persona or other system text before the question; empty: none"""


class Answer(_Record):
    """One answer and how it came about."""

    model: str
    language: Language
    reasoning: str
    """empty: the model gave none, even when asked for it alone"""
    answer: str
    passes: Literal[1, 2]
    """2: the Reasoning was asked for alone, then put into the prompt"""
    second_pass_because: Because | None = None
    """why one pass was not enough, in a sentence; None: it was"""
    retried_because: Because | None = None
    """why the first text was thrown away, in a sentence: it ran in a loop; None: it was not"""
    loops: bool = False
    """whether what is kept still says the same again and again"""
    stopped_by: Literal["eos", "stop_string", "length", "watch"]
    tokens: int
    """generated, all passes and retries together"""
    seconds: float


class Candidate(_Record):
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


class Step(_Record):
    """One question of a chain, its answer, and what was considered to come next."""

    number: int
    """1 for the opening question"""
    question: str
    perspective: str | None = None
    """None for the opening question"""
    answer: Answer
    candidates: tuple[Candidate, ...] = ()
    """for the next step, the chosen one first if there is one"""


class Chain(_Record):
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
