"""Cache answers on disk, so that an interrupted evaluation or comparison resumes.

One JSON line an answer. The name of the file is a hash of all that decides an answer, so what is found there is what
the model would say again.

One file a model, one line an answer. The name of the file is a hash of all that decides an answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from bonsai.recipes.evaluation.comparison.record import SampleRound
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.generation import Completion, OnAnswer

Ask = Callable[[Sequence[str], OnAnswer], None]
"""An engine as the journal needs it: it hands over each answer as soon as there is one."""


class AnswerCache:
    """The answers of one model with one decoder."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        told = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        self.path = folder / f"{_digest(told)[:16]}.jsonl"
        self._identity = told
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_suffix(".lock"))  # recipes on one base keep its answers in one file
        with self._lock:
            self._known = self._read()

    def get(self, prompt: str) -> Completion | None:
        """The answer to a prompt, if it was given before."""
        return self._known.get(_digest(prompt))

    def answer(self, prompt: str) -> Completion:
        """The answer to a prompt that was answered."""
        return self._known[_digest(prompt)]

    def add(self, prompt: str, generation: Completion) -> None:
        """Keep an answer; it is on disk when this returns."""
        key = _digest(prompt)
        self._known[key] = generation
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"prompt": key, **asdict(generation)}, ensure_ascii=False) + "\n")

    def _read(self) -> dict[str, Completion]:
        """What is kept; a last line that a killed process left unfinished goes."""
        if not self.path.is_file():
            self.path.write_text(self._identity + "\n", encoding="utf-8")
            return {}
        kept = self.path.read_bytes()
        whole = kept[: kept.rfind(b"\n") + 1]
        if whole != kept:
            self.path.write_bytes(whole)
        lines = [json.loads(line) for line in whole.decode().splitlines()[1:]]
        return {line.pop("prompt"): Completion(**line) for line in lines}


def answer_with_cache(
    items: Sequence[EvalItem], ask: Ask, journal: AnswerCache, told: Callable[[int, int], None]
) -> list[Completion]:
    """The answer to each item: from the journal where it was given before, else asked for now and kept.

    Args:
        told: called with how many answers there are and how many there will be.
    """
    prompts = dict.fromkeys(item.prompt for item in items)
    missing = [prompt for prompt in prompts if journal.get(prompt) is None]
    told(len(prompts) - len(missing), len(prompts))

    def keep(place: int, generation: Completion) -> None:
        journal.add(missing[place], generation)
        told(sum(journal.get(prompt) is not None for prompt in prompts), len(prompts))

    if missing:
        ask(missing, keep)
    return [journal.answer(item.prompt) for item in items]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Kept:
    """The answers of one model with one decoder."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        told = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        self.path = folder / f"{_question_digest(told)[:16]}.jsonl"
        self._identity = told
        self._answers: dict[str, Answer] = {}
        self.rounds: list[SampleRound] = []
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

    def ended(self, done: SampleRound) -> None:
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
                self.rounds.append(SampleRound(**line["round"]))
            else:
                self._answers[line["key"]] = Answer(**line["answer"])


def _key(question: Question, sample: int) -> str:
    return _question_digest(f"{sample} {question.model_dump_json()}")


def _question_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
