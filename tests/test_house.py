"""The shape of the house: imports point down, every package is in the wheel."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import name_dependencies

ROOT = Path(__file__).parents[1]
FOLDERS = ("builder", "cli", "dataset_card", "hub", "model_card", "recipes")
FLOORS = {
    "bonsai.dataset_card": 0,
    "bonsai.model_card": 0,
    "bonsai.hub": 0,
    "bonsai.builder": 1,
    "bonsai.recipes.training": 2,
    "bonsai.recipes": 3,
    "bonsai.recipes.inference": 3,
    "bonsai.recipes.evaluation": 4,
    "bonsai.recipes.demo": 5,
    "bonsai.cli": 6,
}


def room_of(module: str) -> str:
    return max((name for name in FLOORS if module == name or module.startswith(name + ".")), key=len)


def sources() -> list[tuple[str, Path]]:
    return [
        ("bonsai." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def imported(module: str, path: Path) -> set[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return {name for name in found if name.startswith("bonsai.")}


def test_imports_only_point_down() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in sources()
        for name in imported(module, path)
        if FLOORS[room_of(name)] > FLOORS[room_of(module)]
        or (FLOORS[room_of(name)] == FLOORS[room_of(module)] and room_of(name) != room_of(module))
    ]
    # one exception, stated: the registry lists the folder `recipes` and so names it
    assert wrong == ["bonsai.recipes.training.recipe imports bonsai.recipes"]


def test_every_package_template_and_record_file_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"bonsai/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".j2", ".jsonl", ".typed", ".gz", ".css", ".js"} and path.is_file()
    }
    assert wanted - inside == set()


def test_the_listed_packages_are_those_on_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    on_disk = {
        "bonsai." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == on_disk


@pytest.mark.slow
def test_the_wheel_works_in_a_new_environment(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "new")], check=True)
    python = tmp_path / "new" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    site = next((tmp_path / "new" / "lib").glob("python*/site-packages"))
    name_dependencies(site)
    done = subprocess.run(
        [
            str(python),
            "-c",
            "import bonsai.builder.records as r, bonsai.recipes.training.recipe as g, bonsai.model_card.card\n"
            "print(r.__file__, len(r.read_groups(r.default_records())), g.recipe_names())",
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site) in done.stdout
    assert "seedling" in done.stdout
