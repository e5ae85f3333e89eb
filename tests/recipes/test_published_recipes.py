"""Each published recipe, two steps long, on a tiny model of its architecture, the way a person runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.training.recipe import load_recipe, recipe_names
from tests.conftest import Run
from tests.recipes.tiny import TINY_CONFIGS, write_tiny

PUBLISHED = sorted(set(recipe_names()) - {"seedling"})

SMOKE = """
import dataclasses
from bonsai.recipes.{name} import RECIPE as PUBLISHED
RECIPE = dataclasses.replace(
    PUBLISHED, base_model="qeu/{base}", base_model_revision="v1.0", needs_gpu=False, max_length=8192, max_eval_samples=2
)
"""


@pytest.mark.slow
def test_every_recipe_trains_on_a_tiny_model_of_its_architecture(
    dataset: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    for number, (base, config) in enumerate(TINY_CONFIGS.items()):
        folder = write_tiny(tmp_path / f"tiny-{number}", config)
        name = f"qeu/tiny-{base.rpartition('/')[2]}"
        publish_files(api, repo_id=name, repo_type="model", files=folder_files(folder), message="tiny", tag="v1.0")
    (tmp_path / "recipes").mkdir()
    for name in PUBLISHED:
        base = f"tiny-{load_recipe(name).base_model.rpartition('/')[2]}"
        (tmp_path / "recipes" / f"smoke_{name}.py").write_text(SMOKE.format(name=name, base=base))
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    names = [f"smoke_{name}" for name in PUBLISHED]
    bonsai("train", *names, "--max-steps", "2", cwd=tmp_path, **far_hub.environment())
    for name in PUBLISHED:
        record = json.loads((tmp_path / "out" / "adapters" / f"smoke_{name}" / "training" / "run.json").read_text())
        assert len(record["losses"]) == 2
        adapted = json.loads((tmp_path / "out" / "adapters" / f"smoke_{name}" / "adapter_config.json").read_text())
        assert set(adapted["target_modules"]) == set(load_recipe(name).target_modules)


def test_the_steps_differ_as_the_posts_tell() -> None:
    category, translation = load_recipe("phi2_category"), load_recipe("phi2_translation")
    reasoning = load_recipe("phi2_reasoning")
    assert "translation" not in category.categories
    assert "zh" not in category.languages
    assert set(translation.categories) - set(category.categories) == {"translation"}
    assert (translation.reasoning, reasoning.reasoning) == ("original", "improved")
    assert translation.categories == reasoning.categories
    assert "question_to_question" in load_recipe("phi2_qtq").categories
