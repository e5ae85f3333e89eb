"""What may be asked, told in a sentence before a model is troubled."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from bonsai.builder.messages import question_text
from bonsai.recipes.inference.asking.errors import AskingError
from bonsai.recipes.inference.conversation import Question

MOST_CHARACTERS = 100_000
"""of a question with its input; far above what any of the models reads"""
_WHITE = frozenset("\t\n\v\f\r\x85")


def check_questions(questions: Sequence[Question]) -> None:
    """Refuse what is no question.

    Raises:
        AskingError: naming the question by its place.
    """
    for number, question in enumerate(questions, 1):
        what = "the question" if len(questions) == 1 else f"question {number} of {len(questions)}"
        text = question_text(question.instruction, question.input)
        if not question.instruction.strip():
            raise AskingError(f"{what} is empty; write what you want to know. 質問が空です。")
        if len(text) + len(question.system) >= MOST_CHARACTERS:
            raise AskingError(
                f"{what} has {len(text) + len(question.system):,} characters; fewer than {MOST_CHARACTERS:,} can be "
                "asked: cut it, or ask about its parts. 質問が長すぎます。"
            )
        if odd := next((letter for letter in text + question.system if _is_no_text(letter)), None):
            raise AskingError(
                f"{what} holds U+{ord(odd):04X}, which no text has: it seems to be a binary file; "
                "give plain text in UTF-8. テキストではありません。"
            )


def text_of(data: bytes, name: str) -> str:
    """The text in a file.

    Args:
        name: what a reader knows the file by.

    Raises:
        AskingError: it is binary, or in another encoding than UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AskingError(
            f"{name}: byte {error.start:,} is not UTF-8: it is binary or in another encoding; give plain text in "
            "UTF-8. UTF-8のテキストではありません。"
        ) from error


def _is_no_text(letter: str) -> bool:
    """Controls, surrogates and the mark of what could not be decoded."""
    return (unicodedata.category(letter) in ("Cc", "Cs") and letter not in _WHITE) or letter == "\ufffd"
