"""Question chains over the seedling: how often they go in circles, how deep they get, how much batching saves.

    python -m benchmarks.qtq circles BASE [--adapter FOLDER] [--depth 5] [--tokens 128] [--threads 2]
    python -m benchmarks.qtq speed BASE [--adapter FOLDER] [--depth 2] [--tokens 64] [--threads 2]

``circles`` leads the nine prepared questions, in English, twice with the same model and decoder: by perspectives and
judge, and by plainly asking for the next question and taking what comes. What is the same again is told by the judge
that chose the questions, and by measures that had no part in it: words in common (Dice), the records' own rule, and,
where ``benchmarks/results/qtq_read.json`` has them, the verdicts of a reader. All questions are printed into
``benchmarks/results/qtq_chains.md``.

``again`` measures the kept chains once more, after verdicts came or where the run was interrupted.

``speed`` leads the same nine chains together, and then one after the other with a single prompt at a time, by the same
engine and by the loop of most tutorials. Model and decoder are the same, greedy, and so should the chains be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

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
from bonsai.recipes.inference.generation.engine import Generation, OnAnswer, Watch
from bonsai.recipes.inference.generation.row import Asked, Row, Speech
from bonsai.recipes.inference.generation.transformers_engine import TransformersEngine

RESULTS = Path(__file__).parent / "results"
READ = RESULTS / "qtq_read.json"
SAME_WORDS = 0.6
"""Dice's share of word stems in common from which two questions count as the same"""


@contextlib.contextmanager
def opened(options: argparse.Namespace, batch_size: int) -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(options.base, dtype=getattr(torch, options.dtype), batch_size=batch_size)
    if options.adapter is None:
        yield engine
        return
    engine.add_adapter("seedling", options.adapter)
    with engine.using("seedling"):
        yield engine


def openings(settings: Deepening, depth: int) -> list[Chain]:
    return [begun(one, model="seedling", depth=depth, settings=settings) for one in prepared(Language.EN)]


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
            chains = [keeping.taken_up(chain) for chain in openings(settings, options.depth)]
            deepen(engine, chains, settings, on_step=keeping.write)
    run_again(options)


def run_again(options: argparse.Namespace) -> None:
    """Measure what is kept, finished or not, without a model."""
    keeping = Keeping(options.keep)
    named = {
        name: [keeping.taken_up(chain) for chain in openings(settings, options.depth)]
        for name, settings in both_ways(options).items()
    }
    tell(named, {"settings": about(options)} | {name: measured(chains) for name, chains in named.items()})


def tell(named: dict[str, list[Chain]], result: dict[str, object]) -> None:
    (RESULTS / "qtq_circles.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULTS / "qtq_chains.md").write_text(transcript(named), encoding="utf-8")
    Console().print_json(json.dumps(result))


class Loop:
    """The loop of most tutorials behind the engine's interface: `model.generate` for each prompt, to its end.

    What the engine would not have waited for is cut off afterwards, so that the chains come out the same.
    """

    name = "loop"

    def __init__(self, options: argparse.Namespace) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(options.base)
        model: Any = AutoModelForCausalLM.from_pretrained(options.base, dtype=getattr(torch, options.dtype))
        self._model = PeftModel.from_pretrained(model, options.adapter).eval() if options.adapter else model.eval()

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
        inputs = self._tokenizer(prompt, return_tensors="pt")
        started = time.perf_counter()
        with torch.inference_mode():
            out = self._model.generate(
                **inputs,
                max_new_tokens=decoder.max_new_tokens,
                **(
                    {"do_sample": True, "temperature": decoder.temperature, "top_p": decoder.top_p}
                    if decoder.temperature
                    else {"do_sample": False}
                ),
                repetition_penalty=decoder.repetition_penalty,
                no_repeat_ngram_size=decoder.no_repeat_ngram_size,
                pad_token_id=self._tokenizer.eos_token_id,
            )
        row = Row(Asked(place, prompt, ()), decoder.seed, started)
        speech = Speech(
            tokenizer=self._tokenizer, decoder=decoder, ends=frozenset([self._tokenizer.eos_token_id]), watch=watch
        )
        for token in out[0, inputs["input_ids"].shape[1] :].tolist():
            row.tokens.append(token)
            if (ending := speech.ending(row)) is not None:
                return speech.generation(row, ending)
        return speech.generation(row, "length")


def run_speed(options: argparse.Namespace) -> None:
    settings = Deepening(decoder=Decoder(max_new_tokens=options.tokens), rounds=1)
    fresh = openings(settings, options.depth)
    table = Table("nine chains", "seconds", "CPU seconds", "chains as together")
    result: dict[str, object] = {"settings": about(options)}
    together: list[Chain] = []
    first = (0.0, 0.0)
    for name, engine_of, at_a_time in (
        ("together", lambda: opened(options, batch_size=options.batch), len(fresh)),
        ("one prompt after the other, same engine", lambda: opened(options, batch_size=1), 1),
        ("one prompt after the other, transformers.generate", lambda: contextlib.nullcontext(Loop(options)), 1),
    ):
        with engine_of() as engine:
            started, started_cpu = time.perf_counter(), time.process_time()
            groups = [fresh[at : at + at_a_time] for at in range(0, len(fresh), at_a_time)]
            led = [chain for group in groups for chain in deepen(engine, group, settings)]
            wall, cpu = time.perf_counter() - started, time.process_time() - started_cpu
        together, first = together or led, first if together else (wall, cpu)
        same = sum(questions(one) == questions(other) for one, other in zip(together, led, strict=True))
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"{same} of {len(led)}")
        result[name] = {
            "seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
            "ratio": round(wall / first[0], 2),
            "cpu_ratio": round(cpu / first[1], 2),
            "same_chains": same,
        }
        (RESULTS / "qtq_speed.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    Console().print(table)


def questions(chain: Chain) -> list[tuple[str, str, list[str]]]:
    return [(step.question, step.answer.answer, [one.question for one in step.candidates]) for step in chain.steps]


def about(options: argparse.Namespace) -> dict[str, object]:
    return {
        "depth": options.depth,
        "max_new_tokens": options.tokens,
        "batch_size": options.batch,
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
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
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
