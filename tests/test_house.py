"""The shape of the house: imports point down, every package is in the wheel."""

from __future__ import annotations

import ast
import itertools
import os
import re
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


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {module: imported_at_load(module, path) for module, path in sources()}
    order: list[str] = []
    waiting: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join([*way[way.index(module) :], module])
        if module not in waiting:
            for name in sorted(graph[module] & graph.keys()):
                visit(name, (*way, module))
            waiting.add(module)
            order.append(module)

    for module in graph:
        visit(module, ())
    assert len(order) == len(graph)


def imported_at_load(module: str, path: Path) -> set[str]:
    """The modules that are imported when this one is: not inside functions, nor for type checkers."""
    found = set()
    waiting: list[ast.stmt] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return {name for name in found if name.startswith("bonsai.")} - {module}


def test_no_class_name_is_used_twice() -> None:
    places: dict[str, list[str]] = {}
    for module, path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_a_file_is_one_concept_long() -> None:
    lines = {module: path.read_text(encoding="utf-8").count("\n") for module, path in sources()}
    assert {module: number for module, number in lines.items() if number > 550} == {}
    recipes = {module for module, path in sources() if path.parent.name == "recipes"}
    packages = {module for module, path in sources() if path.name == "__init__.py"}
    entry_points = {"bonsai.builder.verify", "bonsai.cli.main"}  # run with -m
    few = {module for module, number in lines.items() if number < 40}
    assert few - recipes - packages - entry_points == set()


def chains() -> list[list[str]]:
    """The ways that CONTRIBUTING leads a newcomer, as files in the order in which each imports the next."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [re.findall(r"`([\w/]+\.py)`", way) for way in re.findall(r"`[\w/]+\.py`(?: → `[\w/]+\.py`)+", text)]


def test_the_ways_in_contributing_are_those_of_the_code() -> None:
    assert len(chains()) >= 10
    for chain in chains():
        for name, following in itertools.pairwise(chain):
            module = "bonsai." + name.removesuffix(".py").replace("/", ".")
            wanted = "bonsai." + following.removesuffix(".py").replace("/", ".")
            found = names_imported(ROOT / name)
            assert wanted in found, f"{module} does not import {wanted}"


def names_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_every_folder_in_contributing_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("### Where things are") : text.index("**The way of one record**")]
    named = re.findall(r"`([\w/]+)/`", table)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_dir() and not list(ROOT.rglob(f"{name}/"))] == []


def test_every_package_template_and_record_file_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"bonsai/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".j2", ".jsonl", ".typed", ".gz", ".css", ".js", ".toml", ".json", ".txt"}
        and path.is_file()
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
            "print(r.__file__, len(r.read_groups(r.default_records_dir())), g.recipe_names())",
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site) in done.stdout
    assert "seedling" in done.stdout


def ends_lines_as_the_system_does(call: ast.Call) -> bool:
    """Whether a call opens a text file for writing, or writes one, and leaves the ends of lines to the system."""
    if any(keyword.arg == "newline" for keyword in call.keywords):
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"):
        return name == "write_text"
    literals = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [node.value for node in literals if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return any(re.fullmatch(r"[rwaxt+]*[wax+][rwaxt+]*", mode) for mode in modes)


def test_text_files_are_the_same_bytes_on_windows() -> None:
    """`atomic_write_text` is the way; a file that grows names its newline, and floor 0 writes bytes."""
    places = [*(path for _, path in sources()), *(ROOT / "locks").glob("*.py"), ROOT / "noxfile.py"]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in places
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ends_lines_as_the_system_does(node)
    ]
    # nothing but the null device is opened so: it keeps no bytes
    assert [place for place in found if "os.devnull" not in place] == []


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("path.write_text('a')", True),
        ("path.write_text('a', newline='\\n')", False),
        ("open(name, 'w')", True),
        ("open(name, mode='at', encoding='utf-8')", True),
        ("path.open('r+')", True),
        ("path.open('x', newline='')", False),
        ("open(name, 'wb')", False),
        ("path.open('xb')", False),
        ("path.open()", False),
        ("os.fdopen(number, 'w')", True),
        ("os.open(name, os.O_WRONLY)", False),
        ("tempfile.NamedTemporaryFile('w', suffix='.txt')", True),
        ("tarfile.open(name, 'r:gz')", False),
    ],
)
def test_the_rule_for_text_files_knows_their_forms(code: str, caught: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert ends_lines_as_the_system_does(call) is caught


def test_the_command_starts_without_heavy_libraries() -> None:
    """The Hub's clients read their settings when they are imported, which is after a command has chosen its Hub."""
    heavy = ("huggingface_hub", "datasets", "torch", "transformers", "pyarrow", "starlette", "httpx2")
    code = f"import sys, bonsai.cli.main; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
