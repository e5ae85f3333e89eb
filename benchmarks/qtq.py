"""Question chains over the seedling: how often they go in circles, how deep they get, how much batching saves.

    python -m benchmarks.qtq circles BASE [--adapter FOLDER] [--depth 5] [--tokens 128] [--device cuda|cpu]
    python -m benchmarks.qtq speed BASE [--adapter FOLDER] [--depth 2] [--tokens 64] [--repeats 3] [--threads 2]

``circles`` leads the nine prepared questions, in English, twice with the same model and decoder: by perspectives and
judge, and by plainly asking for the next question and taking what comes. What is the same again is told by the judge
that chose the questions, and by measures that had no part in it: words in common (Dice), the records' own rule, and,
where ``benchmarks/results/qtq_read.json`` has them, the verdicts of a reader. All questions are printed into
``benchmarks/results/qtq_chains.md``.

``again`` measures the kept chains once more, after verdicts came or where the run was interrupted.

``speed`` leads the same nine chains together, and then one after the other with a single prompt at a time, by the same
engine and by the loop of most tutorials. Model, decoder and random numbers are the same, so the chains should be. The
ways take turns, ``--repeats`` times, after an unmeasured run; told are medians, and the ratios within a turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
import transformers
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.reasoning import overlap
from bonsai.builder.checks.rewording import rewording
from bonsai.builder.checks.tautology import SAME_FROM as REWORDING_FROM
from bonsai.builder.schema import Language
from bonsai.cli.deepening import prepared
from bonsai.recipes.inference.chains.deepening import Deepening, deepen
from bonsai.recipes.inference.chains.judging import new_question
from bonsai.recipes.inference.chains.keeping import Keeping, begun
from bonsai.recipes.inference.chains.sameness import SAME_FROM, sameness
from bonsai.recipes.inference.conversation import Chain
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Generation, OnAnswer, Request, Watch
from bonsai.recipes.inference.generation.next_token import next_tokens, said_after, unpunished
from bonsai.recipes.inference.generation.row import Asked, Row, Speech
from bonsai.recipes.inference.generation.transformers_engine import TransformersEngine

RESULTS = Path(__file__).parent / "results"
READ = RESULTS / "qtq_read.json"
SAME_WORDS = 0.6
"""Dice's share of word stems in common from which two questions count as the same"""


@contextlib.contextmanager
def opened(options: argparse.Namespace, batch_size: int) -> Iterator[TransformersEngine]:
    dtype = getattr(torch, options.dtype)
    engine = TransformersEngine.load(options.base, dtype=dtype, device=options.device, batch_size=batch_size)
    if options.adapter is None:
        yield engine
        return
    engine.add_adapter("seedling", options.adapter)
    with engine.using("seedling"):
        yield engine


def openings(settings: Deepening, options: argparse.Namespace) -> list[Chain]:
    model = f"{'seedling' if options.adapter else 'bare base'}, {options.dtype} on {options.device}"
    questions = prepared(Language.EN)[: options.chains]
    return [begun(one, model=model, depth=options.depth, settings=settings) for one in questions]


def judge(earlier: str, question: str) -> bool:
    return sameness(earlier, question) >= SAME_FROM


def same_words(earlier: str, question: str) -> bool:
    return overlap(earlier, question) >= SAME_WORDS


def records_rule(earlier: str, question: str) -> bool:
    one, other = vectors([earlier, question])
    return rewording(earlier, question, float(one @ other)) >= REWORDING_FROM


MEASURES: dict[str, Callable[[str, str], bool]] = {
    "judge": judge,
    "same_words": same_words,
    "records_rule": records_rule,
}


def circles(chain: Chain, same: Callable[[str, str], bool]) -> list[int]:
    """The steps whose question asks again what an earlier step asked."""
    questions = [step.question for step in chain.steps]
    return [at + 1 for at in range(1, len(questions)) if any(same(one, questions[at]) for one in questions[:at])]


def verdicts() -> dict[str, str]:
    """By theme and question, what a reader found: tautology, astray, nonsense, sideways or deeper."""
    return json.loads(READ.read_text(encoding="utf-8")) if READ.is_file() else {}


def measured(chains: Sequence[Chain]) -> dict[str, object]:
    asked = sum(len(chain.steps) - 1 for chain in chains)
    found: dict[str, object] = {
        "chains": len(chains),
        "next_questions": asked,
        "steps_reached": round(fmean(len(chain.steps) for chain in chains), 2),
        "chains_at_full_depth": sum(len(chain.steps) >= chain.depth for chain in chains),
        "chains_that_ended": sum(chain.ended_because is not None for chain in chains),
        "chains_interrupted": sum(not chain.complete for chain in chains),
        "asks_nothing": sum(not new_question(step.question) for chain in chains for step in chain.steps[1:]),
        "candidates": sum(len(step.candidates) for chain in chains for step in chain.steps),
    }
    for name, same in MEASURES.items():
        again = sum(len(circles(chain, same)) for chain in chains)
        found[f"tautologies_{name}"] = {"count": again, "rate": round(again / max(1, asked), 3)}
    read = verdicts()
    told = [
        read[f"{chain.theme} | {step.question}"]
        for chain in chains
        for step in chain.steps[1:]
        if f"{chain.theme} | {step.question}" in read
    ]
    if told:
        found["reader"] = {name: told.count(name) for name in sorted(set(told))}
    return found


def transcript(named: dict[str, list[Chain]]) -> str:
    """All questions and the beginnings of all answers, with what each measure says."""
    read = verdicts()
    lines = ["# Question chains of the seedling (135M), as they came", ""]
    lines += ["Written by `python -m benchmarks.qtq circles`; nothing is left out or mended.", ""]
    for name, chains in named.items():
        lines += [f"## {name}", ""]
        for chain in chains:
            lines += [f"### {chain.theme}", ""]
            flags = {measure: circles(chain, same) for measure, same in MEASURES.items()}
            for step in chain.steps:
                told = [measure for measure, steps in flags.items() if step.number in steps]
                told += [read[key]] if (key := f"{chain.theme} | {step.question}") in read else []
                mark = f" — *{', '.join(told)}*" if told else ""
                answer = " ".join(step.answer.answer.split())
                lines += [f"{step.number}. ({step.perspective or 'opening'}) **{step.question}**{mark}  "]
                lines += [f"   {answer[:300]}{'…' if len(answer) > 300 else ''}"]
            ended = chain.ended_because or ("at the depth asked for" if chain.complete else "the run was interrupted")
            lines += ["", f"Ended: {ended}", ""]
    return "\n".join(lines)


def both_ways(options: argparse.Namespace) -> dict[str, Deepening]:
    decoder = Decoder(max_new_tokens=options.tokens)
    return {"perspectives and judge": Deepening(decoder=decoder), "plain": Deepening(decoder=decoder, plain=True)}


def run_circles(options: argparse.Namespace) -> None:
    keeping = Keeping(options.keep)
    with opened(options, batch_size=options.batch) as engine:
        for settings in both_ways(options).values():
            chains = [keeping.taken_up(chain) for chain in openings(settings, options)]
            deepen(engine, chains, settings, on_step=keeping.write)
    run_again(options)


def run_again(options: argparse.Namespace) -> None:
    """Measure what is kept, finished or not, without a model."""
    keeping = Keeping(options.keep)
    named = {
        name: [keeping.taken_up(chain) for chain in openings(settings, options)]
        for name, settings in both_ways(options).items()
    }
    tell(named, {"settings": about(options)} | {name: measured(chains) for name, chains in named.items()})


def tell(named: dict[str, list[Chain]], result: dict[str, object]) -> None:
    (RESULTS / "qtq_circles.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULTS / "qtq_chains.md").write_text(transcript(named), encoding="utf-8")
    Console().print_json(json.dumps(result))


class Choice(LogitsProcessor):
    """Leaves `generate` the one token that the engine would choose, by the same random numbers where it samples."""

    def __init__(self, decoder: Decoder, row: Row, tokenizer: Any) -> None:
        self._decoder = decoder
        self._unpunished = unpunished(tokenizer)
        self._row = row

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        tokens = input_ids[0].tolist()
        seen = None
        if self._decoder.repetition_penalty != 1:
            seen = torch.zeros_like(scores, dtype=torch.bool)
            seen[0, tokens[len(self._row.asked.token_ids) :]] = True
            seen[:, self._unpunished] = False
        size = self._decoder.no_repeat_ngram_size
        banned = [list(said_after(tokens, size))] if size else ()
        chosen = next_tokens(scores.float(), seen, self._decoder, [self._row.draw], banned)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class Loop:
    """The loop of most tutorials behind the engine's interface: `model.generate` for each prompt, to its end.

    What the engine would not have waited for is cut off afterwards, so that the chains come out the same.
    """

    name = "loop"

    def __init__(self, options: argparse.Namespace) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(options.base)
        model: Any = AutoModelForCausalLM.from_pretrained(options.base, dtype=getattr(torch, options.dtype))
        model = PeftModel.from_pretrained(model, options.adapter) if options.adapter else model
        self._model = model.eval().to(options.device)

    def generate(
        self,
        prompts: Sequence[str],
        decoder: Decoder,
        *,
        on_answer: OnAnswer | None = None,
        watch: Watch | None = None,
    ) -> list[Generation]:
        said = [self._one(place, prompt, decoder, watch) for place, prompt in enumerate(prompts)]
        for place, one in enumerate(said if on_answer else ()):
            on_answer(place, one)
        return said

    def _one(self, place: int, prompt: str, decoder: Decoder, watch: Watch | None) -> Generation:
        inputs = self._tokenizer(prompt, return_tensors="pt").to(self._model.device)
        length = inputs["input_ids"].shape[1]
        request = Request(prompt, decoder, partial(watch, place) if watch else None)
        row = Row(Asked(place, request, inputs["input_ids"][0].tolist()), time.perf_counter())
        with torch.inference_mode():
            out = self._model.generate(
                **inputs,
                max_new_tokens=decoder.max_new_tokens,
                do_sample=False,
                logits_processor=[Choice(decoder, row, self._tokenizer)],
                pad_token_id=self._tokenizer.eos_token_id,
            )
        speech = Speech(tokenizer=self._tokenizer, ends=frozenset([self._tokenizer.eos_token_id]))
        for token in out[0, length:].tolist():
            row.tokens.append(token)
            if (ending := speech.ending(row)) is not None:
                return speech.generation(row, ending)
        return speech.generation(row, "length")


class Turn(NamedTuple):
    """One way, once."""

    seconds: float
    cpu_seconds: float
    led: list[Chain]


def run_speed(options: argparse.Namespace) -> None:
    """Everything is loaded before the first turn; no way is measured cold, for the chains are led once beforehand."""
    settings = Deepening(decoder=Decoder(max_new_tokens=options.tokens), rounds=1)
    fresh = openings(settings, options)
    taken: dict[str, list[Turn]] = {}
    with opened(options, batch_size=options.batch) as engine:

        def together() -> list[Chain]:
            engine.batch_size = options.batch
            return deepen(engine, fresh, settings)

        def one_by_one() -> list[Chain]:
            engine.batch_size = 1
            return [chain for one in fresh for chain in deepen(engine, [one], settings)]

        loop = Loop(options)
        ways = {
            "together": together,
            "one prompt after the other, same engine": one_by_one,
            "one prompt after the other, transformers.generate": lambda: [
                chain for one in fresh for chain in deepen(loop, [one], settings)
            ],
        }
        for way in (together, lambda: deepen(loop, fresh[:1], settings)):
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


def questions(chain: Chain) -> list[tuple[str, str, list[str]]]:
    return [(step.question, step.answer.answer, [one.question for one in step.candidates]) for step in chain.steps]


def about(options: argparse.Namespace) -> dict[str, object]:
    return {
        "depth": options.depth,
        "max_new_tokens": options.tokens,
        "batch_size": options.batch,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "dtype": options.dtype,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    """Measure, print, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("circles", "again", "speed"))
    parser.add_argument("base", nargs="?", help="folder or repo id; not needed for `again`")
    parser.add_argument("--adapter")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--keep", type=Path, default=Path("out") / "qtq-benchmark", help="an interrupted run goes on")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--chains", type=int, default=9, help="the first of the nine prepared questions")
    parser.add_argument("--repeats", type=int, default=3, help="of `speed`")
    parser.add_argument("--batch", type=int, default=36)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    speed = options.what == "speed"
    options.depth = options.depth or (2 if speed else 5)
    options.tokens = options.tokens or (64 if speed else 128)
    torch.set_num_threads(options.threads)
    {"circles": run_circles, "again": run_again, "speed": run_speed}[options.what](options)


if __name__ == "__main__":
    main()
