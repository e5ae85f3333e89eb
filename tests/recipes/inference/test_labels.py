from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest


def flat(table: dict[str, object], prefix: str = "") -> dict[str, str]:
    """Every text of a table by its dotted key."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, list):
            value = {str(number): each for number, each in enumerate(value)}
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            assert isinstance(value, str), f"{prefix}{key} is no text"
            found[f"{prefix}{key}"] = value
    return found


@pytest.fixture(scope="module")
def texts() -> dict[str, dict[str, str]]:
    folder = files("bonsai.recipes.inference")
    return {name: flat(tomllib.loads((folder / f"labels.{name}.toml").read_text("utf-8"))) for name in ("ja", "en")}


def test_labels_have_the_same_keys_in_both_languages(texts: dict[str, dict[str, str]]) -> None:
    assert list(texts["ja"]) == list(texts["en"])
    assert all(texts["ja"].values())
    assert all(texts["en"].values())


def test_labels_take_the_same_number_of_values_in_both_languages(texts: dict[str, dict[str, str]]) -> None:
    for key, japanese in texts["ja"].items():
        holes = [len(re.findall(r"\{\d?\}", text)) for text in (japanese, texts["en"][key])]
        assert holes[0] == holes[1], key


def test_every_label_that_the_code_names_is_in_the_table(texts: dict[str, dict[str, str]]) -> None:
    recipes = Path(__file__).parents[3] / "recipes"
    sources = {
        "summary": ["inference/summary.py", "inference/tree_svg.py", "inference/page.html.j2"],
        "demo": [f"demo/{name}" for name in ("app.py", "background.py", "components.py", "tabs.py", "parts.html.j2")],
    }
    said = re.compile(r'(?:\b(?:labels|said)\.|"(?:label|value|placeholder|info|choices)": ")(\w+)')
    for table, paths in sources.items():
        used = {name for path in paths for name in said.findall((recipes / path).read_text("utf-8"))}
        known = {key.split(".")[1] for key in texts["ja"] if key.startswith(table)}
        assert used - known - {"html", "perspective", "said"} == set(), table
