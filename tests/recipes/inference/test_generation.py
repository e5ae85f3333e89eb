"""The batched engine over tiny random models: the same words as one prompt at a time, whatever happens on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
)

from bonsai.recipes.inference.batching import prompt_rng, sample_next_tokens
from bonsai.recipes.inference.generation import (
    BLOG_POST,
    GREEDY,
    PRESETS,
    Completion,
    GenerationError,
    GenerationSettings,
)
from bonsai.recipes.inference.transformers_engine import TransformersEngine, _load_errors
from tests.recipes.tiny import TINY_CONFIGS, tiny_tokenizer, write_tiny, write_tiny_llama

PROMPTS = [
    "### Instruction:\nWhy?\n\n### Reasoning:\n",
    "東京",
    "a" * 70,
    "### Instruction:\nName a river of Japan, and one of China.\n\n### Reasoning:\n",
    "x",
    "信濃川は日本で一番長い川です。",
    "b",
]
SHORT = GenerationSettings(max_new_tokens=24)
SAMPLED = GenerationSettings(max_new_tokens=24, temperature=0.9, top_p=0.95, repetition_penalty=1.15)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


def engine_over(base: Path, batch_size: int = 4) -> TransformersEngine:
    return TransformersEngine.load(base, batch_size=batch_size)


def one_at_a_time(
    folder: Path, prompts: list[str], tokens: int, processors: Callable[[int], LogitsProcessorList] | None = None
) -> list[str]:
    """transformers' own loop, in float32; the processors are told how many tokens the prompt has."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        out = model.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
            logits_processor=processors(inputs["input_ids"].shape[1]) if processors else None,
        )
        said = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        texts.append(said.rstrip("\ufffd"))
    return texts


def texts(generations: list[Completion]) -> list[str]:
    return [generation.text for generation in generations]


@pytest.mark.parametrize("name", ["llama", *TINY_CONFIGS])
def test_a_batch_says_what_each_prompt_says_alone(name: str, base: Path, tmp_path: Path) -> None:
    folder = base if name == "llama" else write_tiny(tmp_path, TINY_CONFIGS[name])
    assert texts(engine_over(folder).generate(PROMPTS, SHORT)) == one_at_a_time(folder, PROMPTS, 24)


@pytest.mark.slow
@pytest.mark.skipif("BONSAI_SEEDLING_BASE" not in os.environ, reason="BONSAI_SEEDLING_BASE names no seedling base")
def test_a_batch_says_what_each_prompt_says_alone_on_the_seedling() -> None:
    folder = Path(os.environ["BONSAI_SEEDLING_BASE"])
    assert texts(engine_over(folder).generate(PROMPTS, SHORT)) == one_at_a_time(folder, PROMPTS, 24)


def test_answers_come_back_in_the_order_of_the_prompts_and_each_is_told_once(base: Path) -> None:
    told: dict[int, Completion] = {}
    generations = engine_over(base, 3).generate(PROMPTS, SHORT, on_answer=lambda at, one: told.update({at: one}))
    assert [told[place] for place in range(len(PROMPTS))] == generations
    assert list(told) != sorted(told), "the longest prompts are answered first"


def test_sampled_answers_do_not_depend_on_the_batch_and_do_on_the_seed(base: Path) -> None:
    together = texts(engine_over(base, 8).generate(PROMPTS, SAMPLED))
    assert together == [texts(engine_over(base).generate([prompt], SAMPLED))[0] for prompt in PROMPTS]
    assert together != texts(engine_over(base, 8).generate(PROMPTS, GenerationSettings(**{**vars(SAMPLED), "seed": 7})))


def test_the_base_alone_and_its_adapters_answer_from_one_load(base: Path, adapter: Path) -> None:
    engine = engine_over(base)
    bare = texts(engine.generate(PROMPTS, SHORT))
    engine.add_adapter("one", adapter)
    engine.add_adapter("two", adapter)
    assert texts(engine.generate(PROMPTS, SHORT)) == bare
    with engine.using("one"):
        adapted = texts(engine.generate(PROMPTS, SHORT))
        assert engine.name == f"{base} + one"
    with engine.using("two"):
        assert texts(engine.generate(PROMPTS, SHORT)) == adapted
    assert adapted != bare
    assert texts(engine.generate(PROMPTS, SHORT)) == bare
    with pytest.raises(GenerationError, match=r"no adapter 'three' is loaded over .*; call add_adapter first"):
        engine.using("three").__enter__()


class Counting(LlamaForCausalLM):
    """Says 'ab' for ever after a's, and ends after b's: a scripted model behind the real interface."""

    def forward(self, input_ids: torch.Tensor, **settings: Any) -> Any:  # type: ignore[override]
        out = super().forward(input_ids=input_ids, **settings)
        out.logits = torch.nn.functional.one_hot(self.follows[input_ids[:, -1:]], out.logits.shape[-1]).float()
        if self.runner_up is not None:
            out.logits[..., self.runner_up] = 0.9
        return out


def scripted(pairs: dict[str, str], *, runner_up: str | None = None) -> TransformersEngine:
    """Each character is followed by its partner, ``.`` by the end; ``runner_up`` is nearly as likely everywhere."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(tokenizer)
    )
    config.eos_token_id = tokenizer.eos_token_id
    model = Counting(config)
    model.follows = torch.zeros(len(tokenizer), dtype=torch.long)
    ids = {character: tokenizer(character).input_ids[0] for character in {*pairs, *pairs.values()} - {"."}}
    model.runner_up = None if runner_up is None else tokenizer(runner_up).input_ids[0]
    for before, after in pairs.items():
        model.follows[ids[before]] = tokenizer.eos_token_id if after == "." else ids[after]
    return TransformersEngine(model, tokenizer, name="scripted")


def test_an_answer_tells_what_ended_it() -> None:
    engine = scripted({"a": "b", "b": "a", "c": "d", "d": "."})
    decoder = GenerationSettings(max_new_tokens=9, stop_strings=("ba",))
    ended, stopped, cut = (engine.generate([p], d)[0] for p, d in (("c", decoder), ("a", decoder), ("a", SHORT)))
    assert (ended.text, ended.tokens, ended.stopped_by, ended.stopped_by_eos) == ("d", 2, "eos", True)
    assert (stopped.text, stopped.tokens, stopped.stopped_by) == ("", 2, "stop_string")
    assert (cut.text, cut.tokens, cut.stopped_by) == ("ba" * 12, 24, "length")


def test_who_watches_sees_each_token_and_may_end_an_answer() -> None:
    seen: list[tuple[int, str]] = []

    def watch(place: int, text: str) -> bool:
        seen.append((place, text))
        return len(text) == 3

    answer = scripted({"a": "b", "b": "a"}).generate(["a"], SHORT, watch=watch)[0]
    assert seen == [(0, "b"), (0, "ba"), (0, "bab")]
    assert (answer.text, answer.stopped_by) == ("bab", "watch")


class OfTheAnswer(RepetitionPenaltyLogitsProcessor):
    """transformers' own penalty, without the marker before the answer."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        penalised = super().__call__(input_ids, scores.clone())
        marker = sorted(set(tiny_tokenizer()("\n\n### Response:\n").input_ids))
        penalised[:, marker] = scores[:, marker]
        return penalised


def test_the_repetition_penalty_counts_what_was_said_and_neither_prompt_nor_padding(base: Path) -> None:
    decoder = GenerationSettings(max_new_tokens=24, repetition_penalty=1.4)
    together = texts(engine_over(base, 5).generate(PROMPTS, decoder))

    def prompt_ignored(length: int) -> LogitsProcessorList:
        return LogitsProcessorList([OfTheAnswer(1.4, prompt_ignore_length=length)])

    assert together == one_at_a_time(base, PROMPTS, 24, prompt_ignored)
    assert together != one_at_a_time(base, PROMPTS, 24), "the penalty changes something"


def test_what_the_prompt_said_and_the_marker_is_not_punished_and_what_the_answer_said_is() -> None:
    """Between two tokens that are nearly alike the penalty decides."""
    engine = scripted({"a": "a", "x": "a", "#": "#"}, runner_up="y")
    prompts = ["aax", "x", "#"]
    one, two = (GenerationSettings(max_new_tokens=tokens, repetition_penalty=1.15) for tokens in (1, 2))
    assert texts(engine.generate(prompts, one)) == ["a", "a", "#"]
    assert texts(engine.generate(prompts, two)) == ["ay", "ay", "##"]


def test_the_penalty_weakens_a_token_that_was_said() -> None:
    logits = torch.tensor([[3.0, 2.9, -1.0]])
    seen = torch.tensor([[True, False, False]])
    chosen = sample_next_tokens(logits, seen, GenerationSettings(repetition_penalty=1.15), [prompt_rng("", 0)])
    assert chosen.tolist() == [1]
    assert sample_next_tokens(logits, None, GREEDY, [prompt_rng("", 0)]).tolist() == [0]


def test_sampling_keeps_to_the_nucleus_and_to_its_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(4000, 1)
    draw = np.random.default_rng(0)
    chosen = sample_next_tokens(logits, None, GenerationSettings(temperature=1.0, top_p=0.8), [draw] * 4000)
    shares = torch.bincount(chosen, minlength=4) / 4000
    assert shares[2:].tolist() == [0, 0]
    assert shares[0].item() == pytest.approx(0.5 / 0.8, abs=0.03)


class Cramped(LlamaForCausalLM):
    """A machine whose memory ends above two rows."""

    rows = 2

    def forward(self, input_ids: torch.Tensor, **settings: Any) -> Any:  # type: ignore[override]
        if len(input_ids) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(input_ids=input_ids, **settings)


def test_where_memory_ends_the_batch_halves_itself_and_the_answers_stay(base: Path) -> None:
    cramped = TransformersEngine(
        Cramped.from_pretrained(base), AutoTokenizer.from_pretrained(base), name="cramped", batch_size=7
    )
    assert texts(cramped.generate(PROMPTS, SHORT)) == texts(engine_over(base).generate(PROMPTS, SHORT))
    assert cramped.batch_size == 1 or cramped.batch_size == 2
    cramped._base.rows = 0
    with pytest.raises(GenerationError, match="there is not enough memory for a single prompt"):
        cramped.generate(PROMPTS, SHORT)


def test_a_prompt_that_is_empty_or_too_long_is_refused_before_anything_is_asked(base: Path) -> None:
    engine = engine_over(base)
    with pytest.raises(GenerationError, match=r"prompt 2 of 2 has 100,000 tokens; .* reads 1 to 8,168 before"):
        engine.generate(["a", "a" * 100_000], SHORT)
    with pytest.raises(GenerationError, match="prompt 1 of 1 has 0 tokens"):
        engine.generate([""], SHORT)


def test_a_model_or_adapter_that_is_not_there_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match=r"nowhere cannot be loaded \(.*\); give a folder, or a repo id"):
        TransformersEngine.load(tmp_path / "nowhere")
    with pytest.raises(GenerationError, match="nowhere cannot be loaded"):
        engine_over(base).add_adapter("x", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_model_that_memory_does_not_last_for_is_told_so(error: Exception) -> None:
    told = r"qeu/x at v1 cannot be loaded: there is not enough memory; .* smaller model"
    with pytest.raises(GenerationError, match=told), _load_errors("qeu/x", "v1"):
        raise error


def test_the_posts_settings_are_a_preset_and_wrong_ones_are_refused() -> None:
    assert (BLOG_POST.max_new_tokens, BLOG_POST.temperature, BLOG_POST.top_p, BLOG_POST.repetition_penalty) == (
        1024,
        0.2,
        0.95,
        1.15,
    )
    assert PRESETS["greedy"].temperature == 0
    with pytest.raises(GenerationError, match=r"top_p is 0; give above 0 and at most 1"):
        GenerationSettings(top_p=0)
