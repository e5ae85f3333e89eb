"""The language an answer is to be in."""

from __future__ import annotations

import re
from typing import NamedTuple

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.language import foreign
from bonsai.builder.importing.language import language_of
from bonsai.builder.messages import question_text
from bonsai.builder.schema import LANGUAGES, Language
from bonsai.recipes.inference.conversation import Because, Question

_IS_NOT = {
    Language.JA: Because(en="is not in Japanese", ja="日本語ではありません"),
    Language.EN: Because(en="is not in English", ja="英語ではありません"),
    Language.ZH: Because(en="is not in Chinese", ja="中国語ではありません"),
}
_NAMES_ONE = re.compile(
    r"translat|Japanese|English|Chinese|katakana|hiragana|kanji|haiku|\bcode\b|Python"
    r"|訳|译|日本語|英語|中国語|カタカナ|ひらがな|ローマ字|コード|日语|日文|英语|英文|中文|汉语|代码",
    re.IGNORECASE,
)
"""such a question may want its answer in that language"""


class Tongue(NamedTuple):
    """A language, and whether an answer in another one is wrong."""

    language: Language
    binding: bool


def tongue_of(question: Question) -> Tongue:
    """That of the question unless it says otherwise."""
    if question.language is not None:
        return Tongue(question.language, True)
    found = language_of(question_text(question.instruction, question.input))
    if found not in LANGUAGES:
        return Tongue(Language.EN, False)
    return Tongue(Language(found), not _NAMES_ONE.search(question.instruction))


def in_another(answer: str, tongue: Tongue) -> Because | None:
    """What is wrong with the language of an answer, in words that follow 'the answer'; None: nothing."""
    if not tongue.binding:
        return None
    wrong = any(fault.severity is Severity.ERROR for fault in foreign(answer, tongue.language))
    return _IS_NOT[tongue.language] if wrong else None
