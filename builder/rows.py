"""Turn groups into dataset rows, derive translation rows, and assign splits.

The group ``open_qa-0001`` with Japanese and English gives the rows ``open_qa-0001-ja``, ``open_qa-0001-en`` and a
derived translation of its question, ``open_qa-0001-ja2en`` or ``open_qa-0001-en2ja``. A group of translations gives a
row for each direction.

Everything is decided by hashes of ids, so the same records give the same rows, and a new record changes no other one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from bonsai.builder.answer_language import answer_language
from bonsai.builder.assets import load_table
from bonsai.builder.prompt import format_instruction
from bonsai.builder.schema import TRANSLATION_DIRECTIONS, Category, Language, TextGroup, TranslationGroup

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TEST_SHARE = 0.10
VALIDATION_SHARE = 0.10

DERIVED = "derived from"
"""How the ``source`` of a derived row begins."""
DERIVED_FROM: dict[Category, str] = {
    Category.OPEN_QA: "instruction",
    Category.CLOSED_QA: "instruction",
    Category.QUESTION_TO_QUESTION: "output",
}
"""Which field is translated, by category: the question, which says the same in both languages, sentence for sentence.
Answers do not."""

TRANSLATION_INSTRUCTIONS = load_table(__package__, "translation_instructions.toml")
"""Wordings by direction and by the language of the person who asks."""


class Row(TypedDict):
    """One row: the columns of every config but ``messages`` and ``probes``."""

    id: str
    group_id: str
    category: str
    language: str
    """Of the output; for a translation the target. The id names the language of the question."""
    source_language: str | None
    """Of the text to be translated; null elsewhere."""
    topic: str
    history: list[list[str]]
    """Earlier turns as [instruction, response], in LLaMA-Factory's spelling; mostly empty."""
    instruction: str
    input: str
    reasoning: str
    reasoning_original: str | None
    """The earlier Reasoning, where it has been improved since; null elsewhere."""
    input_original: str | None
    output: str
    chain: str | None
    step: int | None
    skills: list[str]
    source: str
    license: str
    generator: str


def assign_split(group: TextGroup | TranslationGroup) -> Split:
    """Assign a split by the category and the id of a group or of its chain.

    Parallel texts and the steps of one chain share a hash, so they never straddle a split. The category is part of it,
    so that each category is cut by itself.
    """
    chain = group.chain.id if isinstance(group, TextGroup) and group.chain else group.id
    digest = hashlib.sha256(f"bonsai/{group.category}/{chain}".encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    if fraction < TEST_SHARE:
        return "test"
    return "validation" if fraction < TEST_SHARE + VALIDATION_SHARE else "train"


def group_to_rows(group: TextGroup | TranslationGroup) -> Iterator[Row]:
    """Yield the rows of a group in the order ja, en, zh, derived (translations: in the order of their directions)."""
    # 1. A translation group: one row for each direction.
    if isinstance(group, TranslationGroup):
        translations = group.texts()
        for source, target in TRANSLATION_DIRECTIONS:
            if source in translations and target in translations:
                earlier = group.original.get(target)
                yield _translation_row(
                    group,
                    source,
                    target,
                    text=translations[source].text,
                    translated=translations[target].text,
                    reasoning=translations[target].reasoning,
                    reasoning_original=earlier.reasoning if earlier else None,
                    skills=group.skills,
                    origin=group.source,
                )
        return

    # 2. Any other group: one row for each language.
    texts = group.texts()
    for language, text in texts.items():
        earlier = group.original.get(language)
        yield Row(
            id=f"{group.id}-{language}",
            group_id=group.id,
            category=group.category.value,
            language=answer_language(text.output, language).value,
            source_language=None,
            topic=group.topic,
            history=[[format_instruction(turn.instruction, turn.input), turn.output] for turn in text.history],
            instruction=text.instruction,
            input=text.input,
            reasoning=text.reasoning,
            reasoning_original=earlier.reasoning if earlier else None,
            input_original=earlier.input if earlier else None,
            output=text.output,
            chain=group.chain.id if group.chain else None,
            step=group.chain.step if group.chain else None,
            skills=list(group.skills),
            source=group.source,
            license=group.license,
            generator=group.generator,
        )

    # 3. And a derived translation of its question, in one direction. Nobody wrote a Reasoning for it.
    derived = derived_translation(group)
    if derived is not None:
        source, target, field = derived
        yield _translation_row(
            group,
            source,
            target,
            text=getattr(texts[source], field),
            translated=getattr(texts[target], field),
            origin=f"{DERIVED} {group.id}",
        )


def derived_translation(group: TextGroup) -> tuple[Language, Language, str] | None:
    """Return source language, target language and field of the row derived from a group; None if there is none.

    Groups about language itself (names in katakana, translate-then-answer) ask different things in each language, and
    a question that refers to earlier turns is none without them, so nothing is derived from either.
    """
    field = DERIVED_FROM.get(group.category)
    if field is None or group.skills or group.ja.history:
        return None
    towards_english = hashlib.sha256(f"derived/{group.id}".encode()).digest()[0] % 2 == 0
    source, target = (Language.JA, Language.EN) if towards_english else (Language.EN, Language.JA)
    return source, target, field


def pick_translation_instruction(row_id: str, source: Language, target: Language) -> str:
    """Pick the wording of the instruction by the id of the row: the asker's language, then one of its wordings."""
    number = int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8], "big")
    by_asker = TRANSLATION_INSTRUCTIONS[f"{source}-{target}"]
    wordings = by_asker[(source, target)[number % 2]]
    return str(wordings[number // 2 % len(wordings)])


def _translation_row(
    group: TextGroup | TranslationGroup,
    source: Language,
    target: Language,
    *,
    text: str,
    translated: str,
    origin: str,
    reasoning: str = "",
    reasoning_original: str | None = None,
    skills: Sequence[str] = (),
) -> Row:
    row_id = f"{group.id}-{source}2{target}"
    return Row(
        id=row_id,
        group_id=group.id,
        category=Category.TRANSLATION.value,
        language=target.value,
        source_language=source.value,
        topic=group.topic,
        history=[],
        instruction=pick_translation_instruction(row_id, source, target),
        input=text,
        reasoning=reasoning,
        reasoning_original=reasoning_original,
        input_original=None,
        output=translated,
        chain=None,
        step=None,
        skills=list(skills),
        source=origin,
        license=group.license,
        generator=group.generator,
    )
