from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from bonsai.builder.errors import ReleaseError
from bonsai.dataset_card.card import fenced, size_category
from bonsai.model_card.card import render
from bonsai.model_card.linter import lint_card
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.data import Lengths, count_by_category, sample_records, token_lengths_by_category
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.release import adapter_facts, check_card, check_evaluated_weights, price
from bonsai.recipes.training.run_record import LossPoint, RunRecord, describe_machine, git_commit
from tests.conftest import ROOT
from tests.model_card.facts import FULL
from tests.recipes.tiny import tiny_tokenizer


def record(recipe: Recipe) -> RunRecord:
    losses = [
        LossPoint(step=n, loss=4 - n / 20, learning_rate=1e-3, grad_norm=1.0, tokens=300 * n) for n in range(1, 41)
    ]
    return RunRecord(
        recipe_name="seedling",
        recipe=asdict(recipe),
        adapter_repo="me/bonsai-seedling",
        base_model="me/base",
        base_model_commit="b" * 40,
        dataset_repo="me/bonsai",
        dataset_content_hash="c" * 64,
        train_rows=100,
        validation_rows=10,
        losses=losses,
        validation_loss_before=3.5,
        validation_loss_after=2.25,
        seconds=100.0,
        peak_memory_gib=2.0,
        device="CPU",
        compute_dtype="float32",
        trainable_parameters=1234567,
        versions={"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
        constraints_sha256=None,
    )


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"target_modules": ["v_proj", "q_proj"]}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_the_model_card_states_the_run(adapter: Path) -> None:
    facts = adapter_facts(RECIPE, record(RECIPE), "d" * 40, adapter)
    card = render(facts)
    assert lint_card(card, facts) == []
    for told in (
        "me/bonsai-seedling",
        "b" * 40,
        "d" * 40,
        "c" * 64,
        "3.500",
        "2.250",
        "1,234,567",
        "120 tokens/s",
        "v0.1.0",
        "| adapted layers | q_proj, v_proj |",
        f"| trainer | `learning_rate` | {RECIPE.learning_rate} |",
        "| quantisation | `bnb_4bit_quant_type` | nf4 |",
        "export BONSAI_NAMESPACE=me && pip install nox && nox -s build && nox -s train -- seedling",
    ):
        assert told in card, told
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == "me/base"
    assert front["base_model_relation"] == "adapter"
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["me/bonsai"]


def test_every_setting_of_the_recipe_is_on_the_card(adapter: Path) -> None:
    card = render(adapter_facts(RECIPE, record(RECIPE), "d" * 40, adapter))
    elsewhere = {"repo_id", "base_model_package", "base_model_license", "needs_gpu"}
    rows = re.findall(r"^\| \w+ \| `(\w+)` \|", card, re.MULTILINE)
    told = {name for name in asdict(RECIPE) if name in rows or str(getattr(RECIPE, name)) in card}
    lists = {"categories", "languages"}
    assert set(asdict(RECIPE)) - told - elsewhere - lists <= {"base_model", "dataset"}  # in the namespace in force


def test_a_shortened_run_is_done_again_as_short(adapter: Path) -> None:
    short = dataclasses.replace(record(RECIPE), max_steps=2)
    assert adapter_facts(RECIPE, short, "d" * 40, adapter).command.endswith("nox -s train -- seedling --max-steps 2")


def test_the_gguf_adapter_is_told_of_where_it_lies_in_the_folder(adapter: Path) -> None:
    (adapter / "bonsai-seedling-f16.gguf").write_bytes(b"GGUF")
    assert adapter_facts(RECIPE, record(RECIPE), "d" * 40, adapter).gguf == "bonsai-seedling-f16.gguf"


def test_only_a_device_with_a_known_price_has_a_cost() -> None:
    t4 = price("Tesla T4")
    assert t4 is not None
    assert t4.usd_per_hour > 0
    assert "t4" in t4.source
    assert price("CPU") is None


def test_rows_are_counted_by_category_and_language() -> None:
    rows = [("open_qa", "ja"), ("open_qa", "en"), ("open_qa", "en"), ("translation", "en"), ("translation", "ja")]
    assert count_by_category(rows) == {"open_qa": {"ja": 1, "en": 2}, "translation": {"en": 1, "ja": 1}}


def test_an_evaluation_of_other_weights_is_refused(adapter: Path) -> None:
    assert FULL.evaluation is not None
    with pytest.raises(ReleaseError, match="of other weights than those in the folder; run `bonsai ev"):
        check_evaluated_weights(FULL.evaluation, FULL, adapter)


def test_the_results_are_pinned_to_the_datasets_commit(adapter: Path) -> None:
    assert FULL.evaluation is not None
    ours = dataclasses.replace(FULL.evaluation, adapter_sha256=hashlib.sha256(b"weights").hexdigest())
    facts = dataclasses.replace(FULL, dataset_commit="9" * 40)
    (result,) = check_evaluated_weights(ours, facts, adapter).results
    assert result.dataset_revision == "9" * 40


def test_a_card_with_complaints_is_not_published_and_all_are_told() -> None:
    spoilt = render(FULL).replace("1,234,567", "1").replace("## Licence", "## Terms")
    with pytest.raises(
        ReleaseError, match=r"(?s)cannot be published.*README\.md:1: .*Licence.*README\.md:\d+: .*1,234"
    ):
        check_card(spoilt, FULL)


@pytest.mark.parametrize(("rows", "name"), [(1, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**7, "n>1M")])
def test_sizes_are_named_as_the_hub_names_them(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_a_record_with_a_code_fence_cannot_break_out_of_its_block() -> None:
    assert fenced("```\nx").startswith("````text\n")


def test_rows_are_measured_and_shown_by_category() -> None:
    rows = [
        {"id": "open_qa-0001-en", "prompt": "why ", "completion": "because"},
        {"id": "open_qa-0002-ja", "prompt": "how ", "completion": "so and so"},
        {"id": "closed_qa-0001-en", "prompt": "which ", "completion": "this"},
    ]
    assert token_lengths_by_category(rows, tiny_tokenizer()) == {
        "open_qa": Lengths(12, 13.0, 14),
        "closed_qa": Lengths(11, 11.0, 11),
    }
    assert sample_records(rows) == ["why because", "which this"]


def test_the_commit_of_the_source_is_the_one_git_names() -> None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert git_commit() == done.stdout.strip()
    assert re.search(r"\d+ cores, \d+ GiB of memory$", describe_machine())
