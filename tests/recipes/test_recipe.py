from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.prompt import CHAT_TEMPLATE, to_messages, to_prompt_completion
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.recipe import OPTIMIZERS, SCHEDULERS, RecipeError, base_folder, load_recipe, recipe_names


@pytest.mark.parametrize("revision", ["main", "v1-latest", "ef38235", ""])
def test_a_recipe_refuses_a_moving_revision(revision: str) -> None:
    with pytest.raises(RecipeError, match="which moves; pin a commit id"):
        dataclasses.replace(RECIPE, base_model_revision=revision)


def test_a_recipe_refuses_a_rank_that_vllm_refuses() -> None:
    with pytest.raises(RecipeError, match="r is 32; write 1 to 16"):
        dataclasses.replace(RECIPE, r=32)


def test_a_recipe_refuses_unknown_categories_and_languages() -> None:
    with pytest.raises(RecipeError, match="openqa"):
        dataclasses.replace(RECIPE, categories=("openqa",))
    with pytest.raises(RecipeError, match="choose from ja, en, zh"):
        dataclasses.replace(RECIPE, languages=())


def test_every_module_in_the_folder_is_a_recipe() -> None:
    assert "seedling" in recipe_names()
    for name in recipe_names():
        assert load_recipe(name).repo_id.startswith("qeu/bonsai-")


def test_a_misspelt_recipe_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match="did you mean seedling"):
        load_recipe("seedlin")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("lr_scheduler_type", "cosin", "lr_scheduler_type is 'cosin'; did you mean cosine"),
        ("lr_scheduler_type", "warmup_stable_decay", "choose from linear, cosine"),
        ("optim", "adamw_torhc", "optim is 'adamw_torhc'; did you mean adamw_torch"),
        ("optim", "galore_adamw", "choose from adamw_torch"),
        ("learning_rate", "2e-4", r"learning_rate is '2e-4' \(str\); write a number"),
        ("learning_rate", 0, "learning_rate is 0; write a number above 0"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("max_steps", 0, "max_steps is 0; write 1 or more, or -1"),
        ("r", True, r"r is True \(bool\); write a whole number"),
        ("packing", 1, r"packing is 1 \(int\); write True or False"),
        ("gradient_accumulation_steps", 0, "gradient_accumulation_steps is 0; write 1 or more"),
        ("lora_dropout", 1.0, "lora_dropout is 1.0; write a share below 1"),
        ("max_length", -5, "max_length is -5; write 2 or more"),
        ("categories", "open_qa", r"""categories is 'open_qa' \(str\); write \("open_qa",\)"""),
        ("target_modules", "q_proj", r"""target_modules is 'q_proj' \(str\); write \("q_proj",\)"""),
        ("target_modules", (), "target_modules is empty"),
        ("bnb_4bit_quant_type", "fp4", r"bnb_4bit_quant_type is 'fp4' \(str\); write 'nf4'"),
        ("languages", ("jp",), r"languages has \['jp'\]; .*choose from ja, en, zh"),
    ],
)
def test_a_recipe_refuses_what_no_run_can_use(field: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        dataclasses.replace(RECIPE, **{field: value})


def test_a_recipe_takes_lists_for_tuples() -> None:
    listed: Any = ["q_proj", "v_proj"]
    assert dataclasses.replace(RECIPE, target_modules=listed).target_modules == ("q_proj", "v_proj")


def test_recipe_schedulers_and_optimizers_match_transformers() -> None:
    import torch
    from transformers import Trainer, TrainingArguments, get_scheduler
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    layer = torch.nn.Linear(2, 2)
    made = []
    for name in SchedulerType:
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        try:
            get_scheduler(name, optimizer, num_warmup_steps=2, num_training_steps=10)
            made.append(name.value)
        except (ValueError, TypeError):  # it needs lr_scheduler_kwargs
            continue
    assert set(SCHEDULERS) == set(made) - {"reduce_lr_on_plateau", "greedy"}  # those follow metrics, which come seldom
    assert set(OPTIMIZERS) <= {name.value for name in OptimizerNames}
    for name in OPTIMIZERS:
        chosen, settings = Trainer.get_optimizer_cls_and_kwargs(
            TrainingArguments(output_dir="unused", optim=name, use_cpu=True), layer
        )
        assert chosen([{"params": list(layer.parameters())}], **settings).param_groups


HEAD = "from bonsai.recipes.training.recipe import Recipe\n\nRECIPE = Recipe(\n"
FIELDS = (
    '    repo_id="qeu/bonsai-twig", base_model="qeu/tiny-llama", base_model_revision="v1.0",\n'
    '    base_model_license="mit", dataset_revision="v0.1.0",\n'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + FIELDS + "    learing_rate=2e-4,\n)\n", r"twig.py:6: .*'learing_rate'; did you mean learning_rate\?"),
        (HEAD + FIELDS + "    max_steps=3,\n    optim='sdg',\n)\n", r"twig.py:7: .*optim is 'sdg'; did you mean sgd"),
        (HEAD + FIELDS + "    r=64,\n)\n", "twig.py:6: qeu/bonsai-twig: r is 64; write 1 to 16"),
        (HEAD + "    r=8,\n)\n", "twig.py:3: the Recipe lacks 'repo_id', 'base_model'"),
        ("from bonsai.recipes.training.recipee import Recipe\nRECIPE = Recipe()\n", "twig.py:1: No module named"),
        ("from bonsai.recipes.training.recipe import Recipee\n# RECIPE\n", "twig.py:1: cannot import name 'Recipee'"),
        (HEAD + FIELDS + "    r=8\n    seed=3,\n)\n", "twig.py:6: not Python: "),
        (HEAD + FIELDS + "    r=rank,\n)\n", "twig.py:6: NameError: name 'rank' is not defined"),
        ("# no RECIPE yet\n", r"twig.py: it defines no RECIPE; write RECIPE = Recipe\("),
        ("RECIPE = {'r': 8}\n", "twig.py: RECIPE is a dict; write"),
    ],
)
def test_a_fault_in_a_recipes_module_is_told_with_file_and_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "twig.py").write_text(text)
    with pytest.raises(RecipeError, match=message) as told:
        load_recipe("twig")
    assert len(str(told.value).splitlines()) == 1


def test_load_recipe_finds_recipes_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "sapling.py").write_text(HEAD + FIELDS + "    r=3,\n)\n")
    (tmp_path / "recipes" / "soup.py").write_text("print('two carrots')\n")
    assert "sapling" in recipe_names()
    assert "soup" not in recipe_names()
    assert load_recipe("sapling").r == 3
    with pytest.raises(RecipeError, match=r"did you mean sapling\?; a recipe is a file NAME.py in .* or recipes"):
        load_recipe("saplin")


def test_load_recipe_refuses_two_different_files_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.find_spec("bonsai.recipes.seedling")
    assert spec is not None
    original = Path(str(spec.origin)).read_text(encoding="utf-8")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "seedling.py").write_text(original, encoding="utf-8")
    assert load_recipe("seedling") == RECIPE
    (tmp_path / "recipes" / "seedling.py").write_text(original + "\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"two recipes are called 'seedling', .*; rename one"):
        load_recipe("seedling")


def test_recipes_are_found_and_judged_without_torch() -> None:
    code = (
        "import sys\nfrom bonsai.recipes.training.recipe import load_recipe, recipe_names\n"
        "print(len([load_recipe(name) for name in recipe_names()]), *{'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip().isdigit()


@pytest.mark.parametrize(
    ("base_model", "is_folder"),
    [("./my-base", True), ("../my-base", True), ("~/my-base", True), ("/srv/base", True), ("my-base", True),
     ("microsoft/phi-2", False), ("gpt2", False), ("models/phi-2", False)],
)  # fmt: skip
def test_a_base_is_a_folder_where_it_is_written_as_one(
    base_model: str, is_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-base").mkdir()
    (tmp_path / "models" / "phi-2").mkdir(parents=True)
    assert (base_folder(base_model) is not None) == is_folder
    changed = {"base_model": base_model, "base_model_revision": ""}
    if is_folder:
        assert dataclasses.replace(RECIPE, **changed).base_model == base_model
    else:
        with pytest.raises(RecipeError, match="base_model_revision is '', which moves"):
            dataclasses.replace(RECIPE, **changed)


@pytest.mark.parametrize("reasoning", ["By length.", ""])
@pytest.mark.parametrize("input_text", ["a passage", ""])
def test_the_chat_template_writes_what_training_saw(reasoning: str, input_text: str) -> None:
    from tests.recipes.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    turns = to_messages("川は？", input_text, reasoning, "信濃川です。")
    made = to_prompt_completion("川は？", input_text, reasoning, "信濃川です。")
    assert tokenizer.apply_chat_template(turns, tokenize=False) == made.prompt + made.completion + "<|end|>"


def test_the_generation_prompt_ends_with_the_reasoning_marker() -> None:
    from tests.recipes.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    asked = [{"role": "system", "content": "あなたは良心的な科学者です。"}, {"role": "user", "content": "川は？"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text == "あなたは良心的な科学者です。\n\n### Instruction:\n川は？\n\n### Reasoning:\n"
