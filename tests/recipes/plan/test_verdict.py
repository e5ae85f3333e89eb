"""Refusals: in words, with a setting that then really fits."""

from __future__ import annotations

import re
from dataclasses import replace

import datasets
import pytest

from bonsai.recipes.phi2_category import RECIPE
from bonsai.recipes.training.data import TrainingRows
from bonsai.recipes.training.plan.memory import GIB
from bonsai.recipes.training.plan.records import lengths
from bonsai.recipes.training.plan.shapes import PHI_2, PHI_3_MINI, Shape
from bonsai.recipes.training.plan.verdict import (
    Settings,
    as_typed,
    nearest_that_fits,
    needed_gib,
    refuse_if_too_big,
    told,
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
    refuse_if_too_big("phi2_category", RECIPE, rows, int(14.56 * GIB))


def test_the_refusal_names_both_sizes_and_a_change_that_then_fits(rows: TrainingRows) -> None:
    big = replace(RECIPE, max_length=8192, per_device_train_batch_size=2)
    with pytest.raises(
        RecipeError, match=r"needs \d+\.\d GiB of GPU memory and this GPU has 14\.6; the nearest"
    ) as told_:
        refuse_if_too_big("phi2_category", big, rows, int(14.56 * GIB))
    typed = dict(re.findall(r"(\w+)=(\d+)", str(told_.value)))
    assert set(typed) == {"per_device_train_batch_size", "gradient_accumulation_steps", "max_length"}
    changed = replace(big, **{name: int(value) for name, value in typed.items()})
    refuse_if_too_big("phi2_category", changed, rows, int(14.56 * GIB))
    assert changed.gradient_accumulation_steps == 2 * big.gradient_accumulation_steps  # the same records a step


def test_a_step_longer_than_the_nearest_does_not_fit(rows: TrainingRows) -> None:
    records, settings = lengths(rows, "gpt2"), Settings.of(replace(RECIPE, max_length=8192))
    found = nearest_that_fits(PHI_2, settings, records, 14.5)
    assert found is not None
    longer = replace(found[0], max_length=found[0].max_length + 128)
    assert found[1] <= 14.5 < needed_gib(PHI_2, longer, longer.rows(records))


def test_where_shorter_rows_do_not_help_layers_are_made_again(rows: TrainingRows) -> None:
    records = lengths(rows, "gpt2")
    settings = Settings.of(
        replace(RECIPE, max_length=max(record.whole for record in records), target_modules="all-linear")
    )
    found = nearest_that_fits(PHI_3_MINI, settings, records, 3.8)
    assert found is not None
    assert as_typed(settings, found[0]) == "gradient_checkpointing=True"


def test_no_setting_fits_a_base_that_is_larger_than_the_gpu(rows: TrainingRows) -> None:
    giant = Shape(**{**vars(PHI_3_MINI), "num_hidden_layers": 320})
    settings = Settings.of(replace(RECIPE, target_modules="all-linear"))
    refusal = told("giant", "some/giant", giant, settings, lengths(rows, "gpt2"), "a 16 GB T4", 15.0)
    assert refusal is not None
    assert refusal.endswith("take a larger GPU or a smaller base")


def test_a_base_of_unknown_sizes_is_let_through(rows: TrainingRows) -> None:
    refuse_if_too_big("mine", replace(RECIPE, base_model="somebody/else"), rows, GIB)


def test_phi_3_small_is_refused_on_any_gpu_for_what_stands_in_the_way(rows: TrainingRows) -> None:
    small = replace(RECIPE, base_model="microsoft/Phi-3-small-8k-instruct")
    with pytest.raises(RecipeError, match=r"trust_remote_code=True.*Triton.*FlashAttention-2"):
        refuse_if_too_big("phi3_small", small, rows, 80 * GIB)


def test_records_are_counted_with_their_end_mark(rows: TrainingRows) -> None:
    first = lengths(rows, "gpt2")[0]
    assert (first.prompt, first.completion) == (13, 13)
