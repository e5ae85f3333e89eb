"""Answers kept as they come, so that an evaluation that was cut off goes on, and the base is asked only once.

One JSON line an answer. The name of the file is a hash of all that decides an answer, so what is found there is what
the model would say again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from bonsai.recipes.evaluation.items import Item
from bonsai.recipes.inference.generation.engine import Generation, OnAnswer

Ask = Callable[[Sequence[str], OnAnswer], None]
"""An engine as the journal needs it: it hands over each answer as soon as there is one."""


class Journal:
    """The answers of one model with one decoder."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        told = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        self.path = folder / f"{_digest(told)[:16]}.jsonl"
        self._identity = told
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_suffix(".lock"))  # recipes on one base keep its answers in one file
        with self._lock:
            self._known = self._read()

    def get(self, prompt: str) -> Generation | None:
        """The answer to a prompt, if it was given before."""
        return self._known.get(_digest(prompt))

    def answer(self, prompt: str) -> Generation:
        """The answer to a prompt that was answered."""
        return self._known[_digest(prompt)]

    def add(self, prompt: str, generation: Generation) -> None:
        """Keep an answer; it is on disk when this returns."""
        key = _digest(prompt)
        self._known[key] = generation
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"prompt": key, **asdict(generation)}, ensure_ascii=False) + "\n")

    def _read(self) -> dict[str, Generation]:
        """What is kept; a last line that a killed process left unfinished goes."""
        if not self.path.is_file():
            self.path.write_text(self._identity + "\n", encoding="utf-8")
            return {}
        kept = self.path.read_bytes()
        whole = kept[: kept.rfind(b"\n") + 1]
        if whole != kept:
            self.path.write_bytes(whole)
        lines = [json.loads(line) for line in whole.decode().splitlines()[1:]]
        return {line.pop("prompt"): Generation(**line) for line in lines}


def collect(items: Sequence[Item], ask: Ask, journal: Journal, told: Callable[[int, int], None]) -> list[Generation]:
    """The answer to each item: from the journal where it was given before, else asked for now and kept.

    Args:
        told: called with how many answers there are and how many there will be.
    """
    prompts = dict.fromkeys(item.prompt for item in items)
    missing = [prompt for prompt in prompts if journal.get(prompt) is None]
    told(len(prompts) - len(missing), len(prompts))

    def keep(place: int, generation: Generation) -> None:
        journal.add(missing[place], generation)
        told(sum(journal.get(prompt) is not None for prompt in prompts), len(prompts))

    if missing:
        ask(missing, keep)
    return [journal.answer(item.prompt) for item in items]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
