"""What asking in two passes and the guard against loops bring, and how soon the first word is there.

    python -m benchmarks.asking BASE ADAPTER DATASET [--questions 200] [--languages en,ja] [--bare]
        [--device cuda|cpu] [--dtype float16|nf4|…] [--batch 256] [--tokens 160]

BASE and ADAPTER are folders or repo ids, DATASET is a build: a folder of Parquet like ``out/dataset``. One pass alone,
which is what the engine says to the adapters' prompt, is compared with `ask`, greedy, on the same questions: with the
adapter and, by ``--bare``, with the base that no adapter lies over. For each question it is told whether there is a
Reasoning, whether the text says the same again (the check of the records, and seq-rep-4), whether the answer is in
another language than it should be, whether it ended by itself, and chrF against the reference; each with the mean
difference and its 95% bootstrap interval over questions. What the adapter's run saw of the questions is told too.

After each arm the result is written to ``--out`` and all texts to ``--texts``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import pyarrow.parquet
import torch
import transformers
from rich.console import Console

from bonsai.builder.checks.repetition import allows_repetition
from bonsai.builder.prompt import parse_response
from bonsai.builder.schema import CATEGORIES, Category, Language
from bonsai.recipes.evaluation.metrics import chrf, has_loop, language_match, seq_rep_4
from bonsai.recipes.evaluation.statistics import mean_interval, paired_difference
from bonsai.recipes.inference.ask import ask
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.generation import GenerationSettings
from bonsai.recipes.inference.prompts import one_pass_prompt
from bonsai.recipes.inference.transformers_engine import TransformersEngine

RESULT = Path(__file__).parent / "results" / "asking.json"
SPLITS = ("test", "validation", "train")
ADAPTER = "adapter"
BATCH_SIZES = {"cuda": 256, "cpu": 64}
NF4 = "nf4"
TIMED = 8
"""questions whose first word is waited for"""

console = Console(highlight=False)


class Known(NamedTuple):
    """A question and its reference answer."""

    id: str
    group: str
    split: str
    question: Question
    language: Language
    reference: str


class Said(NamedTuple):
    """A text as it is judged."""

    reasoning: str
    answer: str
    stopped_by: str


def trained_on(adapter: Path) -> set[str] | None:
    """The rows that the steps of the adapter's run saw; None: it does not tell."""
    run = adapter / "training" / "run.json"
    if not run.is_file():
        return None
    told = json.loads(run.read_text(encoding="utf-8"))
    return {record for step in told["losses"] for record in step.get("records", ())} or None


def known(dataset: Path, language: Language, count: int, trained: set[str]) -> list[Known]:
    """Questions that are no translations: test, then validation, then what training saw least of train, evenly spread.

    Args:
        trained: ids of rows; a row whose group was learnt from in another language comes before a row that was learnt.
    """
    ranked: dict[tuple[int, bool, bool], list[Known]] = {}
    groups = {row.rpartition("-")[0] for row in trained}
    for place, split in enumerate(SPLITS):
        for row in _rows(dataset, split):
            if row["language"] == language and CATEGORIES[row["category"]] != Category.TRANSLATION:
                question = Question(instruction=row["instruction"], input=row["input"])
                one = Known(row["id"], row["group_id"], split, question, language, row["output"])
                ranked.setdefault((place, one.id in trained, one.group in groups), []).append(one)
    found: list[Known] = []
    for rank in sorted(ranked):
        found += evenly(ranked[rank], count - len(found))
    return found


def _rows(dataset: Path, split: str) -> list[dict[str, Any]]:
    files = sorted((dataset / "default").glob(f"{split}-*.parquet"))
    if not files:
        raise SystemExit(f"{dataset / 'default'}: no {split}-*.parquet; give the folder of a build, as `out/dataset`")
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def evenly(items: Sequence[Known], most: int) -> list[Known]:
    """At most so many, evenly spaced: rows lie in the order of their categories."""
    return list(items) if len(items) <= most else [items[number * len(items) // most] for number in range(most)]


def about(asked: Sequence[Known], trained: set[str] | None) -> dict[str, Any]:
    """Where the questions come from, and what training saw of them."""
    told: dict[str, Any] = {"questions": len(asked), "split": dict(Counter(one.split for one in asked))}
    if trained is None:
        return told | {"seen_in_training": "the adapter has no training/run.json that tells"}
    groups = {row.rpartition("-")[0] for row in trained}
    return told | {
        "seen_in_training": sum(one.id in trained for one in asked),
        "seen_in_training_in_another_language": sum(one.id not in trained and one.group in groups for one in asked),
    }


def scores(asked: Sequence[Known], said: Sequence[Said]) -> dict[str, list[float | None]]:
    """Each measure's figure for each question; None where it does not apply."""
    texts = list(zip(asked, said, strict=True))
    return {
        "with_reasoning": [float(bool(text.reasoning)) for text in said],
        "with_answer": [float(bool(text.answer)) for text in said],
        "looping": [_loops(one, text) for one, text in texts],
        "seq_rep_4": [seq_rep_4(f"{text.reasoning}\n{text.answer}") for text in said],
        "wrong_language": [_wrong(language_match(text.answer, one.language, one.reference)) for one, text in texts],
        "ends_by_itself": [float(text.stopped_by == "eos") for text in said],
        "chrf": [chrf(text.answer, one.reference) for one, text in texts],
        "characters": [float(len(text.answer)) for text in said],
    }


def _loops(one: Known, said: Said) -> float:
    refrain = allows_repetition(one.question.instruction)
    return max(has_loop(text, refrain=refrain) for text in (said.reasoning, said.answer))


def _wrong(right: float | None) -> float | None:
    return None if right is None else 1 - right


def judged(found: dict[str, list[float | None]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, figures in found.items():
        if applying := [figure for figure in figures if figure is not None]:
            mean = mean_interval(applying)
            told[name] = {"mean": round(mean.value, 4), "low": round(mean.low, 4), "high": round(mean.high, 4)}
            told[name] |= {"of": len(applying)}
    return told


def differences(before: dict[str, list[float | None]], after: dict[str, list[float | None]]) -> dict[str, Any]:
    """`ask` less one pass, where the measure applies to both."""
    told: dict[str, Any] = {}
    for name in before:
        pairs = [
            (one, other)
            for one, other in zip(before[name], after[name], strict=True)
            if one is not None and other is not None
        ]
        if pairs:
            difference = paired_difference(*zip(*pairs, strict=True))
            told[name] = {key: round(value, 4) for key, value in difference._asdict().items()} | {"of": len(pairs)}
    return told


def one_pass_alone(
    engine: TransformersEngine, asked: Sequence[Known], decoder: GenerationSettings
) -> tuple[list[Said], Any]:
    started = time.perf_counter()
    said = engine.generate([one_pass_prompt(one.question) for one in asked], decoder)
    seconds = round(time.perf_counter() - started, 1)
    return [Said(*parse_response(text.text), text.stopped_by) for text in said], {
        "tokens": sum(text.tokens for text in said),
        "seconds": seconds,
        "stopped_by": dict(Counter(text.stopped_by for text in said)),
    }


def asked_by_ask(
    engine: TransformersEngine, asked: Sequence[Known], decoder: GenerationSettings
) -> tuple[list[Said], Any]:
    started = time.perf_counter()
    answers = ask(engine, [one.question for one in asked], decoder=decoder)
    seconds = round(time.perf_counter() - started, 1)
    return [Said(answer.reasoning, answer.answer, answer.stopped_by) for answer in answers], {
        "tokens": sum(answer.tokens for answer in answers),
        "seconds": seconds,
        "stopped_by": dict(Counter(answer.stopped_by for answer in answers)),
        **how(answers),
    }


def how(answers: Sequence[Answer]) -> dict[str, int]:
    return {
        "two_passes": sum(answer.passes == 2 for answer in answers),
        "retried": sum(answer.retried_because is not None for answer in answers),
        "retry_kept": sum(
            answer.retried_because is not None and "second text is" in answer.retried_because.en for answer in answers
        ),
    }


def first_word(engine: TransformersEngine, asked: Sequence[Known]) -> list[float]:
    """Seconds until there is something to read, one question at a time, the model loaded."""
    seconds = []
    for one in asked:
        times: list[float] = []
        started = time.perf_counter()
        ask(
            engine,
            [one.question],
            decoder=GenerationSettings(max_new_tokens=2),
            passes="one",
            on_text=lambda *_, times=times, started=started: times.append(time.perf_counter() - started),
        )
        seconds += [round(times[0], 3)] if times else []
    return seconds


class Written:
    """The result and the texts as they are on disk."""

    def __init__(self, out: Path, texts: Path, settings: dict[str, Any]) -> None:
        self.result: dict[str, Any] = {"settings": settings}
        self._out = out
        self._texts = texts
        texts.parent.mkdir(parents=True, exist_ok=True)
        texts.write_text("", encoding="utf-8")

    def add(self, place: Sequence[str], told: Any) -> None:
        inner = self.result
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
        inner[place[-1]] = told
        self._out.write_text(json.dumps(self.result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        console.print(" ".join(place), told)

    def add_texts(self, arm: Sequence[str], asked: Sequence[Known], said: Sequence[Said]) -> None:
        with self._texts.open("a", encoding="utf-8") as file:
            for one, text in zip(asked, said, strict=True):
                row = {"arm": " ".join(arm), "id": one.id, "question": one.question.instruction, **text._asdict()}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def measure(engine: TransformersEngine, options: argparse.Namespace, written: Written) -> None:
    trained = trained_on(Path(options.adapter))
    decoder = GenerationSettings(max_new_tokens=options.tokens)
    for language in options.languages:
        asked = known(options.dataset, language, options.questions, trained or set())
        written.add((language, "questions"), about(asked, trained))
        for model in (ADAPTER, *(("bare",) if options.bare else ())):
            found = []
            for way, run in (("one_pass", one_pass_alone), ("ask", asked_by_ask)):
                with engine.using(ADAPTER) if model == ADAPTER else contextlib.nullcontext():
                    said, cost = run(engine, asked, decoder)
                found.append(scores(asked, said))
                written.add_texts((language, model, way), asked, said)
                written.add((language, model, way), judged(found[-1]) | cost)
            written.add((language, model, "ask_less_one_pass"), differences(*found))
        with engine.using(ADAPTER):
            seconds = first_word(engine, evenly(asked, TIMED))
        told = {"first": seconds[0], "median": median(seconds), "most": max(seconds), "mean": round(fmean(seconds), 3)}
        written.add((language, ADAPTER, "seconds_to_first_word"), told)


def main() -> None:
    """Measure, print, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("adapter")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--questions", type=int, default=200, help="of each language")
    parser.add_argument("--languages", type=lambda told: [Language(one) for one in told.split(",")], default="en,ja")
    parser.add_argument("--bare", action="store_true", help="ask the base without the adapter too")
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=(NF4, "float16", "bfloat16", "float32"), help="float16 on a GPU, else 32")
    parser.add_argument("--batch", type=int, help=f"prompts answered together; {BATCH_SIZES}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--texts", type=Path, default=Path("out") / "asking-benchmark" / "texts.jsonl")
    options = parser.parse_args()
    options.dtype = options.dtype or ("float16" if options.device == "cuda" else "float32")
    if options.dtype == NF4 and options.device == "cpu":
        parser.error("nf4 is for a GPU; on a CPU give float32 or bfloat16")
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    engine = TransformersEngine.load(
        options.base,
        dtype=None if options.dtype == NF4 else getattr(torch, options.dtype),
        device=options.device,
        batch_size=options.batch or BATCH_SIZES[options.device],
    )
    engine.add_adapter(ADAPTER, options.adapter)
    settings = {
        "date": datetime.now(UTC).date().isoformat(),
        "base": Path(options.base).name,
        "adapter": Path(options.adapter).name,
        "weights": "NF4, computed in float16" if options.dtype == NF4 else options.dtype,
        "decoder": asdict(GenerationSettings(max_new_tokens=options.tokens)),
        "batch_size": engine.batch_size,
        "device": engine.device,
        "threads": options.threads,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    measure(engine, options, Written(options.out, options.texts, settings))


if __name__ == "__main__":
    main()
