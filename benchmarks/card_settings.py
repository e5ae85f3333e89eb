"""Measure which generation settings keep the form that the adapters' cards promise: Reasoning, then `### Response:`.

    python -m benchmarks.card_settings ADAPTER BASE DATASET [--gguf BASE.gguf] [--tokens 256]

Asks ten plain English questions and ten of the test split, greedily, by `transformers.generate` as the card's snippet
does, and by llama.cpp. For each setting it counts the answers that hold both parts, those that end by themselves, and
those that say the same again (the check of the records). A repetition penalty counts the prompt, markers included, in
transformers, vLLM and llama.cpp alike; `answer only` leaves the prompt out by ``prompt_ignore_length``, `marker free`
the tokens of the response marker too, as `bonsai ask` does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import transformers
from peft import PeftModel
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList
from transformers.generation import RepetitionPenaltyLogitsProcessor

from bonsai.builder.prompt import (
    INSTRUCTION_MARKER,
    REASONING_MARKER,
    RESPONSE_MARKER,
    SECTION_BREAK,
    format_instruction,
    parse_response,
)
from bonsai.recipes.evaluation.metrics import has_loop

RESULT = Path(__file__).parent / "results" / "card_settings.json"
QUESTIONS = (
    "Why does bread dough rise?",
    "Why is the sky blue?",
    "What is the capital of France?",
    "How does a bicycle stay upright?",
    "Name three uses of bamboo.",
    "Why do leaves fall in autumn?",
    "What makes a good question?",
    "How is paper made?",
    "Is a tomato a fruit or a vegetable?",
    "Why does ice float on water?",
)


LONGEST = 900
"""characters of a question of the test split"""

CONTEXT = 4096
"""tokens of a question and its answer in llama.cpp"""

console = Console(highlight=False)


class FrequencyPenalty(LogitsProcessor):
    """Subtract a constant for each time a token stands in the answer: vLLM's frequency_penalty."""

    def __init__(self, penalty: float, prompt: int) -> None:
        self.penalty, self.prompt = penalty, prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Logits of shape (B, V), each token's counted in its own row's answer."""
        counts = torch.zeros_like(scores)
        said = input_ids[:, self.prompt :]
        return scores - self.penalty * counts.scatter_add_(1, said, torch.ones_like(said, dtype=scores.dtype))


class MarkerFree(RepetitionPenaltyLogitsProcessor):
    """A repetition penalty over the answer that spares the tokens of the response marker."""

    def __init__(self, penalty: float, prompt: int, spared: list[int]) -> None:
        super().__init__(penalty, prompt_ignore_length=prompt)
        self.spared = spared

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Logits of shape (B, V)."""
        punished = super().__call__(input_ids, scores)
        punished[:, self.spared] = scores[:, self.spared]
        return punished


def test_questions(dataset: Path, count: int) -> list[str]:
    """English questions of the test split that have a Reasoning and no long input, evenly spaced."""
    rows = [row for path in sorted(dataset.glob("default/test*.parquet")) for row in pq.read_table(path).to_pylist()]
    texts = [
        format_instruction(row["instruction"], row["input"])
        for row in rows
        if row["language"] == "en" and row["reasoning"]
    ]
    short = [text for text in texts if len(text) < LONGEST]
    return [short[number * len(short) // count] for number in range(count)]


def judged(texts: list[str], ended: list[bool]) -> dict[str, Any]:
    """How many of the texts hold the form, ended by themselves, and loop."""
    both = [bool(part.reasoning and part.answer) for part in map(parse_response, texts)]
    return {
        "questions": len(texts),
        "marker": sum(RESPONSE_MARKER.strip() in text for text in texts),
        "both_parts": sum(both),
        "both_parts_of_first_ten": sum(both[: len(QUESTIONS)]),
        "ended": sum(ended),
        "loops": sum(has_loop(text, refrain=False) > 0 for text in texts),
        "first_answer": texts[0],
    }


def by_transformers(adapter: Path, base: str, asked: list[str], tokens: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Greedy, in one batch padded on the left."""
    tokenizer = AutoTokenizer.from_pretrained(adapter, padding_side="left")
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(plain, adapter).merge_and_unload().eval()
    turns = [[{"role": "user", "content": question}] for question in asked]
    prompt = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    width = prompt["input_ids"].shape[1]
    spared = sorted(set(tokenizer(f"{SECTION_BREAK}{RESPONSE_MARKER}", add_special_tokens=False).input_ids))

    def processed(chosen: LogitsProcessor) -> dict[str, Any]:
        return {"logits_processor": LogitsProcessorList([chosen])}

    settings: dict[str, dict[str, Any]] = {
        "none": {},
        "repetition_penalty 1.15": {"repetition_penalty": 1.15},
        "repetition_penalty 1.05": {"repetition_penalty": 1.05},
        "repetition_penalty 1.15, encoder_repetition_penalty 1.15": {
            "repetition_penalty": 1.15,
            "encoder_repetition_penalty": 1.15,
        },
        "repetition_penalty 1.15, answer only": processed(
            RepetitionPenaltyLogitsProcessor(1.15, prompt_ignore_length=width)
        ),
        "repetition_penalty 1.15, marker free": processed(MarkerFree(1.15, width, spared)),
        "frequency_penalty 0.2, answer only": processed(FrequencyPenalty(0.2, width)),
        **{f"no_repeat_ngram_size {size}": {"no_repeat_ngram_size": size} for size in (5, 8, 12, 16, 24)},
    }
    for name, chosen in settings.items():
        with torch.inference_mode():
            answers = model.generate(**prompt, max_new_tokens=tokens, do_sample=False, **chosen)[:, width:]
        ended = [bool((row == tokenizer.eos_token_id).any()) for row in answers]
        yield f"transformers: {name}", judged(tokenizer.batch_decode(answers, skip_special_tokens=True), ended)


def by_llama_cpp(model: Path, lora: Path, asked: list[str], tokens: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Greedy, over the base's own GGUF."""
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup, params.verbosity = str(model), CONTEXT, False, -1
    params.cpuparams.n_threads = 1
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
    server: Any = xllamacpp.Server(params)
    dry = {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_penalty_last_n": CONTEXT}
    settings: dict[str, dict[str, Any]] = {
        "none": {},
        "repeat_penalty 1.15": {"repeat_penalty": 1.15},
        "dry 0.8, allowed length 6": {**dry, "dry_allowed_length": 6},
        "dry 0.8, allowed length 12": {**dry, "dry_allowed_length": 12},
    }
    for name, chosen in settings.items():
        texts, ended = [], []
        for question in asked:
            told = server.handle_completions(
                {
                    "prompt": f"{INSTRUCTION_MARKER}{question}{SECTION_BREAK}{REASONING_MARKER}",
                    "max_tokens": tokens,
                    "temperature": 0,
                    "stream": False,
                    **chosen,
                }
            )
            told = json.loads(told) if isinstance(told, str) else told
            texts.append(told["choices"][0]["text"])
            ended.append(told["choices"][0]["finish_reason"] == "stop")
        yield f"llama.cpp: {name}", judged(texts, ended)


def main() -> None:
    """Measure every setting and write the result after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("base")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--gguf", type=Path, help="the base as GGUF, for llama.cpp")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    asked = [*QUESTIONS, *test_questions(options.dataset, 10)]
    measured = by_transformers(options.adapter, options.base, asked, options.tokens)
    if options.gguf:
        lora = next(options.adapter.glob("*.gguf"))
        measured = itertools.chain(measured, by_llama_cpp(options.gguf, lora, asked, options.tokens))
    found: dict[str, dict[str, Any]] = {}
    for name, figures in measured:
        found[name] = figures
        console.print(name, {key: value for key, value in figures.items() if key != "first_answer"})
        told = {
            "adapter": options.adapter.name,
            "tokens": options.tokens,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "machine": platform.machine(),
            "settings": found,
        }
        options.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
