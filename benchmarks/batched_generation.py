"""How much faster the batched engine answers than one prompt at a time, and whether it says the same.

    python -m benchmarks.batched_generation BASE [--prompts 32] [--tokens 96] [--threads 2]

BASE is a folder or a repo id. The other side is the loop of most tutorials: `model.generate` for each prompt, greedy,
on the same model in float32. Prompts are English test rows of the records. CPU time is told too: on a machine that
others use, it is what the work took. The result is written to
``benchmarks/results/batched_generation.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonsai.builder.prompt import to_prompt_completion
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.rows import assign_split, group_to_rows
from bonsai.recipes.evaluation.items import evenly_spaced
from bonsai.recipes.inference.generation import GenerationSettings
from bonsai.recipes.inference.transformers_engine import TransformersEngine

RESULT = Path(__file__).parent / "results" / "batched_generation.json"


def prompts(count: int) -> list[str]:
    """Evenly spread over the English test rows."""
    groups = [one.group for one in read_groups(default_records_dir())]
    rows = [row for group in groups if assign_split(group) == "test" for row in group_to_rows(group)]
    asked = [row for row in rows if row["language"] == "en" and row["source_language"] is None]
    return [
        to_prompt_completion(row["instruction"], row["input"], "…", "").prompt for row in evenly_spaced(asked, count)
    ]


def one_at_a_time(model: Any, tokenizer: Any, asked: list[str], tokens: int) -> list[str]:
    """The tutorial's loop."""
    texts = []
    for prompt in asked:
        inputs = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        texts.append(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def main() -> None:
    """Measure both, print one table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    engine = TransformersEngine(model, tokenizer, name=options.base, batch_size=options.prompts)
    asked = prompts(options.prompts)
    decoder = GenerationSettings(max_new_tokens=options.tokens, stop_strings=())
    engine.generate(asked[:1], decoder)  # warm up
    started, started_cpu = time.perf_counter(), time.process_time()
    batched = engine.generate(asked, decoder)
    middle, middle_cpu = time.perf_counter(), time.process_time()
    single = one_at_a_time(model, tokenizer, asked, options.tokens)
    ended, ended_cpu = time.perf_counter(), time.process_time()
    same = sum(generation.text == text.rstrip("\ufffd") for generation, text in zip(batched, single, strict=True))
    total = sum(generation.tokens for generation in batched)
    result = {
        "prompts": len(asked),
        "prompt_tokens": sum(len(tokenizer(prompt).input_ids) for prompt in asked),
        "generated_tokens": total,
        "seconds_one_at_a_time": round(ended - middle, 1),
        "seconds_batched": round(middle - started, 1),
        "ratio": round((ended - middle) / (middle - started), 2),
        "cpu_seconds_one_at_a_time": round(ended_cpu - middle_cpu, 1),
        "cpu_seconds_batched": round(middle_cpu - started_cpu, 1),
        "cpu_ratio": round((ended_cpu - middle_cpu) / (middle_cpu - started_cpu), 2),
        "same_answers": same,
        "threads": options.threads,
        "dtype": "float32",
        "max_new_tokens": options.tokens,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("", "seconds", "CPU seconds", "generated tokens/s", "same answers")
    for name, seconds, cpu in (
        ("one at a time", ended - middle, ended_cpu - middle_cpu),
        ("batched", middle - started, middle_cpu - started_cpu),
    ):
        table.add_row(name, f"{seconds:.1f}", f"{cpu:.1f}", f"{total / seconds:.0f}", f"{same} of {len(asked)}")
    Console().print(table, f"ratio {result['ratio']}, of CPU time {result['cpu_ratio']}")


if __name__ == "__main__":
    main()
