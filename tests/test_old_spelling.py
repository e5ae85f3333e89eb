"""What a user wrote for version 0.1.0, with `licence`, is still read."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bonsai.builder.importing.import_file import import_file
from bonsai.builder.records import read_groups
from bonsai.builder.rows import group_to_rows
from bonsai.cli.main import app
from bonsai.recipes.training.recipe import RecipeError, load_recipe
from tests.builder.test_records import faults, group, written

RECIPE = """
from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/mine", base_model="qeu/base", base_model_revision="v1.0", base_model_{spelling}={value},
    dataset_revision="v0.1.0",
)
"""
ROWS = "instruction,output,category,{column}\nWhich lake is the largest in Japan?,Lake Biwa.,open_qa,CC0\n"


def test_a_record_may_say_either(tmp_path: Path) -> None:
    old = group()
    old["licence"] = old.pop("license", "MIT")
    new = {**{name: value for name, value in old.items() if name != "licence"}, "id": "open_qa-0002", "license": "MIT"}
    for located in read_groups(written(tmp_path, old, new)):
        assert {row["license"] for row in group_to_rows(located.group)} == {"MIT"}
    assert any("license" in fault for fault in faults(written(tmp_path, {**new, "license": ""})))
    del new["license"]
    assert any("'license' is missing" in fault for fault in faults(written(tmp_path, new)))


@pytest.mark.parametrize("spelling", ["licence", "license"])
def test_a_recipe_may_say_either(spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / f"mine_{spelling}.py"
    path.write_text(RECIPE.format(spelling=spelling, value='"mit"'), encoding="utf-8")
    assert load_recipe(path.stem).base_model_license == "mit"
    path.write_text(RECIPE.format(spelling=spelling, value="7"), encoding="utf-8")
    with pytest.raises(RecipeError, match="base_model_license"):
        load_recipe(path.stem)


@pytest.mark.parametrize("column", ["licence", "license", "License"])
def test_a_file_to_import_may_say_either(column: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS.format(column=column), encoding="utf-8")
    import_file(path, tmp_path / "out", source="notes", license="MIT", generator="a person")
    drafts = "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "out").rglob("*.jsonl"))
    assert "CC0" in drafts or '"license": "MIT"' in drafts
    assert '"licence": "MIT"' not in drafts


@pytest.mark.parametrize("flag", ["--licence", "--license"])
def test_the_command_takes_either_flag(flag: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS.format(column="note"), encoding="utf-8")
    done = CliRunner().invoke(app, ["import", str(path), "--source", "notes", flag, "MIT", "--dry-run"])
    assert done.exit_code == 0, done.output
