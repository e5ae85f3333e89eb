"""Who is who is hidden, a person says which answer is better, and each vote is kept."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bonsai.recipes.evaluation.comparing.questions import Listed
from bonsai.recipes.evaluation.comparing.record import Comparison
from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.inference.conversation import Answer

VOTES = "votes.jsonl"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Vote(BaseModel):
    """One question judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    """its id"""
    order: tuple[tuple[str, ...], ...]
    """models from the best answer to the worst; those in one place are equally good"""
    answers: str
    """digest of the answers that were read: a vote does not count for others"""


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """A question whose answers bear letters; which is whose differs from question to question."""

    listed: Listed
    models: dict[str, str]
    """by letter"""
    answers: dict[str, Answer]
    """by letter, the first sample of each"""

    @property
    def digest(self) -> str:
        """Of the answers as they stand."""
        told = "\n".join(sorted(f"{self.models[letter]} {one.answer}" for letter, one in self.answers.items()))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def order(self, judged: str) -> tuple[tuple[str, ...], ...]:
        """The models in the order of a person's letters: ``B A=C`` puts B first and the other two level.

        Raises:
            EvaluationError: a letter is missing, is there twice or is none of the answers'.
        """
        places = [
            [letter for letter in re.split(r"\s*=\s*", place) if letter]
            for place in re.sub(r"\s*=\s*", "=", judged.strip().upper().replace(">", " ")).split()
        ]
        letters = [letter for place in places for letter in place]
        if places == [[]] and len(self.models) == 2:  # "=" alone
            places, letters = [list(self.models)], list(self.models)
        if len(self.models) == 2 and len(letters) == 1:
            letters += [letter for letter in self.models if letter not in letters]
            places.append(letters[1:])
        if sorted(letters) != sorted(self.models):
            names = list(self.models)
            raise EvaluationError(
                f"{judged.strip()!r} does not order {', '.join(names)}; give each letter once, the best first, "
                f"with = between equals: {' '.join(reversed(names))}, or {'='.join(names)}"
            )
        return tuple(tuple(self.models[letter] for letter in place) for place in places)


def hidden(comparison: Comparison) -> Iterator[Hidden]:
    """The questions that at least two models answered, with letters in place of names; the same at every call.

    Raises:
        EvaluationError: there are more models than letters.
    """
    if len(comparison.models) > len(LETTERS):
        raise EvaluationError(
            f"{len(comparison.models)} models are too many to put in order; compare {len(LETTERS)} at most"
        )
    for listed in comparison.questions:
        found = [side.name for side in comparison.models if comparison.of(side.name, listed.id)]
        if len(found) < 2:
            continue
        digest = hashlib.sha256("\n".join([listed.model_dump_json(), *sorted(found)]).encode()).digest()
        random.Random(digest).shuffle(found)
        letters = dict(zip(LETTERS, found, strict=False))
        yield Hidden(
            listed=listed,
            models=letters,
            answers={letter: comparison.of(model, listed.id)[0] for letter, model in letters.items()},
        )


def read_votes(folder: Path) -> list[Vote]:
    """The votes that are kept; of two on the same answers the later counts.

    Raises:
        EvaluationError: a line is none.
    """
    path = folder / VOTES
    if not path.is_file():
        return []
    found: dict[tuple[str, str], Vote] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            vote = Vote.model_validate_json(line)
        except ValidationError as error:
            raise EvaluationError(f"{path}:{number}: no vote ({line[:60]!r}); delete this line") from error
        found[vote.question, vote.answers] = vote
    return list(found.values())


def keep_vote(folder: Path, vote: Vote) -> None:
    """Append a vote: the whole line or nothing, on disk when this returns."""
    descriptor = os.open(folder / VOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (vote.model_dump_json() + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def counted(comparison: Comparison, votes: list[Vote]) -> list[Vote]:
    """The votes on answers that stand in this comparison."""
    standing = {(one.listed.id, one.digest) for one in hidden(comparison)}
    return [vote for vote in votes if (vote.question, vote.answers) in standing]
