"""Define the records: groups in two or three languages, with the constraints of their category.

A *group* is one question and its answer in two or three languages. It is what a person edits, one JSON object per line
in ``records/<category>.jsonl``:

    {"id": "open_qa-0001", "category": "open_qa", "topic": "geography",
     "ja": {"instruction": "…", "input": "", "reasoning": "…", "output": "…"}, "en": {…},
     "source": "authored", "license": "MIT", "generator": "a person"}

A text may begin with the turns before its question, ``"history": [{"instruction": "…", "output": "…"}]``.

A *row* is what a dataset user sees: one language of a group, or one direction of a translation group
(`bonsai.builder.rows`). The fields instruction, input and output are Alpaca's; category and reasoning are our addition.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Category(enum.StrEnum):
    """The seven categories, in the order of the guideline (post of 2024-04-10)."""

    OPEN_QA = "open_qa"
    CLOSED_QA = "closed_qa"
    CLASSIFICATION = "classification"
    BRAINSTORMING = "brainstorming"
    CREATIVE = "creative"
    TRANSLATION = "translation"
    QUESTION_TO_QUESTION = "question_to_question"


class Language(enum.StrEnum):
    """ISO 639-1; Chinese is written in simplified characters."""

    JA = "ja"
    EN = "en"
    ZH = "zh"


CATEGORIES: tuple[str, ...] = tuple(category.value for category in Category)
LANGUAGES: tuple[str, ...] = tuple(language.value for language in Language)

SINGLE_ANSWER = frozenset({Category.OPEN_QA, Category.CLOSED_QA, Category.CLASSIFICATION, Category.TRANSLATION})
"""Categories with one (most probable) answer: only there can two answers contradict each other."""

ANSWER_IN_INPUT = frozenset({Category.CLOSED_QA, Category.CLASSIFICATION, Category.QUESTION_TO_QUESTION})
"""Categories whose answer comes from the ``input``: an empty one is a fault."""

REASONING_REQUIRED = SINGLE_ANSWER | {Category.QUESTION_TO_QUESTION}

TRANSLATION_DIRECTIONS: tuple[tuple[Language, Language], ...] = (
    (Language.JA, Language.EN),
    (Language.EN, Language.JA),
    (Language.JA, Language.ZH),
    (Language.ZH, Language.JA),
)
"""Source and target; without English-Chinese, because the Reasoning of a translation explains the Japanese side."""

ID_PATTERN = r"(?P<category>[a-z_]+)-(?P<number>\d{4}|[1-9]\d{4,})"
"""Four digits; past 9,999 as many as it takes."""

Filled = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


MOST_EARLIER_TURNS = 2


class Turn(_Strict):
    """An earlier turn of the conversation: what was asked, and what was answered, without Reasoning."""

    instruction: Filled
    input: str = ""
    output: Filled


class Text(_Strict):
    """One language of a group that is not a translation."""

    history: Annotated[tuple[Turn, ...], Field(max_length=MOST_EARLIER_TURNS)] = ()
    """at most two earlier turns, the earliest first"""
    instruction: Filled
    input: str = ""
    reasoning: str = ""
    output: Filled


class TranslationText(_Strict):
    """One language of a translation group; ``reasoning`` is shown when this language is the target."""

    text: Filled
    reasoning: Filled


class Original(_Strict):
    """The text of a record before an edit: the earlier Reasoning, the earlier input, or both."""

    reasoning: str | None = None
    input: str | None = None

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.reasoning is None and self.input is None:
            raise ValueError("'original' keeps nothing; give it 'reasoning' or 'input', or remove it")
        return self


class Chain(_Strict):
    """Position of a question_to_question group in its chain: the output of step n is the question in step n + 1."""

    id: Filled
    step: Annotated[int, Field(ge=1)]


FaultKind = Literal["fact", "reasoning", "demand", "agreement", "language", "punctuation", "other"]
"""What a reader may find: something untrue; working that does not lead to the answer; a demand of the instruction not
met; languages that disagree; unnatural or wrong language; typing, punctuation and spelling."""


class Signature(_Strict):
    """A reader's signature below one language of a group; `bonsai.builder.signatures` says whether it still holds."""

    language: Language
    reader: Filled
    kind: Literal["person", "model"]
    """what the reader is"""
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    verdict: Literal["fine", "fault"]
    fault: FaultKind | None = None
    words: str = ""
    """what is wrong, and how it could be mended"""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    """of the text that was read, the first 16 digits"""

    @model_validator(mode="after")
    def _check_fault(self) -> Self:
        if (self.verdict == "fault") != (self.fault is not None):
            raise ValueError("a reading has a 'fault' if its verdict is fault, and only then")
        return self


Skill = Literal["katakana_names", "translate_then_answer"]


class _Group(_Strict):
    """The fields that all groups have, whatever their category."""

    id: Annotated[str, StringConstraints(pattern=rf"^{ID_PATTERN}$")]
    topic: Filled
    original: dict[Language, Original] = Field(default_factory=dict)
    skills: tuple[Skill, ...] = ()
    source: Filled
    # Records written before version 0.2.0 say "licence".
    license: Filled = Field(validation_alias=AliasChoices("license", "licence"))
    generator: Filled
    read: tuple[Signature, ...] = ()

    category: Category

    @model_validator(mode="after")
    def _check_id(self) -> Self:
        if self.id.rsplit("-", 1)[0] != self.category.value:
            raise ValueError(f"the id must begin with its category: write '{self.category.value}-' and four digits")
        return self

    @model_validator(mode="after")
    def _check_originals(self) -> Self:
        for language in self.original:
            if getattr(self, language.value) is None:
                raise ValueError(
                    f"'original.{language.value}' keeps an earlier text, but the group has no '{language.value}'"
                )
        return self

    @model_validator(mode="after")
    def _check_readings(self) -> Self:
        signed = set()
        for reading in self.read:
            if getattr(self, reading.language.value) is None:
                raise ValueError(f"'read' has a reading of {reading.language.value}, which the group does not have")
            if (key := (reading.language, reading.reader)) in signed:
                raise ValueError(
                    f"'read' has two readings of {reading.language.value} by {reading.reader}; keep the later"
                )
            signed.add(key)
        return self


class TextGroup(_Group):
    """A group of one of the six categories that are not translation."""

    category: Literal[
        Category.OPEN_QA,
        Category.CLOSED_QA,
        Category.CLASSIFICATION,
        Category.BRAINSTORMING,
        Category.CREATIVE,
        Category.QUESTION_TO_QUESTION,
    ]
    ja: Text
    en: Text
    zh: Text | None = None
    chain: Chain | None = None

    @model_validator(mode="after")
    def _check_category(self) -> Self:
        for language, text in self.texts().items():
            if self.category in ANSWER_IN_INPUT and not text.input.strip():
                raise ValueError(
                    f"'{language.value}.input' is empty, but the answer of {self.category.value} comes from it"
                )
            if self.category in REASONING_REQUIRED and not text.reasoning.strip():
                raise ValueError(f"'{language.value}.reasoning' is empty; {self.category.value} needs it")
        turns = {language.value: len(text.history) for language, text in self.texts().items()}
        if len(set(turns.values())) > 1:
            counted = ", ".join(f"{language} has {number}" for language, number in turns.items())
            raise ValueError(f"'history' differs in length: {counted}; write each earlier turn in every language")
        if (self.chain is not None) != (self.category is Category.QUESTION_TO_QUESTION):
            raise ValueError("'chain' belongs to question_to_question, and each of its groups has one")
        return self

    def texts(self) -> dict[Language, Text]:
        """Return the texts by language, in the order ja, en, zh."""
        found = {Language.JA: self.ja, Language.EN: self.en}
        return found if self.zh is None else found | {Language.ZH: self.zh}


class TranslationGroup(_Group):
    """A group of texts that translate each other; it has a row for each direction."""

    category: Literal[Category.TRANSLATION]
    ja: TranslationText
    en: TranslationText
    zh: TranslationText | None = None

    def texts(self) -> dict[Language, TranslationText]:
        """Return the texts by language, in the order ja, en, zh."""
        found = {Language.JA: self.ja, Language.EN: self.en}
        return found if self.zh is None else found | {Language.ZH: self.zh}


Group = Annotated[TextGroup | TranslationGroup, Field(discriminator="category")]
