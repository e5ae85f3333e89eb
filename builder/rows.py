"""Turn groups into dataset rows, derive translation rows, and assign splits.

A question is the part of a group that says the same in both languages, sentence for sentence; answers are not.
Groups that are about language itself (names in katakana, translate-then-answer) ask different things in each language
and are left out. Derived rows have no Reasoning: nobody wrote one.

The hash is of the group (of the whole chain for question_to_question), so parallel texts and the steps of one chain
never straddle a split. The category goes into the hash: each category is cut by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from bonsai.builder.schema import (
    TRANSLATION_DIRECTIONS,
    Category,
    Language,
    TextGroup,
    TranslationGroup,
    TranslationText,
)

DERIVED_FROM: dict[Category, str] = {
    Category.OPEN_QA: "instruction",
    Category.CLOSED_QA: "instruction",
    Category.QUESTION_TO_QUESTION: "output",
}
"""Which field is translated, by category."""


def derived_translation(group: TextGroup) -> tuple[Language, Language, str] | None:
    """Source language, target language and field of the row derived from a group; None: nothing is derived from it."""
    field = DERIVED_FROM.get(group.category)
    if field is None or group.skills:
        return None
    towards_english = hashlib.sha256(f"derived/{group.id}".encode()).digest()[0] % 2 == 0
    source, target = (Language.JA, Language.EN) if towards_english else (Language.EN, Language.JA)
    return source, target, field


TRANSLATION_INSTRUCTIONS: dict[tuple[Language, Language], dict[Language, tuple[str, ...]]] = {
    (Language.JA, Language.EN): {
        Language.JA: (
            "次の文章を英語に訳してください。",
            "以下を自然な英語に翻訳してください。",
            "英語ではどう言いますか。訳文だけを書いてください。",
        ),
        Language.EN: (
            "Translate the following Japanese into English.",
            "Put this Japanese text into natural English.",
            "How would you say this in English?",
        ),
    },
    (Language.EN, Language.JA): {
        Language.EN: (
            "Translate the following English into Japanese.",
            "Put this English text into natural Japanese.",
            "How would you say this in Japanese?",
        ),
        Language.JA: (
            "次の英文を日本語に訳してください。",
            "以下を自然な日本語に翻訳してください。",
            "日本語ではどう言いますか。訳文だけを書いてください。",
        ),
    },
    (Language.JA, Language.ZH): {
        Language.JA: ("次の文章を中国語に訳してください。", "以下を自然な中国語に翻訳してください。"),
        Language.ZH: ("请把下面的日语译成中文。", "这段日语用中文怎么说？请写出译文。"),
    },
    (Language.ZH, Language.JA): {
        Language.ZH: ("请把下面的中文译成日语。", "这段中文用日语怎么说？请写出译文。"),
        Language.JA: ("次の中国語を日本語に訳してください。", "以下の中国語を自然な日本語に翻訳してください。"),
    },
}
"""Wordings by direction and by the language of the person who asks; an adapter meets both askers."""


DERIVED = "derived from"
"""how the ``source`` of a derived row begins"""


class Row(TypedDict):
    """One row; the columns of every config but ``messages``."""

    id: str
    group_id: str
    category: str
    language: str
    """of Reasoning and output; for a translation the target"""
    source_language: str | None
    """of the text to be translated; null elsewhere"""
    topic: str
    instruction: str
    input: str
    reasoning: str
    reasoning_original: str | None
    """the earlier Reasoning, where it has been improved since; null elsewhere"""
    input_original: str | None
    output: str
    chain: str | None
    step: int | None
    skills: list[str]
    source: str
    licence: str
    generator: str


def group_to_rows(group: TextGroup | TranslationGroup) -> Iterator[Row]:
    """The rows of one group, in the order ja, en, zh, derived (translations: in the order of their directions)."""
    if isinstance(group, TextGroup):
        yield from _language_rows(group)
        yield from _derived_rows(group)
    else:
        yield from _direction_rows(group)


def _language_rows(group: TextGroup) -> Iterator[Row]:
    for language, text in group.texts().items():
        earlier = group.original.get(language)
        yield Row(
            id=f"{group.id}-{language}",
            group_id=group.id,
            category=group.category.value,
            language=language.value,
            source_language=None,
            topic=group.topic,
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
            licence=group.licence,
            generator=group.generator,
        )


def _derived_rows(group: TextGroup) -> Iterator[Row]:
    pair = derived_translation(group)
    if pair is not None:
        source, target, field = pair
        texts = group.texts()
        yield _translation_row(
            group,
            source,
            target,
            text=getattr(texts[source], field),
            translated=getattr(texts[target], field),
            origin=f"{DERIVED} {group.id}",
        )


def _direction_rows(group: TranslationGroup) -> Iterator[Row]:
    texts: dict[Language, TranslationText] = group.texts()
    for source, target in TRANSLATION_DIRECTIONS:
        if source in texts and target in texts:
            earlier = group.original.get(target)
            yield _translation_row(
                group,
                source,
                target,
                text=texts[source].text,
                translated=texts[target].text,
                reasoning=texts[target].reasoning,
                reasoning_original=earlier.reasoning if earlier else None,
                skills=group.skills,
                origin=group.source,
            )


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
        licence=group.licence,
        generator=group.generator,
    )


def pick_translation_instruction(row_id: str, source: Language, target: Language) -> str:
    """The wording a row gets: picked by its id, so the same records give the same rows."""
    number = int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8], "big")
    by_asker = TRANSLATION_INSTRUCTIONS[source, target]
    wordings = by_asker[(source, target)[number % 2]]
    return wordings[number // 2 % len(wordings)]


Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TEST_SHARE = 0.10
VALIDATION_SHARE = 0.10


def assign_split(group: TextGroup | TranslationGroup) -> Split:
    """The split of a group; depends on nothing but its category and its id (or its chain's)."""
    chain = group.chain.id if isinstance(group, TextGroup) and group.chain else group.id
    digest = hashlib.sha256(f"bonsai/{group.category}/{chain}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"
