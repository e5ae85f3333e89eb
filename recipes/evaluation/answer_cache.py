"""Cache answers on disk, so that an interrupted evaluation or comparison resumes.

A cache is one JSON-lines file, named by a hash of everything that decides an answer but the question. So whatever is
found in it is what the model would answer again. Its first line is that identity; each further line is one answer:

    {"base_model": "microsoft/phi-2", "decoder": {…}, …}
    {"prompt": "<sha256>", "text": "…", "tokens": 9, …}     # an evaluation's completion
    {"key": "<sha256>", "answer": {…}}                      # a comparison's answer
    {"round": {"sample": 1, "answers": 5, …}}               # a comparison's finished round
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock

from bonsai.recipes.evaluation.comparison.record import SampleRound
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.inference.conversation import Answer
from bonsai.recipes.inference.generation import Completion, OnAnswer

DECIDING_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
"""packages whose versions decide an answer; the others decide scores"""

OnProgress = Callable[[str, int, int], None]
"""Called with who answers, and the number of answers so far and in all."""

Generate = Callable[[Sequence[str], OnAnswer], None]
"""An engine as the cache needs it: it hands over each answer as soon as it is complete."""

Cached = TypeVar("Cached", Completion, Answer)


class AnswerCache(Generic[Cached]):
    """The answers of one model with one set of generation settings."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        header = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        self.path = folder / f"{_sha256(header)[:16]}.jsonl"
        self.rounds: list[SampleRound] = []
        """rounds of a comparison that were asked to their end"""
        self._answers: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_suffix(".lock"))  # recipes on one base share its file
        with self._lock:
            if not self.path.is_file():
                self.path.write_bytes(f"{header}\n".encode())
            content = self.path.read_bytes()
            complete = content[: content.rfind(b"\n") + 1]
            if complete != content:  # a killed process left its last line unfinished
                self.path.write_bytes(complete)
        for text in complete.split(b"\n")[1:-1]:
            line = json.loads(text)
            if "round" in line:
                self.rounds.append(SampleRound(**line["round"]))
            elif "answer" in line:
                self._answers[line["key"]] = Answer(**line["answer"])
            else:
                key = line.pop("prompt")
                self._answers[key] = Completion(**line)

    def get(self, prompt: str) -> Cached | None:
        """Return the answer to a prompt, if there is one."""
        return self._answers.get(_sha256(prompt))

    def add(self, prompt: str, answer: Cached) -> None:
        """Store an answer; it is on disk when this returns."""
        key = _sha256(prompt)
        self._answers[key] = answer
        if isinstance(answer, Completion):
            self._append({"prompt": key, **asdict(answer)})
        else:
            self._append({"key": key, "answer": answer.model_dump(mode="json")})

    def add_round(self, finished: SampleRound) -> None:
        """Store how long a round took."""
        self.rounds.append(finished)
        self._append({"round": finished.model_dump()})

    def clear(self) -> None:
        """Delete the files, so that the next run asks anew."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".lock").unlink(missing_ok=True)

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._lock, self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def answer_with_cache(
    items: Sequence[EvalItem],
    generate: Generate,
    cache: AnswerCache[Completion],
    on_progress: Callable[[int, int], None],
) -> list[Completion]:
    """Answer each item: from the cache where it was answered before, else by asking the model.

    Args:
        on_progress: called with the number of answers so far and in all.
    """
    prompts = dict.fromkeys(item.prompt for item in items)
    answers = {prompt: answer for prompt in prompts if (answer := cache.get(prompt)) is not None}
    missing = [prompt for prompt in prompts if prompt not in answers]
    on_progress(len(answers), len(prompts))

    def store(index: int, completion: Completion) -> None:
        cache.add(missing[index], completion)
        answers[missing[index]] = completion
        on_progress(len(answers), len(prompts))

    if missing:
        generate(missing, store)
    return [answers[item.prompt] for item in items]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
