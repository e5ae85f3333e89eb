"""How much it saves to lead question chains together, with the seedling.

    python -m benchmarks.qtq_speed BASE [--adapter FOLDER] [--depth 2] [--tokens 128] [--repeats 2] [--threads 2]

The nine prepared questions are led together, and then one after the other with a single prompt at a time, by the same
engine and by the loop of most tutorials. Model, decoder and random numbers are the same, so the chains should be. The
ways take turns, ``--repeats`` times, after an unmeasured run; told are medians, and the ratios within a turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

from benchmarks.qtq_setting import RESULTS, about, opened, openings, parser
from bonsai.recipes.inference.batching import (
    ActiveSequence,
    Detokenizer,
    QueuedPrompt,
    banned_ngram_tokens,
    penalty_exempt_tokens,
    sample_next_tokens,
)
from bonsai.recipes.inference.conversation import QuestionChain
from bonsai.recipes.inference.generation import Completion, Engine, GenerationRequest, GenerationSettings, OnCompletion
from bonsai.recipes.inference.qtq import QtQSettings, run_chains


class Choice(LogitsProcessor):
    """Leaves `generate` the one token that the engine would choose, by the same random numbers where it samples."""

    def __init__(self, decoder: GenerationSettings, row: ActiveSequence, tokenizer: Any) -> None:
        self._decoder = decoder
        self._unpunished = penalty_exempt_tokens(tokenizer)
        self._row = row

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        tokens = input_ids[0].tolist()
        seen = None
        if self._decoder.repetition_penalty != 1:
            seen = torch.zeros_like(scores, dtype=torch.bool)
            seen[0, tokens[len(self._row.prompt.token_ids) :]] = True
            seen[:, self._unpunished] = False
        size = self._decoder.no_repeat_ngram_size
        banned = [list(banned_ngram_tokens(tokens, size))] if size else ()
        chosen = sample_next_tokens(scores.float(), seen, self._decoder, [self._row.rng], banned)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class Loop(Engine):
    """The loop of most tutorials behind the engine's interface: `model.generate` for each prompt, to its end.

    What the engine would not have waited for is cut off afterwards, so that the chains come out the same.
    """

    name = "loop"

    def __init__(self, options: argparse.Namespace) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(options.base)
        model: Any = AutoModelForCausalLM.from_pretrained(options.base, dtype=getattr(torch, options.dtype))
        model = PeftModel.from_pretrained(model, options.adapter) if options.adapter else model
        self._model = model.eval().to(options.device)

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        waiting = list(requests)
        for place, request in enumerate(waiting):  # which grows meanwhile
            waiting += on_completion(place, self._one(place, request))

    def _one(self, place: int, request: GenerationRequest) -> Completion:
        prompt, decoder, _ = request
        inputs = self._tokenizer(prompt, return_tensors="pt").to(self._model.device)
        length = inputs["input_ids"].shape[1]
        row = ActiveSequence(QueuedPrompt(place, request, inputs["input_ids"][0].tolist()), time.perf_counter())
        with torch.inference_mode():
            out = self._model.generate(
                **inputs,
                max_new_tokens=decoder.max_new_tokens,
                do_sample=False,
                logits_processor=[Choice(decoder, row, self._tokenizer)],
                pad_token_id=self._tokenizer.eos_token_id,
            )
        speech = Detokenizer(tokenizer=self._tokenizer, ends=frozenset([self._tokenizer.eos_token_id]))
        for token in out[0, length:].tolist():
            row.tokens.append(token)
            if (ending := speech.finish_reason(row)) is not None:
                return speech.completion(row, ending)
        return speech.completion(row, "length")


class Turn(NamedTuple):
    """One way, once."""

    seconds: float
    cpu_seconds: float
    led: list[QuestionChain]


def measure(options: argparse.Namespace) -> None:
    """Everything is loaded before the first turn; no way is measured cold, for the chains are led once beforehand."""
    settings = QtQSettings(decoder=GenerationSettings(max_new_tokens=options.tokens), rounds=1)
    fresh = openings(settings, options)
    taken: dict[str, list[Turn]] = {}
    with opened(options, batch_size=options.batch) as engine:

        def together() -> list[QuestionChain]:
            engine.batch_size = options.batch
            return run_chains(engine, fresh, settings)

        def one_by_one() -> list[QuestionChain]:
            engine.batch_size = 1
            return [chain for one in fresh for chain in run_chains(engine, [one], settings)]

        loop = Loop(options)
        ways = {
            "together": together,
            "one prompt after the other, same engine": one_by_one,
            "one prompt after the other, transformers.generate": lambda: [
                chain for one in fresh for chain in run_chains(loop, [one], settings)
            ],
        }
        for way in (together, lambda: run_chains(loop, fresh[:1], settings)):
            way()
        for _ in range(options.repeats):
            for name, way in ways.items():
                started, started_cpu = time.perf_counter(), time.process_time()
                led = way()
                turn = Turn(time.perf_counter() - started, time.process_time() - started_cpu, led)
                taken.setdefault(name, []).append(turn)
                told = speeds(taken, about(options))
                (RESULTS / "qtq_speed.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
                Console().print(f"{name}: {turn.seconds:.1f} s, {turn.cpu_seconds:.1f} CPU seconds")
    table = Table(f"{len(fresh)} chains", "seconds", "times as long", "CPU seconds", "chains as together")
    for name, one in told["ways"].items():
        ratios = "{median} ({least} to {most})".format(**one["times_as_long"])
        table.add_row(name, str(one["median_seconds"]), ratios, str(one["median_cpu_seconds"]), one["same_chains"])
    Console().print(table)


def speeds(taken: dict[str, list[Turn]], settings: dict[str, object]) -> dict[str, Any]:
    """What is known so far; turns are compared with the one together of the same round."""
    first = next(iter(taken.values()))
    ways = {}
    for name, turns in taken.items():
        pairs = list(zip(first, turns, strict=False))
        ratios = [turn.seconds / one.seconds for one, turn in pairs]
        same = min(
            sum(questions(a) == questions(b) for a, b in zip(one.led, turn.led, strict=True)) for one, turn in pairs
        )
        ways[name] = {
            "seconds": [round(turn.seconds, 1) for turn in turns],
            "median_seconds": round(median(turn.seconds for turn in turns), 1),
            "median_cpu_seconds": round(median(turn.cpu_seconds for turn in turns), 1),
            "times_as_long": {
                "median": round(median(ratios), 2),
                "least": round(min(ratios), 2),
                "most": round(max(ratios), 2),
            },
            "times_the_cpu_time": round(median(turn.cpu_seconds / one.cpu_seconds for one, turn in pairs), 2),
            "same_chains": f"{same} of {len(first[0].led)}",
        }
    return {"settings": settings, "ways": ways}


def questions(chain: QuestionChain) -> list[tuple[str, str, list[str]]]:
    return [(step.question, step.answer.answer, [one.question for one in step.candidates]) for step in chain.steps]


def main() -> None:
    """Measure, print, keep the result."""
    asked = parser(__doc__, depth=2, tokens=128)
    asked.add_argument("base", help="folder or repo id")
    asked.add_argument("--repeats", type=int, default=2)
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    measure(options)


if __name__ == "__main__":
    main()
