"""Questions that are there already: prepared ones, and those in a file, one a line or JSON Lines."""

from __future__ import annotations

import json

from pydantic import ValidationError

from bonsai.builder.probes import default_probes, read_probes
from bonsai.builder.schema import Language
from bonsai.recipes.inference.asking.errors import AskingError
from bonsai.recipes.inference.conversation import Question


def prepared(language: Language, persona: str = "") -> list[Question]:
    """The nine questions of the post of 2024-05-07, as the probes have them."""
    return [
        Question(instruction=probe.question, language=language, system=persona)
        for probe in read_probes(default_probes())
        if probe.kind == "qtq_opening" and probe.language is language
    ]


def questions_in(text: str, name: str, *, language: Language | None = None, system: str = "") -> list[Question]:
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
