"""Answers kept as they come, so that a comparison that was interrupted goes on where it stopped.

One file a model, one line an answer. The name of the file is a hash of all that decides an answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bonsai.recipes.evaluation.comparing.record import Round
from bonsai.recipes.inference.conversation import Answer, Question


class Kept:
    """The answers of one model with one decoder."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        told = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        self.path = folder / f"{_digest(told)[:16]}.jsonl"
        self._identity = told
        self._answers: dict[str, Answer] = {}
        self.rounds: list[Round] = []
        """those that were asked to their end"""
        self._read()

    def get(self, question: Question, sample: int) -> Answer | None:
        """The answer, if it was given before."""
        return self._answers.get(_key(question, sample))

    def add(self, question: Question, sample: int, answer: Answer) -> None:
        """Keep an answer; it is on disk when this returns."""
        key = _key(question, sample)
        self._answers[key] = answer
        self._append({"key": key, "answer": answer.model_dump(mode="json")})

    def ended(self, done: Round) -> None:
        """Keep how long a round took."""
        self.rounds.append(done)
        self._append({"round": done.model_dump()})

    def forget(self) -> None:
        """Ask anew the next time: who stands behind an address may be another tomorrow."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _read(self) -> None:
        """What is kept; a last line that a killed process left unfinished goes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.is_file():
            self.path.write_text(self._identity + "\n", encoding="utf-8")
            return
        kept = self.path.read_bytes()
        whole = kept[: kept.rfind(b"\n") + 1]
        if whole != kept:
            self.path.write_bytes(whole)
        for text in whole.split(b"\n")[1:-1]:
            line = json.loads(text)
            if "round" in line:
                self.rounds.append(Round(**line["round"]))
            else:
                self._answers[line["key"]] = Answer(**line["answer"])


def _key(question: Question, sample: int) -> str:
    return _digest(f"{sample} {question.model_dump_json()}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
