"""Scores of the form of any answer: what the posts saw go wrong whatever was asked."""

from __future__ import annotations

import re

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.language import foreign
from bonsai.builder.checks.mojibake import mojibake
from bonsai.builder.checks.repetition import repeated
from bonsai.builder.checks.scripts import (
    HAN_LETTER,
    KANA_LETTER,
    LATIN_LETTER,
    OTHER_LETTERS,
    not_simplified,
    simplified_only,
)
from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.normal_form import tokens

NGRAM = 4


def right_language(answer: str, language: str, reference: str) -> float | None:
    """1 where the answer is in its language, else 0; None where there is none, or the reference itself mixes two."""
    spoken = Language(language)
    if not answer or _is_foreign(reference, spoken):
        return None
    return float(not _is_foreign(answer, spoken))


def _is_foreign(text: str, language: Language) -> bool:
    return any(fault.severity is Severity.ERROR for fault in foreign(text, language))


def foreign_share(answer: str, language: str, known: str) -> float:
    """Share of the letters that the language does not write with, 0 to 1.

    Args:
        known: question and reference; their characters may be quoted.
    """
    quoted = set(known)
    foreign_letters = [letter for letter in _foreign_letters(answer, language) if letter not in quoted]
    letters = sum(len(pattern.findall(answer)) for pattern in (KANA_LETTER, HAN_LETTER, LATIN_LETTER))
    letters += sum(map(len, OTHER_LETTERS.findall(answer)))
    return len(foreign_letters) / letters if letters else 0.0


def _foreign_letters(answer: str, language: str) -> list[str]:
    found = [letter for run in OTHER_LETTERS.findall(answer) for letter in run]
    match Language(language):
        case Language.EN:
            return found + KANA_LETTER.findall(answer) + HAN_LETTER.findall(answer)
        case Language.JA:
            return found + [letter for letter in HAN_LETTER.findall(answer) if letter in simplified_only()]
        case Language.ZH:
            traditional = [letter for letter in HAN_LETTER.findall(answer) if letter in not_simplified()]
            return found + KANA_LETTER.findall(answer) + traditional


def is_garbled(text: str) -> float:
    """1 where a run of mojibake stands inside, else 0."""
    return float(any(True for _ in mojibake(text)))


def repeated_ngrams(text: str) -> float:
    """Share of the 4-grams that were said before, 0 to 1 (seq-rep-4 of Welleck et al. 2020, arXiv:1908.04319)."""
    units = tokens(text)
    grams = [units[at : at + NGRAM] for at in range(len(units) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def loops(text: str, *, refrain: bool) -> float:
    """1 where sentences, clauses or pieces of words come again, else 0.

    Args:
        refrain: whether lines may come again, as in a poem.
    """
    return float(any(True for _ in repeated(re.sub(r"\n+", "\n", text), refrain=refrain)))
