"""Translation rows derived from the questions of other groups: Japanese and English, one direction a group.

A question is the part of a group that says the same in both languages, sentence for sentence; answers are not.
Groups that are about language itself (names in katakana, translate-then-answer) ask different things in each language
and are left out. Derived rows have no Reasoning: nobody wrote one.
"""

from __future__ import annotations

import hashlib

from bonsai.builder.schema import Category, Language, TextGroup

DERIVED_FROM: dict[Category, str] = {
    Category.OPEN_QA: "instruction",
    Category.CLOSED_QA: "instruction",
    Category.QUESTION_TO_QUESTION: "output",
}
"""Which field is translated, by category."""


def derived_pair(group: TextGroup) -> tuple[Language, Language, str] | None:
    """Source language, target language and field of the row derived from a group; None: nothing is derived from it."""
    field = DERIVED_FROM.get(group.category)
    if field is None or group.skills:
        return None
    towards_english = hashlib.sha256(f"derived/{group.id}".encode()).digest()[0] % 2 == 0
    source, target = (Language.JA, Language.EN) if towards_english else (Language.EN, Language.JA)
    return source, target, field
