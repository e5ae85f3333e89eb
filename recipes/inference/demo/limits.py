"""What a visitor may ask for, and what a visitor is told when something goes wrong: a sentence, never a stack trace."""

from __future__ import annotations

import logging
import secrets

from bonsai.builder.schema import BonsaiError
from bonsai.recipes.inference.demo.errors import VisitorError
from bonsai.recipes.inference.demo.words import Words

LONGEST_QUESTION = 500
LONGEST_MATERIAL = 2_000
LONGEST_PERSONA = 200
"""characters; with an answer they fit the 2,048 tokens of Phi-2, at 1.6 tokens a character of Japanese"""
LONGEST_SEARCH = 100
MOST_QUESTIONS = 5
MOST_SAMPLES = 3
DEEPEST = 9
"""steps"""
SECONDS = 600.0
"""that one visitor may keep the model busy at a stretch"""
WAITING = 20
"""visitors in the queue; the next is told that it is crowded"""
MOST_BYTES = 100_000
"""of one request: the fields above and what gradio adds"""

_log = logging.getLogger(__name__)


def within(field: str, text: str | None, most: int, said: Words) -> str:
    """The text without white space around it.

    Raises:
        VisitorError: it is too long.
    """
    text = (text or "").strip()  # a field that nobody touched holds None
    if len(text) > most:
        raise VisitorError(said.too_long.format(field, f"{len(text):,}", f"{most:,}"))
    return text


def a_question(text: str | None, said: Words) -> str:
    """A question of a length that can be asked.

    Raises:
        VisitorError: it is empty or too long.
    """
    text = within(said.question, text, LONGEST_QUESTION, said)
    if not text:
        raise VisitorError(said.empty)
    return text


def questions(text: str | None, said: Words) -> list[str]:
    """The questions of several lines.

    Raises:
        VisitorError: there is none, or there are too many, or one is too long.
    """
    found = [line for line in (text or "").splitlines() if line.strip()]
    if not found:
        raise VisitorError(said.empty)
    if len(found) > MOST_QUESTIONS:
        raise VisitorError(said.too_many.format(len(found), MOST_QUESTIONS))
    return [a_question(line, said) for line in found]


def told(error: Exception, said: Words) -> str:
    """What a visitor reads of an error; one that is not meant for visitors goes to the log under a number."""
    if isinstance(error, BonsaiError):
        return str(error)
    number = secrets.token_hex(3)
    _log.error("demo, record %s", number, exc_info=error)
    return said.broken.format(number)
