"""Refusals: in words, with a setting that then really fits."""

from __future__ import annotations

import re
from dataclasses import replace

import datasets
import pytest

from bonsai.recipes.phi2_category import RECIPE
from bonsai.recipes.training.data import TrainingRows
from bonsai.recipes.training.plan.memory import GIB, PlanSettings
from bonsai.recipes.training.plan.model_shapes import SHAPES, ModelShape
from bonsai.recipes.training.plan.plan import (
    as_recipe_overrides,
    check_fits_gpu,
    explain_misfit,
    needed_gib,
    record_lengths,
    suggest_fitting_settings,
)
from bonsai.recipes.training.recipe import RecipeError

TEXT = "The river is long and its water is cold in spring. "


@pytest.fixture(scope="module")
def rows() -> TrainingRows:
    data = datasets.Dataset.from_list(
        [{"id": f"row-{n}", "prompt": TEXT * (1 + n % 5), "completion": TEXT * (1 + n % 11)} for n in range(400)]
    )
    return TrainingRows(train=data, validation=data.select(range(2)), content_hash="0" * 64)


def test_a_recipe_that_fits_is_not_refused(rows: TrainingRows) -> None:
    check_fits_gpu("phi2_category", RECIPE, rows, int(14.56 * GIB))


def test_the_refusal_names_both_sizes_and_a_change_that_then_fits(rows: TrainingRows) -> None:
    big = replace(RECIPE, max_length=8192, per_device_train_batch_size=2)
    with pytest.raises(
        RecipeError, match=r"needs \d+\.\d GiB of GPU memory and this GPU has 14\.6; the nearest"
    ) as told_:
        check_fits_gpu("phi2_category", big, rows, int(14.56 * GIB))
    typed = dict(re.findall(r"(\w+)=(\d+)", str(told_.value)))
    assert set(typed) == {"per_device_train_batch_size", "gradient_accumulation_steps", "max_length"}
    changed = replace(big, **{name: int(value) for name, value in typed.items()})
    check_fits_gpu("phi2_category", changed, rows, int(14.56 * GIB))
    assert changed.gradient_accumulation_steps == 2 * big.gradient_accumulation_steps  # the same records a step


def test_a_step_longer_than_the_nearest_does_not_fit(rows: TrainingRows) -> None:
    records, settings = record_lengths(rows, "gpt2"), PlanSettings.of(replace(RECIPE, max_length=8192))
    found = suggest_fitting_settings(SHAPES["phi2"], settings, records, 14.5)
    assert found is not None
    longer = replace(found[0], max_length=found[0].max_length + 128)
    assert found[1] <= 14.5 < needed_gib(SHAPES["phi2"], longer, longer.rows(records))


def test_where_shorter_rows_do_not_help_layers_are_made_again(rows: TrainingRows) -> None:
    records = record_lengths(rows, "gpt2")
    settings = PlanSettings.of(
        replace(RECIPE, max_length=max(record.whole for record in records), target_modules="all-linear")
    )
    found = suggest_fitting_settings(SHAPES["phi3"], settings, records, 3.8)
    assert found is not None
    assert as_recipe_overrides(settings, found[0]) == "gradient_checkpointing=True"


def test_no_setting_fits_a_base_that_is_larger_than_the_gpu(rows: TrainingRows) -> None:
    giant = ModelShape(**{**vars(SHAPES["phi3"]), "num_hidden_layers": 320})
    settings = PlanSettings.of(replace(RECIPE, target_modules="all-linear"))
    refusal = explain_misfit("giant", "some/giant", giant, settings, record_lengths(rows, "gpt2"), "a 16 GB T4", 15.0)
    assert refusal is not None
    assert refusal.endswith("take a larger GPU or a smaller base")


def test_a_base_of_unknown_sizes_is_let_through(rows: TrainingRows) -> None:
    check_fits_gpu("mine", replace(RECIPE, base_model="somebody/else"), rows, GIB)


def test_phi_3_small_is_refused_on_any_gpu_for_what_stands_in_the_way(rows: TrainingRows) -> None:
    small = replace(RECIPE, base_model="microsoft/Phi-3-small-8k-instruct")
    with pytest.raises(RecipeError, match=r"trust_remote_code=True.*Triton.*FlashAttention-2"):
        check_fits_gpu("phi3_small", small, rows, 80 * GIB)


def test_records_are_counted_with_their_end_mark(rows: TrainingRows) -> None:
    first = record_lengths(rows, "gpt2")[0]
    assert (first.prompt, first.completion) == (13, 13)
