"""Question chains over the seedling: how often they go in circles, and how deep they get.

    python -m benchmarks.qtq circles BASE [--adapter FOLDER] [--depth 5] [--tokens 128] [--device cuda|cpu]
    python -m benchmarks.qtq again [--adapter FOLDER]

``circles`` leads the nine prepared questions, in English, twice with the same model and decoder: by perspectives and
judge, and by plainly asking for the next question and taking what comes. What is the same again is told by the judge
that chose the questions, and by measures that had no part in it: words in common (Dice), the records' own rule, and,
where ``benchmarks/results/qtq_read.json`` has them, the verdicts of a reader. All questions are printed into
``benchmarks/results/qtq_chains.md``.

``again`` measures the kept chains once more, after verdicts came or where the run was interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console

from benchmarks.qtq_setting import RESULTS, about, opened, openings, parser
from bonsai.builder.checks.chains import SAME_FROM as REWORDING_FROM
from bonsai.builder.checks.paraphrase import embed, paraphrase_probability
from bonsai.builder.checks.reasoning import dice_overlap
from bonsai.recipes.inference.conversation import QuestionChain
from bonsai.recipes.inference.generation import GenerationSettings
from bonsai.recipes.inference.qtq import ChainStore, QtQSettings, run_chains
from bonsai.recipes.inference.qtq_judge import extract_question
from bonsai.recipes.inference.question_similarity import SAME_FROM, same_question_probability

READ = RESULTS / "qtq_read.json"
SAME_WORDS = 0.6
"""Dice's share of word stems in common from which two questions count as the same"""


def judge(earlier: str, question: str) -> bool:
    return same_question_probability(earlier, question) >= SAME_FROM


def same_words(earlier: str, question: str) -> bool:
    return dice_overlap(earlier, question) >= SAME_WORDS


def records_rule(earlier: str, question: str) -> bool:
    one, other = embed([earlier, question])
    return paraphrase_probability(earlier, question, float(one @ other)) >= REWORDING_FROM


MEASURES: dict[str, Callable[[str, str], bool]] = {
    "judge": judge,
    "same_words": same_words,
    "records_rule": records_rule,
}


def circles(chain: QuestionChain, same: Callable[[str, str], bool]) -> list[int]:
    """The steps whose question asks again what an earlier step asked."""
    questions = [step.question for step in chain.steps]
    return [at + 1 for at in range(1, len(questions)) if any(same(one, questions[at]) for one in questions[:at])]


def verdicts() -> dict[str, str]:
    """By theme and question, what a reader found: tautology, astray, nonsense, sideways or deeper."""
    return json.loads(READ.read_text(encoding="utf-8")) if READ.is_file() else {}


def measured(chains: Sequence[QuestionChain]) -> dict[str, object]:
    asked = sum(len(chain.steps) - 1 for chain in chains)
    found: dict[str, object] = {
        "chains": len(chains),
        "next_questions": asked,
        "steps_reached": round(fmean(len(chain.steps) for chain in chains), 2),
        "chains_at_full_depth": sum(len(chain.steps) >= chain.depth for chain in chains),
        "chains_that_ended": sum(chain.ended_because is not None for chain in chains),
        "chains_interrupted": sum(not chain.complete for chain in chains),
        "asks_nothing": sum(not extract_question(step.question) for chain in chains for step in chain.steps[1:]),
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


def transcript(named: dict[str, list[QuestionChain]]) -> str:
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


def both_ways(options: argparse.Namespace) -> dict[str, QtQSettings]:
    decoder = GenerationSettings(max_new_tokens=options.tokens)
    return {"perspectives and judge": QtQSettings(decoder=decoder), "plain": QtQSettings(decoder=decoder, plain=True)}


def run_circles(options: argparse.Namespace) -> None:
    keeping = ChainStore(options.keep)
    with opened(options, batch_size=options.batch) as engine:
        for settings in both_ways(options).values():
            chains = [keeping.load_or_new(chain) for chain in openings(settings, options)]
            run_chains(engine, chains, settings, on_step=keeping.write)
    run_again(options)


def run_again(options: argparse.Namespace) -> None:
    """Measure what is kept, finished or not, without a model."""
    keeping = ChainStore(options.keep)
    named = {
        name: [keeping.load_or_new(chain) for chain in openings(settings, options)]
        for name, settings in both_ways(options).items()
    }
    tell(named, {"settings": about(options)} | {name: measured(chains) for name, chains in named.items()})


def tell(named: dict[str, list[QuestionChain]], result: dict[str, object]) -> None:
    (RESULTS / "qtq_circles.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULTS / "qtq_chains.md").write_text(transcript(named), encoding="utf-8")
    Console().print_json(json.dumps(result))


def main() -> None:
    """Measure, print, keep the result."""
    asked = parser(__doc__, depth=5, tokens=128)
    asked.add_argument("what", choices=("circles", "again"))
    asked.add_argument("base", nargs="?", help="folder or repo id; not needed for `again`")
    asked.add_argument("--keep", type=Path, default=Path("out") / "qtq-benchmark", help="an interrupted run goes on")
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    {"circles": run_circles, "again": run_again}[options.what](options)


if __name__ == "__main__":
    main()
