from __future__ import annotations

import ast

import pytest
import yaml

from bonsai.dataset_card.card import fenced, size_category
from bonsai.model_card.card import LossRow, snippet, thinned
from bonsai.model_card.snippets import python_snippets
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.record import LossPoint, RunRecord
from bonsai.recipes.training.release import card_facts


def record(recipe: Recipe) -> RunRecord:
    from dataclasses import asdict

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
        versions={"torch": "2.13.0"},
        constraints_sha256=None,
    )


@pytest.fixture
def card() -> str:
    from bonsai.model_card.card import render

    return render(card_facts(RECIPE, record(RECIPE), "d" * 40))


def test_the_model_card_states_the_run(card: str) -> None:
    for told in ("me/bonsai-seedling", "b" * 40, "d" * 40, "3.500", "2.250", "1,234,567", "120 tokens/s", "v0.1.0"):
        assert told in card, told
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == "me/base"
    assert front["base_model_relation"] == "adapter"
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["me/bonsai"]


def test_the_cards_snippet_is_the_one_that_publishing_runs(card: str) -> None:
    (found,) = python_snippets(card)
    assert found.strip() == snippet(card_facts(RECIPE, record(RECIPE), "d" * 40))
    ast.parse(found)


def test_the_loss_table_keeps_the_first_and_the_last_step() -> None:
    rows = [LossRow(n, 1.0, 1e-3, n) for n in range(1, 61)]
    shown = thinned(rows)
    assert (shown[0].step, shown[-1].step, len(shown)) == (1, 60, 12)
    assert thinned(rows[:5]) == rows[:5]


@pytest.mark.parametrize(("rows", "name"), [(1, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**7, "n>1M")])
def test_sizes_are_named_as_the_hub_names_them(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_a_record_with_a_code_fence_cannot_break_out_of_its_block() -> None:
    assert fenced("```\nx").startswith("````text\n")
