"""Every Python snippet of a card, run as printed from a published repository, gives what the card promises."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from bonsai.builder.prompt import PromptEncoder, parse_response, to_prompt_completion
from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import HubAddress
from bonsai.model_card.card import python_snippets, render
from bonsai.model_card.metadata import QUESTION
from bonsai.recipes.evaluation.metrics import has_loop
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.sft import TrainingSetup
from bonsai.recipes.training.train import save_adapter
from tests.conftest import Run
from tests.model_card.facts import FULL
from tests.recipes.tiny import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(  # PEFT looks on the Hub whether the base's vocabulary has grown
    "ignore:Unable to fetch remote file:UserWarning", "ignore:Could not find a config file:UserWarning"
)
REASONING, RESPONSE = "Yeast makes gas.", "Because of yeast."
QUESTIONS = (
    QUESTION,
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


def taught(tokenizer: Any, folder: Path) -> Any:
    """A tiny model that knows one answer by heart, and nothing if a token of the prompt is another."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(tokenizer)
    )
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    config.bos_token_id = tokenizer.bos_token_id
    model = AutoModelForCausalLM.from_config(config)
    made = to_prompt_completion(QUESTION, "", REASONING, RESPONSE)
    ids = torch.tensor([PromptEncoder(tokenizer).example(made.prompt, made.completion).ids])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05
    model.generation_config.repetition_penalty = 1.3  # as some bases bring it
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def tokenizer_with(before: str | None) -> Any:
    tokenizer = tiny_tokenizer()
    if before:
        tokenizer.add_special_tokens({"bos_token": before})
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{before} $A", special_tokens=[(before, tokenizer.bos_token_id)]
        )
    return tokenizer


def run(snippet: str, hub: HubAddress, home: Path) -> str:
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", snippet],
        cwd=home,
        env={**os.environ, **hub.environment(), "HF_HOME": str(home / "hf"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("before", [None, "<s>"], ids=["no BOS", "BOS"])
def test_every_snippet_of_a_card_keeps_its_promise(before: str | None, far_hub: HubAddress, tmp_path: Path) -> None:
    name = f"qeu/knows-one{'-bos' if before else ''}"
    tokenizer = tokenizer_with(before)
    model = taught(tokenizer, tmp_path / "base")
    tokenizer.chat_template = PromptEncoder(tokenizer).chat_template
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    (tmp_path / "adapter").mkdir()
    prepared = TrainingSetup(trainer=None, model=adapted, tokenizer=tokenizer, base_model_commit="")  # type: ignore[arg-type]
    recipe = dataclasses.replace(RECIPE, base_model_revision="v1.0")
    save_adapter(prepared, f"{name}-base", recipe, tmp_path / "adapter")
    facts = dataclasses.replace(FULL, repo_id=name, base_model=f"{name}-base", languages=("en",), tag="v1.0")
    card = render(facts)
    (tmp_path / "adapter" / "README.md").write_text(card)
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    for repo, folder in ((f"{name}-base", "base"), (name, "adapter")):
        files = folder_files(tmp_path / folder)
        publish_files(api, repo_id=repo, repo_type="model", files=files, message="x", tag="v1.0")
    found = python_snippets(card)
    assert len(found) == 3
    for snippet in found:
        assert run(snippet, far_hub, tmp_path / "place") == f"{REASONING}\n\n### Response:\n{RESPONSE}"


def test_a_batch_says_what_each_of_its_prompts_gets_alone(tmp_path: Path) -> None:
    tokenizer = tokenizer_with("<s>")
    model = taught(tokenizer, tmp_path / "base")
    tokenizer.chat_template = PromptEncoder(tokenizer).chat_template
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    (tmp_path / "adapter").mkdir()
    prepared = TrainingSetup(trainer=None, model=adapted, tokenizer=tokenizer, base_model_commit="")  # type: ignore[arg-type]
    save_adapter(prepared, "qeu/base", RECIPE, tmp_path / "adapter")
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    asked = [[{"role": "user", "content": text}] for text in (QUESTION, "Why?", "盆栽はなぜ小さいのですか。")]

    def answers(turns: Any) -> list[str]:
        prompt = loaded.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        said = adapted.generate(**prompt, max_new_tokens=24, do_sample=False, repetition_penalty=1.0)
        return list(loaded.batch_decode(said[:, prompt["input_ids"].shape[1] :], skip_special_tokens=True))

    assert answers(asked) == [answers([turns])[0] for turns in asked]


@pytest.mark.slow
def test_the_seedlings_snippets_keep_the_form_over_ten_questions(dataset: Path, bonsai: Run, tmp_path: Path) -> None:
    """A seedling of 16 steps, some three minutes on one core; the whole one's figures: benchmarks/card_settings.py."""
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    bonsai("train", "seedling", "--max-steps", "16", cwd=tmp_path, OMP_NUM_THREADS="1")
    card = (tmp_path / "out" / "adapters" / "seedling" / "README.md").read_text(encoding="utf-8")
    base = next((tmp_path / "out" / "cache" / "hub").glob("models--*SmolLM2*/snapshots/*"))
    asking = f'question = [{{"role": "user", "content": "{QUESTION}"}}]'
    peft, pipeline, merge = python_snippets(card)
    place = tmp_path / "place"
    shutil.copytree(tmp_path / "out" / "adapters" / "seedling", place / "adapter")
    config = place / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"revision": "v1.0"', '"revision": null'))
    config.write_text(config.read_text().replace("qeu/SmolLM2-135M-Instruct-Q4_1-dequantized", str(base)))
    for snippet, count in ((peft, 10), (pipeline, 3), (merge, 3)):
        # the names of the published repositories stand for folders here, and the question is asked ten times over
        local = snippet.replace('"qeu/bonsai-seedling"', '"adapter"').replace(', revision="v0.1.0"', "")
        head, tail = local.split(asking)
        body = "".join(f"    {line}\n" for line in tail.strip().splitlines())
        questions = f"for text in {QUESTIONS[:count]!r}:\n    question = [{{'role': 'user', 'content': text}}]\n"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", head + questions + body + "    print('\\0')\n"],
            cwd=place,
            env={**os.environ, "HF_HOME": str(place / "hf"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers = done.stdout.split("\0")[:-1]
        assert len(answers) == count
        held = [answer for answer in answers if all(parse_response(answer))]
        assert len(held) >= 0.8 * count, answers
        assert sum(has_loop(answer, refrain=False) for answer in answers) <= 0.2 * count
