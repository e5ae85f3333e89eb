"""What asking in two passes and the guard against loops bring, and how soon the first word is there.

    python -m benchmarks.asking BASE ADAPTER DATASET [--questions 200] [--others 24] [--tokens 160] [--threads 1]

BASE and ADAPTER are folders or repo ids, DATASET is a build (``out/dataset``). One pass alone, which is what the engine
says to the adapters' prompt, is compared with `ask`, greedy, on the same questions: English ones with the adapter, and
fewer with the bare base and in Japanese. Told are how many have a Reasoning, how many say the same again by two
measures (the check of the records, and seq-rep-4), and chrF against the reference. The result is written to
``benchmarks/results/asking_seedling.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import datasets
import torch
import transformers
from rich.console import Console

from bonsai.builder.schema import Category, Language
from bonsai.recipes.evaluation.form import loops, repeated_ngrams
from bonsai.recipes.evaluation.intervals import paired_difference
from bonsai.recipes.evaluation.items import evenly
from bonsai.recipes.evaluation.translation import chrf
from bonsai.recipes.inference.answer_parts import parts
from bonsai.recipes.inference.asking.ask import ask
from bonsai.recipes.inference.asking.guard import may_repeat
from bonsai.recipes.inference.asking.wording import one_pass
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.transformers_engine import TransformersEngine

RESULT = Path(__file__).parent / "results" / "asking_seedling.json"
SPLITS = ("test", "validation", "train")
ADAPTER = "adapter"
BATCH_SIZE = 64
TIMED = 8
"""questions whose first word is waited for"""

console = Console(highlight=False)


class Known(NamedTuple):
    """A question and its reference answer."""

    question: Question
    reference: str


class Said(NamedTuple):
    """A text as it is judged."""

    reasoning: str
    answer: str


def known(dataset: Path, language: Language, count: int) -> list[Known]:
    """Questions that are no translations: those of the test split first, evenly spread over what is left."""
    found: list[Known] = []
    for split in SPLITS:
        files = str(dataset / "default" / f"{split}-*.parquet")
        rows = datasets.load_dataset("parquet", data_files=files, split="train")
        names = rows.features["category"].names
        wanted = [
            Known(Question(instruction=row["instruction"], input=row["input"]), row["output"])
            for row in rows
            if row["language"] == language and names[row["category"]] != Category.TRANSLATION
        ]
        found += evenly(wanted, count - len(found))
    return found


def judged(asked: Sequence[Known], said: Sequence[Said]) -> dict[str, float]:
    texts = list(zip(asked, said, strict=True))
    looping = [_loops(one, text) for one, text in texts]
    return {
        "with_reasoning": sum(bool(text.reasoning) for text in said),
        "looping": sum(looping),
        "looping_share": round(fmean(looping), 4),
        "seq_rep_4": round(fmean(repeated_ngrams(f"{text.reasoning}\n{text.answer}") for text in said), 4),
        "chrf": round(fmean(chrf(text.answer, one.reference) for one, text in texts), 2),
        "characters": round(fmean(len(text.answer) for text in said), 1),
    }


def _loops(one: Known, said: Said) -> bool:
    refrain = may_repeat(one.question.instruction)
    return any(loops(text, refrain=refrain) == 1 for text in said)


def compared(engine: TransformersEngine, asked: Sequence[Known], decoder: Decoder) -> dict[str, Any]:
    questions = [one.question for one in asked]
    started = time.perf_counter()
    alone = engine.generate([one_pass(question) for question in questions], decoder)
    between = time.perf_counter()
    answers = ask(engine, questions, decoder=decoder)
    ended = time.perf_counter()
    before = [Said(*parts(generation.text)) for generation in alone]
    after = [Said(answer.reasoning, answer.answer) for answer in answers]
    scores = [
        [chrf(text.answer, one.reference) for one, text in zip(asked, side, strict=True)] for side in (before, after)
    ]
    looped = [number for number, one in enumerate(asked) if _loops(one, before[number])]
    result = {
        "questions": len(asked),
        "one_pass_alone": judged(asked, before)
        | {"tokens": sum(generation.tokens for generation in alone), "seconds": round(between - started, 1)},
        "ask": judged(asked, after)
        | {"tokens": sum(answer.tokens for answer in answers), "seconds": round(ended - between, 1)}
        | how(answers),
        "chrf_difference": asdict_rounded(paired_difference(*scores)),
    }
    if looped:
        result["chrf_where_one_pass_looped"] = {
            "questions": len(looped),
            "one_pass_alone": round(fmean(scores[0][number] for number in looped), 2),
            "ask": round(fmean(scores[1][number] for number in looped), 2),
        }
    return result


def how(answers: Sequence[Answer]) -> dict[str, int]:
    return {
        "two_passes": sum(answer.passes == 2 for answer in answers),
        "retried": sum(answer.retried_because is not None for answer in answers),
        "retry_kept": sum("second text" in (answer.retried_because or "") for answer in answers),
    }


def asdict_rounded(difference: Any) -> dict[str, float]:
    return {name: round(value, 3) for name, value in difference._asdict().items()}


def first_word(engine: TransformersEngine, asked: Sequence[Known], decoder: Decoder) -> list[float]:
    """Seconds until there is something to read, one question at a time; the first finds the model cold."""
    seconds = []
    for one in asked:
        times: list[float] = []
        started = time.perf_counter()
        ask(
            engine,
            [one.question],
            decoder=decoder,
            passes="one",
            on_text=lambda *_, times=times, started=started: times.append(time.perf_counter() - started),
        )
        seconds.append(round(times[0], 3))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("adapter")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--others", type=int, default=24, help="of the bare base, and in Japanese")
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    engine = TransformersEngine.load(options.base, batch_size=BATCH_SIZE)
    engine.add_adapter(ADAPTER, options.adapter)
    decoder = Decoder(max_new_tokens=options.tokens)
    english = known(options.dataset, Language.EN, options.questions)
    japanese = known(options.dataset, Language.JA, options.others)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "base": Path(options.base).name,
        "adapter": Path(options.adapter).name,
        "decoder": asdict(decoder),
        "batch_size": BATCH_SIZE,
        "threads": options.threads,
        "dtype": engine.dtype,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    for name, asked, adapter in (
        ("english_adapter", english, ADAPTER),
        ("english_bare_base", evenly(english, options.others), None),
        ("japanese_adapter", japanese, ADAPTER),
        ("japanese_bare_base", japanese, None),
    ):
        with engine.using(adapter) if adapter else contextlib.nullcontext():
            result[name] = compared(engine, asked, decoder)
        console.print(name, result[name])
        _write(result)
    torch.set_num_threads(2)
    with engine.using(ADAPTER):
        seconds = first_word(engine, evenly(english, TIMED), Decoder(max_new_tokens=2))
    result["seconds_to_first_word"] = {
        "threads": 2,
        "cold": seconds[0],
        "median": median(seconds),
        "most": max(seconds),
    }
    console.print(result["seconds_to_first_word"])
    _write(result)


def _write(result: dict[str, Any]) -> None:
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
